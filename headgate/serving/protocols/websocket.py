"""A WebSocket for each model: JSON messages, rows in, predictions out, many in flight.

A message is a body of V1 with an ``id`` of the client's choice and, if it likes, ``deadline_ms``:
``{"id": 7, "instances": [row, …]}``. Its answer is V1's with that id, sent when it is ready, in
whatever order. What is wrong with a message is answered to that message, ``status`` being what HTTP
would have said, and the connection stays.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson

from headgate.errors import HeadgateError, InputError, UnknownModelError
from headgate.serving.endpoint import Endpoint
from headgate.serving.http import (
    DEADLINE,
    JSON,
    Headers,
    Receive,
    Scope,
    Send,
    loads,
    names,
    problem,
    reply,
)
from headgate.serving.launch.websocket import DRAIN, EXTENSION, WebSocket
from headgate.serving.protocols.v1 import Columns, Rows

if TYPE_CHECKING:
    from headgate.serving.metrics import Outcome, SurfaceMetrics
    from headgate.serving.model import Model
    from headgate.serving.surface import Asked
    from headgate.serving.worker import Worker

__all__ = [
    "MOST_IN_FLIGHT",
    "Messages",
    "Session",
    "Sockets",
    "make_sockets",
    "stranger",
    "upgrade_required",
]

MOST_IN_FLIGHT = 256
"""Messages of one connection that are worked on at a time; the next is read after one of them."""
_LONGEST_ID = 200
_REMEDY = 'send {"id": …, "instances": [row, …]}'
_GOING_AWAY = 1001


def make_sockets(worker: Worker) -> dict[str, Messages]:
    """The WebSockets of a worker, by path."""
    found = {}
    for model in worker.models.values():
        rows = _Text(model, "ws")
        endpoint = Endpoint(model, rows, worker.metrics, worker.max_body)
        messages = Messages(model, endpoint, rows, worker.max_body)
        for suffix in ("", f"/versions/{model.version}"):
            found[f"/ws/{model.name}{suffix}"] = messages
    return found


class _Text(Columns):
    """V1 in messages."""

    def problem(self, error: HeadgateError) -> bytes:
        """See :class:`headgate.serving.surface.Surface`."""
        return super().problem(error).replace(b"the header X-Headgate-Deadline-Ms", b"deadline_ms")


class Sockets:
    """Hands each connection to its model's."""

    def __init__(
        self,
        messages: Mapping[str, Messages],
        *,
        origins: Collection[str],
        release: str,
        counts: SurfaceMetrics,
    ) -> None:
        """``origins`` are those of web pages that may connect, beside this server's own.

        ``counts`` is told of what is refused here.
        """
        self._messages = messages
        self._origins = origins
        self._release: Headers = [(b"x-headgate-release", release.encode())]
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        began = monotonic()
        if (await receive())["type"] != "websocket.connect":
            return
        path = scope["path"]
        messages = self._messages.get(path) or self._messages.get(path.rstrip("/"))
        if messages is None:
            told: HeadgateError = UnknownModelError(
                "no such WebSocket",
                where=path[:100],
                remedy=f"there are {', '.join(self._messages)}"[:1000],
            )
            await self._refuse(404, "unknown", told, send, began)
        elif (origin := stranger(scope, self._origins)) is not None:
            told = InputError(
                f"a page of {origin[:100]!r} may not connect",
                where="header Origin",
                remedy="let it by server.allowed_origins in headgate.toml",
            )
            await self._refuse(403, "input", told, send, began)
        else:
            await messages.serve(scope, receive, send)

    async def _refuse(
        self, status: int, outcome: Outcome, error: HeadgateError, send: Send, began: float
    ) -> None:
        body = problem(error)
        headers = [JSON, (b"content-length", b"%d" % len(body)), *self._release]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
        self._counts.failed(outcome, monotonic() - began)


class Messages:
    """What the connections to one model have in common."""

    def __init__(self, model: Model, endpoint: Endpoint, rows: Rows, max_bytes: int) -> None:
        """``rows`` is the surface of ``endpoint``; ``max_bytes`` may be in flight a connection."""
        self._endpoint = endpoint
        self._rows = rows
        self.max_bytes = max_bytes
        self._who = names(model.version, model.release)
        whose = {
            "model_name": model.name,
            "model_version": model.version,
            "release": model.release,
        }
        self._tail = b"," + orjson.dumps(whose)[1:]

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        connection = scope.get("extensions", {}).get(EXTENSION)
        if connection is not None:
            connection.polite = True
        await send({"type": "websocket.accept", "headers": self._who})
        await Session(self, connection, receive, send).run()

    async def answer(self, text: str | None) -> bytes:
        """What to say to a message; ``None`` stands for a binary one. Never fails."""
        name = b"null"
        head: dict[bytes, bytes] = {}

        def decode() -> Asked:
            nonlocal name
            request = _parsed(text)
            name = _take_id(request)
            if "deadline_ms" in request:
                head[DEADLINE] = _take_deadline(request)
            return self._rows.read(request)

        status, body, headers = await self._endpoint.answer(decode, head)
        if status == 200:
            return b'{"id":%b,%b' % (name, body[1:])
        return b'{"id":%b,"status":%d,%b%b%b' % (
            name,
            status,
            _later(headers),
            body[1:-1],
            self._tail,
        )


