"""One call: a stream of HTTP/2 on which a message comes and one goes."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from headgate.errors import HeadgateError, InputError, ServingError
from headgate.serving.grpc.framing import PREFIX_BYTES, Assembler
from headgate.serving.grpc.headers import Headers
from headgate.serving.grpc.status import UnimplementedError, ending
from headgate.serving.launch import connections

if TYPE_CHECKING:
    from headgate.serving.grpc.connection import Connection
    from headgate.serving.grpc.headers import Request
    from headgate.serving.grpc.streaming import StreamingCall

__all__ = ["PLAIN", "WINDOW", "Call", "Method", "Streaming", "Unary"]

logger = logging.getLogger("bentoml.headgate")

Unary: TypeAlias = "Callable[[Call, bytes], Awaitable[bytes]]"
"""From the message of the request to that of the answer."""
Streaming: TypeAlias = "Callable[[StreamingCall], Awaitable[None]]"
"""Takes messages and sends others."""

WINDOW = 1 << 20
"""Bytes that a client may send on one stream before it gets leave for more."""
PLAIN = Headers()
"""Headers that name no model."""
_FAULT = ServingError("a fault of this server; its log says more", remedy="report it")


class Method(NamedTuple):
    """What answers the calls of one path: one of the two."""

    unary: Unary | None = None
    streaming: Streaming | None = None


class Call:
    """What the client sent and what was answered so far."""

    __slots__ = (
        "_assembler",
        "_begun",
        "_message",
        "_request",
        "_task",
        "arrived",
        "began",
        "connection",
        "counted",
        "deadline",
        "ended",
        "headers",
        "leave",
        "method",
        "outbox",
        "over",
        "received",
        "stream",
        "trailers",
        "window",
    )

    def __init__(
        self,
        connection: Connection,
        stream: int,
        request: Request,
        method: Method,
        *,
        began: float,
        arrived: float,
    ) -> None:
        """Times are of the monotonic clock."""
        self.connection = connection
        self.stream = stream
        self.method = method
        self.began = began
        """When its headers were read."""
        self.arrived = arrived
        """When they may have arrived."""
        timeout_s = request.timeout_s
        self.deadline = math.inf if timeout_s is None else arrived + timeout_s
        """By when the client wants its answer, on the monotonic clock."""
        self.ended = False
        """Whether the client sends no more."""
        self.over = False
        """Whether its answer is complete, or nobody wants it."""
        self.received = 0
        """Bytes of messages, their lengths included."""
        self.leave = WINDOW
        """Bytes that the client may still send."""
        self.counted = 0
        """What the connection counts for :attr:`held`."""
        self.headers = PLAIN
        """What its answer begins with."""
        self.window = connection.sender.initial_window
        self.outbox: deque[memoryview] | None = None
        self.trailers: bytes | None = None
        self._request = request
        self._assembler: Assembler | None = None
        self._message: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun = False

    full = False
    """Whether so much waits that the client gets no leave to send more."""

    @property
    def held(self) -> int:
        """Bytes that came and that nobody works on yet."""
        waiting = 0 if self._message is None else len(self._message)
        return waiting if self._assembler is None else waiting + self._assembler.size

    def is_slow(self, now: float) -> bool:
        """Whether its client takes too long to send it."""
        elapsed = now - self.began
        return (
            not self.ended
            and elapsed > connections.BODY_S
            and self.received < elapsed * connections.BODY_RATE
        )

    def take(self, data: bytes, *, last: bool) -> None:
        """Some bytes of its messages; the ``last`` ones, it may be."""
        size = len(data)
        self.received += size
        if (
            last
            and self._assembler is None
            and data[:1] == b"\0"
            and int.from_bytes(data[1:PREFIX_BYTES], "big") == size - PREFIX_BYTES
            and size <= self.connection.max_message
        ):
            self.ended = True
            self._begin(data[PREFIX_BYTES:])
            return
        try:
            messages = self._assemble(data, last=last)
            self.ended = last
            self._add(messages)
        except InputError as error:
            self.fail(error)

    def abandon(self) -> None:
        """The client has cancelled it, or has gone."""
        self.over = True
        self._leave()

    def fail(self, error: HeadgateError) -> None:
        """End it with an error."""
        if self.over:
            return
        sender = self.connection.sender
        if self._begun:
            sender.end(self, ending(error))
        else:
            self._begun = True
            sender.headers(self.stream, self.headers.block + ending(error), last=True)
            self.sent(last=True)
        self.over = True
        self._leave()

    def sent(self, *, last: bool) -> None:
        """See :class:`headgate.serving.grpc.sending.Outgoing`."""
        if last:
            self.over = True
            self.connection.finished(self)

    def _assemble(self, data: bytes, *, last: bool) -> list[bytes]:
        if self._assembler is None:
            self._assembler = Assembler(self._request.encoding, self.connection.max_message)
        messages = self._assembler.feed(data) if data else []
        if last and self._assembler.size:
            raise InputError(
                f"it ends within a message, after {self._assembler.size} bytes of it",
                where="message",
                remedy="send it whole",
            )
        return messages

    def _add(self, messages: list[bytes]) -> None:
        if len(messages) > (self._message is None):
            raise UnimplementedError(
                "more than one message", where="message", remedy="send one a call"
            )
        if messages:
            (self._message,) = messages
        if not self.ended:
            return
        if self._message is None:
            raise UnimplementedError("no message", where="message", remedy="send one a call")
        message, self._message = self._message, None
        self._begin(message)

    def _begin(self, message: bytes) -> None:
        if self.method.unary is not None:
            work = self._answer(self.method.unary, message)
            self._task = self.connection.loop.create_task(work)

    async def _answer(self, unary: Unary, message: bytes) -> None:
        try:
            content = await unary(self, message)
        except Exception as error:  # noqa: BLE001
            self._fall(error)
        else:
            if not self.over:
                self.connection.sender.reply(self, self.headers, content)

    def _fall(self, error: Exception) -> None:
        """Fail from within the task that answers."""
        self._task = None
        if not isinstance(error, HeadgateError):
            logger.error("a call was not answered: %r", error, exc_info=error)
            error = _FAULT
        self.fail(error)

    def _leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
