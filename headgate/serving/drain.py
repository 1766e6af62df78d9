"""How a worker serves, and how it stops without losing a request.

Two uvicorn servers. :class:`WorkerServer` runs under Headgate's launcher: connections come over the
launcher's channel, and when it stops, what is in flight and what still arrives on open connections
is answered, with ``Connection: close``. :class:`DevelopmentServer` runs under ``bentoml serve``,
whose arbiter keeps the port open: while it drains, what is in flight is answered and everything
else gets 503 with ``Connection: close``.

:func:`install` makes BentoML's worker use one of them: it looks up ``uvicorn.Server`` and
``uvicorn.Config`` after it has called ``to_asgi`` (``_bentoml_impl/worker/service.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.lifespan.on import LifespanOn

from headgate.serving.launch.channel import ForGrpc, Report, incoming, send_report
from headgate.serving.launch.child import last_clear_line
from headgate.serving.launch.connections import CLOSE, Connection, Patience, is_idle
from headgate.serving.launch.environment import DRAIN_S, PARENT
from headgate.serving.launch.turns import TURNS
from headgate.serving.launch.websocket import WebSocket

if TYPE_CHECKING:
    from headgate.serving.grpc.server import Server as GrpcServer

__all__ = ["DevelopmentServer", "WorkerServer", "answers_ready", "install", "leaving", "retire"]

# BentoML silences the loggers it does not know.
logger = logging.getLogger("bentoml.headgate")

IDLE_S = 5.0
"""While draining, how long an open connection without a request is kept for what may still come."""
_LIFESPAN_S = 5.0
_POLL_S = 0.02

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_servers: list[_Server] = []


class _NoGrpc:
    """Stands for :class:`headgate.serving.grpc.server.Server` where there is none."""

    connections: frozenset[Any] = frozenset()

    async def listen(self) -> None: ...

    def protocol(self) -> asyncio.Protocol:
        raise RuntimeError("this worker speaks no gRPC")

    def look(self) -> None: ...

    def stop(self, *, refusing: bool, drain_s: float) -> None: ...

    def end_idle(self) -> None: ...

    def close(self) -> None: ...


def install(max_message: int | None = None, grpc: GrpcServer | None = None) -> None:
    """Have BentoML's worker serve with this module's servers; calling it again changes nothing.

    ``max_message`` bounds a message of a WebSocket, bytes; ``grpc`` serves beside HTTP.
    Outside a BentoML worker nothing happens, so an app made in a test stays an app.
    """
    from bentoml._internal.context import server_context

    if PARENT in os.environ:
        uvicorn.Server = WorkerServer  # type: ignore[misc]
    elif server_context.worker_index is not None:
        uvicorn.Server = DevelopmentServer  # type: ignore[misc]
    else:
        return
    uvicorn.Config = _Config  # type: ignore[misc]
    if max_message is not None:
        _Config.max_message = max_message
    if grpc is not None:
        _Config.grpc = grpc


def retire(reason: str) -> None:
    """Say that this process is unfit to serve, so that the launcher replaces it.

    What is in flight is finished; what still comes on open connections gets 503. ``reason`` is one
    line for a person: a failed parity check, an engine that does not return. Callable from any
    thread. Under ``bentoml serve`` nobody could replace it, and it is only logged.
    """
    logger.error("this worker is unfit: %s", reason)
    for server in _servers:
        server.on_unfit(reason)


def leaving() -> str | None:
    """Why this process is not ready although it answers: it is about to stop."""
    return "this server is stopping" if any(each.leaving for each in _servers) else None


async def answers_ready(app: App) -> bool:
    """Whether ``GET /readyz`` of ``app``, asked from within, gives 200."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/readyz",
        "raw_path": b"/readyz",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": None,
        "server": None,
        "state": {},
    }
    await app(scope, receive, send)
    return statuses == [200]