class Session:
    """One connection."""

    def __init__(
        self, messages: Messages, connection: WebSocket | None, receive: Receive, send: Send
    ) -> None:
        """``connection`` is None on a server that is not ours."""
        self._messages = messages
        self._connection = connection
        self._receive = receive
        self._send = send
        self._say = connection.say if connection is not None else self._say_plainly
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._count = 0
        self._bytes = 0
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Until the client leaves, or the server does."""
        try:
            while True:
                message = await self._receive()
                kind = message["type"]
                if kind == "websocket.receive":
                    self._begin(message.get("text"))
                    while self._full():
                        # Nothing is read meanwhile: the client waits in its own send().
                        self._room.clear()
                        await self._room.wait()
                elif kind == DRAIN:
                    await asyncio.gather(*self._tasks.values(), return_exceptions=True)
                    await self._send({"type": "websocket.close", "code": _GOING_AWAY})
                    return
                else:
                    return
        finally:
            # Nobody waits for these any more.
            for task in self._tasks.values():
                task.cancel()

    def _begin(self, text: str | None) -> None:
        self._count += 1
        answering = self._answer(self._count, text)
        self._tasks[self._count] = asyncio.get_running_loop().create_task(answering)
        self._bytes += len(text or "")
        if self._connection is not None:
            self._connection.busy = True

    async def _answer(self, number: int, text: str | None) -> None:
        try:
            await self._say(await self._messages.answer(text))
        except OSError:
            pass  # the client has gone
        finally:
            del self._tasks[number]
            self._bytes -= len(text or "")
            self._room.set()
            if self._connection is not None:
                self._connection.busy = bool(self._tasks)

    def _full(self) -> bool:
        return len(self._tasks) >= MOST_IN_FLIGHT or self._bytes > self._messages.max_bytes

    async def _say_plainly(self, text: bytes) -> None:
        await self._send({"type": "websocket.send", "text": text.decode()})


def stranger(scope: Scope, allowed: Collection[str]) -> str | None:
    """The origin of a web page that may not connect, else None.

    A browser lets any page open a WebSocket to anywhere, loopback included, and read the answers:
    what keeps it from doing so over HTTP does not hold here. Programs send no ``Origin``.
    """
    origin = host = ""
    for name, value in scope["headers"]:
        if name == b"origin":
            origin = value.decode("latin-1").lower()
        elif name == b"host":
            host = value.decode("latin-1").lower()
    if not origin or "*" in allowed or origin in allowed:
        return None
    # Not the scheme: behind a proxy that ends TLS, the page's is another.
    return None if origin.partition("://")[2] == host else origin


async def upgrade_required(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a plain request to where a WebSocket is."""
    del receive
    error = InputError(
        "this is a WebSocket",
        where=scope["path"],
        remedy="connect to it by ws:// and send messages",
    )
    headers = [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    await reply(send, 426, problem(error), headers)


def _parsed(text: str | None) -> dict[str, Any]:
    if text is None:
        raise InputError("a binary message", where="message", remedy="send JSON as a text message")
    request = loads(text)
    if type(request) is not dict:
        raise InputError("the message is no object", where="message", remedy=_REMEDY)
    return request


def _take_id(request: dict[str, Any]) -> bytes:
    """The id of a message, as JSON."""
    value = request.pop("id", None)
    if type(value) is str and len(value) > _LONGEST_ID:
        raise InputError(
            f"an id of {len(value)} characters",
            where="id",
            remedy=f"send at most {_LONGEST_ID}",
        )
    if type(value) not in (str, int, type(None)):
        raise InputError("neither a string nor an integer", where="id", remedy="send one of them")
    return orjson.dumps(value)


def _take_deadline(request: dict[str, Any]) -> bytes:
    value = request.pop("deadline_ms")
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise InputError(
            "it is no time", where="deadline_ms", remedy="send milliseconds, a number above 0"
        )
    return b"%r" % value


def _later(headers: Headers) -> bytes:
    """How long to wait, where HTTP would have said so."""
    for name, value in headers:
        if name == b"retry-after":
            return b'"retry_after_s":%b,' % value
    return b""
