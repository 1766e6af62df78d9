"""gRPC of one worker: its methods, its connections, and how they end."""

from __future__ import annotations

import asyncio
import logging
import math
from time import monotonic
from typing import TYPE_CHECKING

from headgate.errors import ServingError
from headgate.serving.grpc.about import About
from headgate.serving.grpc.call import Method
from headgate.serving.grpc.connection import Connection
from headgate.serving.grpc.health import Health
from headgate.serving.grpc.infer import Inference
from headgate.serving.grpc.patience import look
from headgate.serving.grpc.reflection import VERSIONS, reflection
from headgate.serving.grpc.streaming import StreamingCall
from headgate.serving.launch.listening import GRPC_SETTING, listen_tcp

if TYPE_CHECKING:
    from headgate.serving.worker import Worker

__all__ = ["Server"]

logger = logging.getLogger("bentoml.headgate")

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
AGE_S = 60.0
"""After so long, give or take a fifth, a client is asked to connect again: with workers that came
later, and with those that have less to do."""
TELL_S = 0.5
"""From saying that it is not ready to asking clients to go elsewhere."""
_HELD = 4
"""Of all calls of a connection together, incomplete messages may be so many times the largest."""


class Server:
    """What the connections of one worker have in common."""

    def __init__(self, worker: Worker) -> None:
        """Serves what ``worker`` has loaded."""
        self.connections: set[Connection] = set()
        self.age_s = AGE_S
        self.stops = asyncio.Event()
        """Set once it is about to stop."""
        self._worker = worker
        self._listener: asyncio.Server | None = None
        self._leaving = False
        self._refusing = False
        self._takes_until = math.inf
        self._inference = Inference(worker.models, worker.metrics)
        self.methods = self._methods()

    async def listen(self) -> None:
        """Listen by ourselves, where no launcher does; a port that is taken is not worth failing."""
        server = self._worker.bundle.server
        if server.grpc is None:
            return
        try:
            sock = listen_tcp(server.host, server.grpc, GRPC_SETTING)
        except ServingError as error:
            logger.warning("gRPC is not served: %s", error)
            return
        self._listener = await asyncio.get_running_loop().create_server(self.protocol, sock=sock)
        logger.info("gRPC at %s:%d", server.host, server.grpc)

    def protocol(self) -> Connection:
        """What speaks to one more client."""
        limit = self._worker.max_body
        return Connection(
            self.methods,
            max_message=limit,
            max_held=limit * _HELD,
            members=self.connections,
            refused=self._inference.refused,
        )

    def whats_wrong(self, model: str | None = None) -> str | None:
        """Why no calls, of a model or at all, should come here; None when all is well."""
        if self.stops.is_set():
            return "it is stopping"
        if model is None:
            return self._worker.whats_wrong()
        return self._worker.models[model].whats_wrong()

    def look(self) -> None:
        """Once a second, look for who keeps us waiting and who should connect anew."""
        now = monotonic()
        look(self.connections, now)
        for connection in list(self.connections):
            if connection.greeted and now - connection.began > self.age_s * connection.jitter:
                connection.go_away()

    def stop(self, *, refusing: bool, drain_s: float) -> None:
        """Have clients go elsewhere, soon; with ``refusing``, do not answer what they ask now.

        ``drain_s`` is how long it may take until all is answered, seconds; streams are listened to
        for half of it.
        """
        self.stops.set()
        self._takes_until = monotonic() + drain_s / 2
        if self._listener is not None:
            self._listener.close()
        self._refusing = refusing
        if refusing:
            self._go_away()
        else:
            asyncio.get_running_loop().call_later(min(TELL_S, drain_s / 4), self._go_away)

    def end_idle(self) -> None:
        """While it stops, end streams on which nothing comes or too much, and whoever came meanwhile."""
        if not self._leaving:
            return
        now = monotonic()
        for connection in list(self.connections):
            connection.go_away(refusing=self._refusing)
            for call in list(connection.calls.values()):
                if isinstance(call, StreamingCall):
                    call.stop(now, takes=now < self._takes_until)

    def close(self) -> None:
        """End every connection, whatever is on it."""
        for connection in list(self.connections):
            connection.sender.transport.abort()

    def _go_away(self) -> None:
        self._leaving = True
        self.end_idle()

    def _methods(self) -> dict[str, Method]:
        worker = self._worker
        health = Health(worker, self)
        methods = {
            f"/{SERVICE}/ModelInfer": Method(unary=self._inference.one),
            f"/{SERVICE}/ModelStreamInfer": Method(streaming=self._inference.many),
            f"/{HEALTH}/Check": Method(unary=health.check),
            f"/{HEALTH}/Watch": Method(streaming=health.watch),
        }
        for name, unary in About(worker, self).methods().items():
            methods[f"/{SERVICE}/{name}"] = Method(unary=unary)
        services = (SERVICE, HEALTH, *(f"{package}.ServerReflection" for package in VERSIONS))
        for package in VERSIONS:
            path = f"/{package}.ServerReflection/ServerReflectionInfo"
            methods[path] = Method(streaming=reflection(package, services))
        return methods
