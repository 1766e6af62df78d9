"""gRPC of a bundle's worker in this process, on an event loop of its own in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc
import uvloop
from serving.workers import worker_at

from headgate.serving.grpc.messages import message
from headgate.serving.grpc.server import Server

T = TypeVar("T")
SERVICE = "inference.GRPCInferenceService"


class Grpc:
    """A server, and whom to ask it with."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.server: Server
        self.loop: asyncio.AbstractEventLoop
        self.address = ""
        self._ready = threading.Event()
        self._over: asyncio.Event
        self._thread = threading.Thread(target=self._run)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def run(self, work: Callable[[], T]) -> T:
        """Do it on the server's event loop."""

        async def do() -> T:
            return work()

        return self.wait(do())

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self.server = Server(self.worker)
        listener = await self.loop.create_server(self.server.protocol, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        await self.worker.start()
        self._ready.set()
        await self._over.wait()
        listener.close()
        self.server.close()
        await self.worker.stop()


@contextlib.contextmanager
def grpc_server(root: Path, **options: Any) -> Iterator[Grpc]:
    """The bundle at ``root``, served; ``options`` are those of ``worker_at``."""
    with worker_at(root, **options) as worker:
        served = Grpc(worker)
        served.start()
        try:
            yield served
        finally:
            served.stop()


@contextlib.contextmanager
def channel(address: str, **options: Any) -> Iterator[grpc.Channel]:
    """A connection that no other channel of this process shares."""
    settings = {"grpc.use_local_subchannel_pool": 1, **options}
    with grpc.insecure_channel(address, options=list(settings.items())) as opened:
        yield opened


def unary(opened: grpc.Channel, method: str, service: str = SERVICE) -> Any:
    """A method by its name, messages of ours in and out."""
    package = service.rpartition(".")[0]
    asked = method if service == SERVICE else "HealthCheck"
    told = message(f"{package}.{asked}Response")
    return opened.unary_unary(
        f"/{service}/{method}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=told.FromString,
    )


def request(model: str = "late-flights", **fields: Any) -> Any:
    """A ModelInferRequest."""
    return message("inference.ModelInferRequest")(model_name=model, **fields)


def row(**changes: Any) -> Any:
    """One good row for the table, typed."""
    inputs = [
        {
            "name": "carrier",
            "datatype": "BYTES",
            "shape": [1],
            "contents": {"bytes_contents": [b"UA"]},
        },
        {
            "name": "distance",
            "datatype": "INT64",
            "shape": [1],
            "contents": {"int64_contents": [1000]},
        },
        {"name": "wind", "datatype": "FP64", "shape": [1], "contents": {"fp64_contents": [5.5]}},
    ]
    return request(inputs=inputs, **changes)


def refusal(opened: grpc.Channel, asked: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    """Status and details of a ModelInfer that is not answered."""
    try:
        answer = unary(opened, "ModelInfer")(asked, timeout=10, **options)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError(f"answered: {str(answer)[:500]}")