class _Config(uvicorn.Config):
    """uvicorn's, with connections that are bounded in time and size.

    Forwarded addresses are nobody's business here, and reading them costs every request.
    """

    max_message = 16 * 1024 * 1024
    grpc: GrpcServer | _NoGrpc = _NoGrpc()

    def __init__(self, *args: Any, **options: Any) -> None:
        ours: dict[str, Any] = {
            "proxy_headers": False,
            "http": Connection,
            "ws": WebSocket,
            "ws_max_size": self.max_message,
            "ws_per_message_deflate": False,
        }
        super().__init__(*args, **{**ours, **options})

    def load(self) -> None:
        """Also remember why the app did not start."""
        super().load()
        self.lifespan_class = _Lifespan


class _Lifespan(LifespanOn):
    """uvicorn's, with the reason of a failed start kept."""

    failure = "the service did not start"

    async def send(self, message: Any) -> None:
        if message["type"] == "lifespan.startup.failed":
            self.failure = message.get("message") or self.failure
        await super().send(message)


class _Server(uvicorn.Server):
    """What both servers share."""

    leaving = False
    """Whether it drains, and answers only who is here already."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._patience = Patience()
        self._drain_s = float(os.environ.get(DRAIN_S, "20"))
        self._grpc: GrpcServer | _NoGrpc = getattr(config, "grpc", _NoGrpc())
        _servers.append(self)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop on the first signal, at once on the second; the exit code stays 0."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Once a second, look for connections that keep us waiting."""
        if counter % 10 == 0:
            self._look(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def on_unfit(self, reason: str) -> None:
        """What to do when this process says that it is unfit."""

    @property
    def _open_connections(self) -> int:
        return len(self.server_state.connections) + len(self._grpc.connections)

    def _look(self, now: float) -> None:
        self._patience.look(self.server_state.connections, now)
        self._grpc.look()

    def _say_close(self) -> None:
        """Have every connection end with the last answer on it, which says so."""
        state = self.server_state
        state.default_headers = [*state.default_headers, CLOSE]  # of those that have yet to come
        for connection in state.connections:
            if isinstance(connection, WebSocket):
                connection.drain()
            if isinstance(connection, Connection):
                connection.close_after_last()

    def _route_to(self, wrap: Callable[[App], App]) -> None:
        """Send the requests to come to another app."""
        self.config.loaded_app = wrap(self.config.loaded_app)
        for connection in self.server_state.connections:
            if isinstance(connection, Connection):
                connection.app = self.config.loaded_app

    async def _finish(self, *, keep_idle_s: float | None) -> None:
        """Wait until everything is answered, for at most the drain time.

        Connections without a request are kept for ``keep_idle_s``, or for as long as another is
        being answered.
        """
        loop = asyncio.get_running_loop()
        state = self.server_state
        start = loop.time()
        looked = start
        while (self._open_connections or state.tasks) and not self.force_exit:
            now = loop.time()
            if now > start + self._drain_s:
                logger.warning(
                    "cutting off %d connections after the drain time", self._open_connections
                )
                break
            if keep_idle_s is None or now > start + keep_idle_s:
                idle = [connection for connection in state.connections if is_idle(connection)]
                if keep_idle_s is not None or len(idle) == len(state.connections):
                    for connection in idle:
                        connection.shutdown()
            if now > looked + 1:
                looked = now
                self._look(now)
            self._grpc.end_idle()
            await asyncio.sleep(_POLL_S)
        self._grpc.close()
        if state.tasks:
            for task in state.tasks:
                task.cancel()
            await asyncio.wait(state.tasks, timeout=1)

    async def _stop_app(self) -> None:
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), _LIFESPAN_S)
        except TimeoutError:
            logger.warning("the service's shutdown took longer than %g s", _LIFESPAN_S)


