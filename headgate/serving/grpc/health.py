"""gRPC's health checking: of the server, of its service, and of each model by its name."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from headgate.errors import UnknownModelError
from headgate.serving.grpc.messages import message, parse
from headgate.serving.grpc.status import StoppingError

if TYPE_CHECKING:
    from headgate.serving.grpc.call import Call
    from headgate.serving.grpc.server import Server
    from headgate.serving.grpc.streaming import StreamingCall
    from headgate.serving.worker import Worker

__all__ = ["Health"]

_Request: Any = message("grpc.health.v1.HealthCheckRequest")
_Response: Any = message("grpc.health.v1.HealthCheckResponse")
_WHOLE = {"", "inference.GRPCInferenceService"}
_LOOK_S = 0.5
"""How often a watcher looks."""


class Health:
    """Follows readiness; a server that stops is not serving."""

    def __init__(self, worker: Worker, server: Server) -> None:
        self._worker = worker
        self._server = server

    async def check(self, call: Call, content: bytes) -> bytes:
        """``Check``."""
        del call
        name = parse(_Request, content).service
        status = self._status(name)
        if status == _Response.SERVICE_UNKNOWN:
            known = ", ".join(filter(None, (*_WHOLE, *self._worker.models)))
            raise UnknownModelError(
                f"{name[:60]!r} is unknown", where="service", remedy=f"known: {known}"
            )
        return _serialized(status)

    async def watch(self, call: StreamingCall) -> None:
        """``Watch``: the status now, and whenever it has changed."""
        name = parse(_Request, await call.next() or b"").service
        before = None
        stops = self._server.stops
        while not stops.is_set():
            status = self._status(name)
            if status != before:
                await call.send(_serialized(status))
                before = status
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stops.wait(), _LOOK_S)
        await call.send(_serialized(self._status(name)))
        raise StoppingError("this server is stopping", remedy="watch another")

    def _status(self, name: str) -> int:
        if name in _WHOLE:
            trouble = self._server.whats_wrong()
        elif name in self._worker.models:
            trouble = self._server.whats_wrong(name)
        else:
            unknown: int = _Response.SERVICE_UNKNOWN
            return unknown
        status: int = _Response.SERVING if trouble is None else _Response.NOT_SERVING
        return status


def _serialized(status: int) -> bytes:
    content: bytes = _Response(status=status).SerializeToString()
    return content
