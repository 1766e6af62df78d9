"""A call on which any number of messages come and go."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from headgate.errors import DeadlineExceededError, InputError
from headgate.serving.grpc.call import WINDOW, Call, Method, Streaming
from headgate.serving.grpc.headers import OK
from headgate.serving.grpc.status import StoppingError
from headgate.serving.job import ClientGoneError
from headgate.serving.launch import connections

if TYPE_CHECKING:
    from headgate.serving.grpc.connection import Connection
    from headgate.serving.grpc.headers import Request

__all__ = ["StreamingCall"]

_IDLE_S = 1.0
"""While the server stops, a stream on which nothing came for so long is ended."""
_STOPPING = StoppingError("this server is stopping", remedy="call again")


class StreamingCall(Call):
    """A call for :data:`headgate.serving.grpc.call.Streaming`."""

    __slots__ = (
        "_heard",
        "_inbox",
        "_more",
        "_owed",
        "_stopped",
        "_timer",
        "_waiting",
        "_writable",
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
        """See :class:`headgate.serving.grpc.call.Call`."""
        super().__init__(connection, stream, request, method, began=began, arrived=arrived)
        self._inbox: deque[bytes] = deque()
        self._more: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = self._owed = 0
        self._stopped = False
        self._heard = began
        if method.streaming is not None:
            self._task = connection.loop.create_task(self._stream(method.streaming))
        if self.deadline < math.inf:
            left = max(self.deadline - monotonic(), 0)
            self._timer = connection.loop.call_later(left, self._expire)

    def is_slow(self, now: float) -> bool:
        """Whether a message was begun and nothing more of it comes."""
        begun = self._assembler is not None and self._assembler.size > 0
        return begun and not self.over and now - self._heard > connections.BODY_S

    def take(self, data: bytes, *, last: bool) -> None:
        """See :class:`headgate.serving.grpc.call.Call`."""
        self.received += len(data)
        self._heard = monotonic()
        try:
            messages = self._assemble(data, last=last)
        except InputError as error:
            self.fail(error)
            return
        self.ended = last
        self._inbox.extend(messages)
        self._waiting += sum(map(len, messages))
        if messages or last:
            _wake(self._more)

    @property
    def full(self) -> bool:  # type: ignore[override]
        """See :class:`headgate.serving.grpc.call.Call`."""
        return self._waiting > WINDOW

    @property
    def held(self) -> int:
        """See :class:`headgate.serving.grpc.call.Call`."""
        return super().held + self._waiting

    async def next(self) -> bytes | None:
        """The next message; None when there are no more, or no more are taken."""
        while self._stopped or not self._inbox:
            if self.ended or self._stopped:
                return None
            self._more = self.connection.loop.create_future()
            await self._more
        message = self._inbox.popleft()
        self._waiting -= len(message)
        self._owed += 1
        self.connection.give_leave(self)
        return message

    async def send(self, content: bytes) -> None:
        """Send a message; returns when it has left.

        Raises:
            ClientGoneError: nobody wants it any more.
        """
        if self.over:
            raise ClientGoneError("the call is over")
        self._owed -= 1
        sender = self.connection.sender
        if not self._begun:
            self._begun = True
            sender.headers(self.stream, self.headers.block)
        sender.message(self, content)
        if self.outbox:
            self._writable = self.connection.loop.create_future()
            await self._writable

    def stop(self, now: float, *, takes: bool) -> None:
        """End it where nothing comes and nothing is owed: the server stops.

        ``now`` is of the monotonic clock; unless it ``takes`` more, the stream ends once what was
        taken is answered.
        """
        quiet = not self._inbox and self._owed <= 0 and now - self._heard > _IDLE_S
        if self.ended and not self._inbox:
            return
        if not takes:
            self._stopped = True
            _wake(self._more)
        elif quiet:
            self.fail(_STOPPING)

    def sent(self, *, last: bool) -> None:
        """See :class:`headgate.serving.grpc.sending.Outgoing`."""
        _wake(self._writable)
        super().sent(last=last)

    async def _stream(self, streaming: Streaming) -> None:
        try:
            await streaming(self)
        except Exception as error:  # noqa: BLE001
            self._fall(error)
        else:
            self._task = None
            if not self.over:
                self._finish()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _finish(self) -> None:
        if self._stopped:
            self.fail(_STOPPING)
            return
        sender = self.connection.sender
        if self._begun:
            sender.end(self, OK)
        else:
            self._begun = True
            sender.headers(self.stream, self.headers.block + OK, last=True)
            self.sent(last=True)

    def _expire(self) -> None:
        self.fail(DeadlineExceededError("its deadline passed", remedy="allow more time"))


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
