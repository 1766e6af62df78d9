"""One client's connection: HTTP/2, RFC 9113, as a server of gRPC."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from time import monotonic
from typing import ClassVar, Final

from headgate.errors import HeadgateError, InputError
from headgate.serving.grpc.call import PLAIN, WINDOW, Call, Method
from headgate.serving.grpc.frames import (
    ACK,
    ConnectionFault,
    ErrorCode,
    Kind,
    Setting,
    frame,
    settings,
)
from headgate.serving.grpc.headers import HEADER_BYTES, Malformed, Reader, Request, http_answer
from headgate.serving.grpc.incoming import LARGEST_STREAM, Incoming
from headgate.serving.grpc.sending import DEFAULT_WINDOW, LARGEST_WINDOW, Sender
from headgate.serving.grpc.status import MessageTooLargeError, UnimplementedError, ending
from headgate.serving.grpc.streaming import StreamingCall
from headgate.serving.launch.turns import TURNS, noticed

__all__ = ["MOST_CALLS", "Connection"]

MOST_CALLS = 1000
"""At a time on one connection."""
ALL_WINDOW = 1 << 24
"""The same for all streams of a connection."""
_GREETING: Final = settings(
    {
        Setting.MAX_CONCURRENT_STREAMS: MOST_CALLS,
        Setting.INITIAL_WINDOW_SIZE: WINDOW,
        Setting.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
    }
) + frame(Kind.WINDOW_UPDATE, 0, 0, (ALL_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big"))
_LEAVING: Final = b"goodbye?"
"""Content of the ping whose answer says that our farewell was read."""
_ALIVE: Final = b"anybody?"
_NOT_HTTP2: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"This port speaks gRPC over HTTP/2. HTTP/1.1 is spoken on the server's other port.\n"
)


class Connection(Incoming):
    """Frames in, calls out of them."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        max_message: int,
        max_held: int,
        members: set[Connection],
        refused: Callable[[HeadgateError], None],
    ) -> None:
        """A connection that is not made yet.

        Args:
            methods: by path, ``/package.Service/Method``.
            max_message: bytes.
            max_held: bytes of messages that are not complete, of all calls together.
            members: it is one of them from its beginning to its end.
            refused: is told of a request that becomes no call.
        """
        super().__init__()
        self.max_message = max_message
        self.calls: dict[int, Call] = {}
        """By stream: those that are not answered to their end."""
        self.sender: Sender
        self.refusing = False
        """Whether new calls are to be made elsewhere."""
        self.leaving = 0
        """1 after our farewell, 2 when the client has read it, 3 when all is said."""
        self.left_at: float | None = None
        """When it came that far."""
        self.jitter = random.uniform(0.8, 1.2)  # noqa: S311
        """So that connections that came together do not leave together."""
        self._methods = methods
        self._max_held = max_held
        self._members = members
        self._refused = refused
        self._reader = Reader()
        self._newest = 0
        self._last_taken = LARGEST_STREAM
        self._leave = ALL_WINDOW
        self._held = 0
        self._asked_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for what the client speaks: one of HTTP/1.1 is to understand our answer."""
        self.loop = asyncio.get_running_loop()
        self.sender = Sender(transport)  # type: ignore[arg-type]
        self._members.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what nobody waits for any more."""
        del exc
        self.sender.closed = True
        for call in list(self.calls.values()):
            call.abandon()
        self.calls.clear()
        self._members.discard(self)

    def pause_writing(self) -> None:
        """Read no more from a client that does not read."""
        self.sender.paused_since = monotonic()
        self.sender.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self.sender.paused_since = None
        self.sender.transport.resume_reading()
        self.sender.flush()

    # What others ask of it.

    def give_leave(self, call: Call) -> None:
        """Let the client send more on this stream, where that is worth a frame."""
        if call.leave < WINDOW // 2 and not call.ended and not call.over and not call.full:
            self.sender.give_leave(call.stream, WINDOW - call.leave)
            call.leave = WINDOW

    def finished(self, call: Call) -> None:
        """A call is answered to its end."""
        if not call.ended:
            self.sender.reset(call.stream, ErrorCode.NO_ERROR)  # send no more of it
        self._drop(call)

    def go_away(self, *, refusing: bool = False) -> None:
        """Have the client make its next calls elsewhere; those that it has made are answered.

        With ``refusing`` it is to make again what still arrives.
        """
        self.refusing = self.refusing or refusing
        if self.leaving == 0 and self.greeted:
            self._advance(1)
            self.sender.go_away(LARGEST_STREAM, ErrorCode.NO_ERROR)
            self.sender.ping(_LEAVING)

    def give_up(self, code: ErrorCode, why: str) -> None:
        """See :class:`headgate.serving.grpc.incoming.Incoming`."""
        if self.greeted:
            self.sender.go_away(self._newest, code, why)
        else:
            self.sender.write(_NOT_HTTP2)
        for call in list(self.calls.values()):
            self._drop(call)
            call.abandon()
        self._advance(3)
        self.sender.close()

    def ask(self, now: float) -> None:
        """Ask the client whether it is there, once for each time that it was silent."""
        if self._asked_at < self.heard:
            self._asked_at = now
            self.sender.ping(_ALIVE)

    def abort(self, stream: int) -> None:
        """Give up a call whose answer is not taken."""
        self._reset(self.calls[stream], ErrorCode.CANCEL)

    # What the client says.

    def on_greeting(self) -> None:
        """See :class:`headgate.serving.grpc.incoming.Incoming`."""
        self.sender.write(_GREETING)

    def on_data(self, stream: int, content: bytes, size: int, *, last: bool) -> None:
        """See :class:`headgate.serving.grpc.incoming.Incoming`."""
        self._leave -= size
        if self._leave < ALL_WINDOW // 2:
            if self._leave < 0:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more than there was leave for")
            self.sender.give_leave(0, ALL_WINDOW - self._leave)
            self._leave = ALL_WINDOW
        call = self.calls.get(stream)
        if call is None:
            self._expect_known(stream)
            return
        if call.ended:
            self._reset(call, ErrorCode.STREAM_CLOSED)
            return
        call.leave -= size
        call.take(content, last=last)
        if stream in self.calls:
            self._held += call.held - call.counted
            call.counted = call.held
        if last or call.over:
            return
        self.nuisance += not content
        if call.leave < 0:
            self._reset(call, ErrorCode.FLOW_CONTROL_ERROR)
        elif self._held > self._max_held:
            call.fail(_TOO_MUCH)
        else:
            self.give_leave(call)

    def on_block(self, stream: int, block: bytes, *, last: bool) -> None:
        """See :class:`headgate.serving.grpc.incoming.Incoming`."""
        if stream <= self._newest:
            self._reader.skip(block)
            call = self.calls.get(stream)
            if call is None:
                self.nuisance += 1
            elif call.ended or not last:
                self._reset(call, ErrorCode.PROTOCOL_ERROR)
            else:
                self.on_data(stream, b"", 0, last=True)
            return
        self._newest = stream
        try:
            request = self._reader.read(block)
        except Malformed:
            self.nuisance += 1
            self.sender.reset(stream, ErrorCode.PROTOCOL_ERROR)
        except InputError as error:
            self._fail(stream, error, last=last)
        else:
            self._open(stream, request, last=last)

    def _open(self, stream: int, request: Request, *, last: bool) -> None:
        """A call begins."""
        if self.refusing or stream > self._last_taken or len(self.calls) >= MOST_CALLS:
            # Of which the client knows that it may make it again.
            self.nuisance += 1
            self.sender.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        if request.http_status:
            self._refuse(stream, http_answer(request.http_status), last=last)
            return
        method = self._methods.get(request.path)
        if method is None:
            self._fail(stream, _no_method(request.path), last=last)
            return
        kind = Call if method.streaming is None else StreamingCall
        now = monotonic()
        self.calls[stream] = kind(
            self, stream, request, method, began=now, arrived=noticed(TURNS.since, now)
        )
        self.sender.gathering = len(self.calls) > 1
        if last:
            self.on_data(stream, b"", 0, last=True)

    def _fail(self, stream: int, error: HeadgateError, *, last: bool) -> None:
        self._refused(error)
        self._refuse(stream, PLAIN.block + ending(error), last=last)

    def _refuse(self, stream: int, block: bytes, *, last: bool) -> None:
        """Answer a request that becomes no call."""
        self.nuisance += 1
        self.sender.headers(stream, block, last=True)
        if not last:
            self.sender.reset(stream, ErrorCode.NO_ERROR)

    def on_reset(self, _flags: int, stream: int, _payload: bytes) -> None:
        """The client wants no answer."""
        call = self.calls.get(stream)
        if call is None:
            self._expect_known(stream)
            return
        call.abandon()
        self._drop(call)

    def on_settings(self, flags: int, _stream: int, payload: bytes) -> None:
        """What the client can take."""
        if flags & ACK:
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of another size")
        for place in range(0, len(payload), 6):
            name = int.from_bytes(payload[place : place + 2], "big")
            value = int.from_bytes(payload[place + 2 : place + 6], "big")
            self.sender.set(name, value, self.calls.values())
        self.sender.write(frame(Kind.SETTINGS, ACK, 0))
        self.sender.flush()

    def on_ping(self, flags: int, _stream: int, payload: bytes) -> None:
        """A question, or the answer to ours."""
        if not flags & ACK:
            self.sender.ping(payload, flags=ACK)
        elif payload == _LEAVING and self.leaving == 1:
            # Whatever was sent before our farewell was read is here by now.
            self._advance(2)
            self._last_taken = self._newest
            self.sender.go_away(self._newest, ErrorCode.NO_ERROR)
            self._part()

    def on_window(self, _flags: int, stream: int, payload: bytes) -> None:
        """Leave to send more."""
        size = int.from_bytes(payload, "big") & LARGEST_WINDOW
        call = self.calls.get(stream)
        if stream == 0:
            self.sender.more_window(size)
        elif call is None:
            self._expect_known(stream)
        elif size == 0 or call.window + size > LARGEST_WINDOW:
            self._reset(call, ErrorCode.FLOW_CONTROL_ERROR if size else ErrorCode.PROTOCOL_ERROR)
        else:
            call.window += size
            if call in self.sender.blocked:
                self.sender.push(call)

    def on_push(self, _flags: int, _stream: int, _payload: bytes) -> None:
        """What no client may send."""
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")

    def on_nothing(self, _flags: int, _stream: int, _payload: bytes) -> None:
        """Priorities are obsolete, and a client that leaves gets its answers."""

    others: ClassVar = {
        Kind.PRIORITY: on_nothing,
        Kind.RST_STREAM: on_reset,
        Kind.SETTINGS: on_settings,
        Kind.PUSH_PROMISE: on_push,
        Kind.PING: on_ping,
        Kind.GOAWAY: on_nothing,
        Kind.WINDOW_UPDATE: on_window,
    }

    # The ends of calls, and of the connection.

    def _expect_known(self, stream: int) -> None:
        """Hold that a stream without a call was one before."""
        if stream > self._newest or stream % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream that was not opened")
        self.nuisance += 1

    def _reset(self, call: Call, code: ErrorCode) -> None:
        """The client broke the protocol on one stream."""
        self.nuisance += 1
        call.abandon()
        self._drop(call)
        self.sender.reset(call.stream, code)

    def _drop(self, call: Call) -> None:
        if self.calls.pop(call.stream, None) is None:
            return
        self._held -= call.counted
        self.sender.gathering = len(self.calls) > 1
        self.sender.forget(call)
        if self.leaving == 2:
            self._part()

    def _part(self) -> None:
        """Say that nothing more follows, once all is answered; the client closes then."""
        if not self.calls:
            self._advance(3)
            self.sender.finish()

    def _advance(self, leaving: int) -> None:
        self.leaving = leaving
        self.left_at = monotonic()


_TOO_MUCH: Final = MessageTooLargeError(
    "too much is on its way on this connection",
    where="message",
    remedy="send fewer large messages at a time",
)


def _no_method(path: str) -> HeadgateError:
    return UnimplementedError(
        "no such method",
        where=path[:200],
        remedy="ask grpc.reflection.v1.ServerReflection what there is",
    )
