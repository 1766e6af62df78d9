"""A model that wants a GPU: a BentoML service of its own, in processes that the launcher pins.

Whether there is a GPU is found out when serving starts: without one it runs on the CPU, and says so.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer

from headgate.errors import ArtifactError, HeadgateError
from headgate.predictor import Predictor, read_reference
from headgate.serving import drain
from headgate.serving.http import read_body
from headgate.serving.lane import Lane
from headgate.serving.model import stall_s
from headgate.serving.remote import PREDICT, RemotePredictor, pack, unpack

if TYPE_CHECKING:
    from headgate.serving.bundle import PackagedModel
    from headgate.serving.http import App, Receive, Scope, Send

__all__ = ["GpuService", "gpu_service", "service_name", "where_it_runs"]

logger = logging.getLogger("bentoml.headgate")


class GpuService(bentoml.Service[Any]):  # type: ignore[misc]
    """Serves one model to the entry service, over the launcher's Unix socket."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> App:
        """The app of a worker. One that cannot load its model, or differs from it, does not start."""
        from headgate.serving.middleware import AppFactory

        self.inject_config()
        inner: Any = self.inner
        app: App = AppFactory(self, is_main=is_main)()
        try:
            predictor = _open(inner.model, inner.threads)
            replay = predictor.replay()
        except HeadgateError as error:
            raise SystemExit(str(error)) from None
        if replay.mismatched:
            raise SystemExit(
                f"{inner.model.name}: {replay.mismatched} of {replay.rows} reference rows are "
                f"answered differently than by the model as trained (by up to {replay.largest:.3g})"
            )
        drain.install()
        return _Device(app, predictor, stall_s(inner.model))


def service_name(model: PackagedModel) -> str:
    """What the service of a model is called."""
    return f"headgate-{model.method.lower().replace('_', '-')}"


def gpu_service(model: PackagedModel, threads: int) -> GpuService:
    """The service of a model that wants a GPU."""
    inner = type("HeadgateModel", (), {"model": model, "threads": threads})
    return GpuService(
        name=service_name(model),
        inner=inner,
        config={"workers": 1, "resources": {"gpu": model.config.resources.gpu}},
    )


def where_it_runs(model: PackagedModel) -> RemotePredictor | None:
    """The model in its service's process; None where it has none and is opened here."""
    address = BentoMLContainer.remote_runner_mapping.get().get(service_name(model))
    if address is None or not model.wants_gpu:
        return None
    return RemotePredictor(model.manifest, read_reference(model.path, model.manifest), address)


def _open(model: PackagedModel, threads: int) -> Predictor:
    try:
        return Predictor.open(model.path, threads=threads, device="cuda")
    except ArtifactError as error:
        logger.warning("%s wants a GPU and runs on the CPU: %s", model.name, error)
        return Predictor.open(model.path, threads=threads)


class _Device:
    """Batches to the model, one after the other; everything else to BentoML's app."""

    def __init__(self, app: App, predictor: Predictor, stall_s: float) -> None:
        self._app = app
        self._predictor = predictor
        self._stall_s = stall_s
        self._lane = Lane("predict")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] != PREDICT:
            await self._app(scope, receive, send)
            return
        # A call that hangs holds the thread for good: only a new process helps.
        hung = f"{self._predictor.ref.name}: a call has been running for {self._stall_s:.0f} s"
        timer = asyncio.get_running_loop().call_later(self._stall_s, drain.retire, hung)
        try:
            batch = unpack(await read_body(dict(scope["headers"]), receive, sys.maxsize))
            answer = pack(await self._lane.run(partial(self._predictor.predict, batch)))
            status = 200
        except Exception as error:  # noqa: BLE001 - the entry service tells it on
            answer, status = str(error).encode(), 500
        finally:
            timer.cancel()
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