class WorkerServer(_Server):
    """Serves the connections that the launcher hands over."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._received = self._grpc_received = 0
        self._told = (0, 0)
        self._accepting: set[asyncio.Task[Any]] = set()
        self._last_one = asyncio.Event()
        self._unfit = False
        self.servers = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, wait until it says that it is ready, then take connections."""
        if not sockets:
            raise RuntimeError("the launcher's channel is missing")
        self._channel = sockets[0]
        self._channel.setblocking(False)
        # End of file from here on means that the launcher died, also while the app starts.
        asyncio.get_running_loop().add_reader(self._channel, self._take)
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            self._tell("failed", last_clear_line(getattr(self.lifespan, "failure", "")))
            sys.exit(3)
        while not await answers_ready(self.config.loaded_app):
            if self.should_exit:
                return
            await asyncio.sleep(0.05)
        self.started = True
        self._tell("ready")

    async def on_tick(self, counter: int) -> bool:
        """Show a sign of life twice a second, and soon when connections came or went."""
        now = (self._open_connections, self._received)
        if counter % 5 == 0 or now != self._told:
            self._told = now
            self._tell("beat")
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Answer what is open and what still comes; the launcher refuses new connections."""
        if not self._last_one.is_set():  # somebody else than the launcher stops us
            self._tell("retire", "it was told to stop")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._last_one.wait(), self._drain_s)
        if self._accepting:
            await asyncio.wait(self._accepting)
        self.leaving = True
        self._route_to(_refuse if self._unfit else _without_sockets)
        self._say_close()
        self._grpc.stop(refusing=self._unfit, drain_s=self._drain_s)
        await self._finish(keep_idle_s=IDLE_S)
        await self._stop_app()

    def on_unfit(self, reason: str) -> None:
        """Ask the launcher to replace us; it answers by telling us to drain."""
        self._unfit = True
        self._tell("retire", reason)

    def _tell(self, event: Any, reason: str = "") -> None:
        send_report(
            self._channel,
            Report(
                event=event,
                reason=reason,
                connections=self._open_connections + len(self._accepting),
                received=self._received,
                grpc=not isinstance(self._grpc, _NoGrpc),
                grpc_connections=len(self._grpc.connections),
                grpc_received=self._grpc_received,
            ),
        )

    def _take(self) -> None:
        loop = asyncio.get_running_loop()
        TURNS.read(loop)
        for item in incoming(self._channel):
            if item == "gone":
                logger.error("the launcher has gone: stopping")
                os._exit(70)
            elif item == "drain":
                self.should_exit = True
                self._last_one.set()
            else:
                self._received += 1
                self._grpc_received += isinstance(item, ForGrpc)
                task = loop.create_task(self._open(item))
                self._accepting.add(task)
                task.add_done_callback(self._accepting.discard)

    async def _open(self, item: socket.socket | ForGrpc) -> None:
        loop = asyncio.get_running_loop()
        make: Callable[[], asyncio.Protocol]
        if isinstance(item, ForGrpc):
            connection, make = item.connection, self._grpc.protocol
        else:
            connection, make = item, partial(self._protocol, (TURNS.since, TURNS.count))
        try:
            await loop.connect_accepted_socket(make, connection)
        except OSError:  # the client has gone
            connection.close()

    def _protocol(self, opened: tuple[float, int]) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: Connection = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        protocol.opened = opened
        return protocol


class DevelopmentServer(_Server):
    """Listens by itself, as uvicorn does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen for HTTP, and for gRPC where this worker is to serve it."""
        await super().startup(sockets)
        if self.started:
            await self._grpc.listen()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Answer what is in flight, and refuse everything else politely meanwhile."""
        self._route_to(_refuse)
        self._say_close()
        self._grpc.stop(refusing=False, drain_s=self._drain_s)
        await self._finish(keep_idle_s=None)
        for server in self.servers:
            server.close()
        await self._stop_app()


def _without_sockets(app: App) -> App:
    """``app``, but for what would stay."""

    async def draining(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        # Headgate's own app says by itself that it is not ready; another one may not know.
        if scope["type"] == "websocket" or scope["path"] == "/readyz":
            await _refuse(app)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return draining


def _refuse(app: App) -> App:
    """Answers 503 in the place of ``app``."""
    del app

    async def refusing(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del receive
        body = b'{"error":"this server is stopping","where":"","remedy":"try again shortly"}'
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", b"1"),
        ]
        kind = "websocket.http" if scope["type"] == "websocket" else "http"
        await send({"type": f"{kind}.response.start", "status": 503, "headers": headers})
        await send({"type": f"{kind}.response.body", "body": body})

    return refusing
