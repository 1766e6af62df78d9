"""What goes out on one connection: frames, as many bytes of messages as its peer gave leave for."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from headgate.serving.grpc.frames import (
    END_HEADERS,
    END_STREAM,
    HEAD,
    ConnectionFault,
    ErrorCode,
    Kind,
    Setting,
    frame,
)
from headgate.serving.grpc.framing import PREFIX_BYTES, prefixed
from headgate.serving.grpc.headers import OK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.serving.grpc.headers import Headers

__all__ = ["DEFAULT_WINDOW", "LARGEST_WINDOW", "Outgoing", "Sender"]

LARGEST_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
_SMALLEST_FRAME = 16_384
_EMPTY_TABLE = b"\x20"
"""The largest size of the table of headers is 0 from here on (RFC 7541, 6.3)."""
_OK_LEAD = len(OK).to_bytes(3, "big") + bytes((Kind.HEADERS, END_HEADERS | END_STREAM))


class Outgoing(Protocol):
    """The sending side of a call."""

    stream: int
    window: int
    """Bytes of messages that the peer takes on this stream."""
    outbox: deque[memoryview] | None
    """Messages that wait for leave."""
    trailers: bytes | None
    """The block that ends it after them."""

    def sent(self, *, last: bool) -> None:
        """The outbox is empty; ``last`` says that the call is ended too."""


class Sender:
    """Writes frames."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.window = self.initial_window = DEFAULT_WINDOW
        self.largest_frame = _SMALLEST_FRAME
        self.paused_since: float | None = None
        """Since when what was written piles up here, because the peer does not read."""
        self.closed = False
        """Whether nothing more can be sent."""
        self.blocked: dict[Outgoing, float] = {}
        """Those with messages that wait for leave, and since when."""
        self.table_update = b""
        """What the next block begins with: the peer has set a size of its table of headers."""
        self.gathering = False
        """Whether more is likely to be written in this turn of the event loop."""
        self._gathered: list[bytes] = []

    def reply(self, call: Outgoing, headers: Headers, content: bytes) -> None:
        """The one message of a call that went well, from its headers to its end."""
        size = len(content) + PREFIX_BYTES
        if (
            size > self.window
            or size > call.window
            or size > self.largest_frame
            or self.paused_since is not None
            or self.table_update
        ):
            self.headers(call.stream, headers.block)
            call.outbox = deque((memoryview(prefixed(content)),))
            self.end(call, OK)
            return
        self.window -= size
        stream = call.stream.to_bytes(4, "big")
        self.write(
            b"".join(
                (
                    headers.lead,
                    stream,
                    headers.block,
                    size.to_bytes(3, "big"),
                    b"\0\0",  # DATA, no flags
                    stream,
                    b"\0",
                    (size - PREFIX_BYTES).to_bytes(4, "big"),
                    content,
                    _OK_LEAD,
                    stream,
                    OK,
                )
            )
        )
        call.sent(last=True)

    def headers(self, stream: int, block: bytes, *, last: bool = False) -> None:
        """The headers of an answer; its only ones, and all of it, if they are the ``last``."""
        flags = END_HEADERS | (END_STREAM if last else 0)
        block, self.table_update = self.table_update + block, b""
        self.write(frame(Kind.HEADERS, flags, stream, block))

    def message(self, call: Outgoing, content: bytes) -> None:
        """One message more."""
        if call.outbox is None:
            call.outbox = deque()
        call.outbox.append(memoryview(prefixed(content)))
        self.push(call)

    def end(self, call: Outgoing, block: bytes) -> None:
        """The end of the answer, after its messages."""
        call.trailers = block
        self.push(call)

    def reset(self, stream: int, code: ErrorCode) -> None:
        """End a stream without another word."""
        self.write(frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4, "big")))

    def ping(self, content: bytes, *, flags: int = 0) -> None:
        """Ask whether the peer is there, or say that we are."""
        self.write(frame(Kind.PING, flags, 0, content))

    def go_away(self, last: int, code: ErrorCode, why: str = "") -> None:
        """Say that no streams after ``last`` are taken."""
        content = last.to_bytes(4, "big") + code.to_bytes(4, "big") + why.encode()
        self.write(frame(Kind.GOAWAY, 0, 0, content))

    def give_leave(self, stream: int, size: int) -> None:
        """Let the peer send more; stream 0 stands for all."""
        self.write(frame(Kind.WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big")))

    def set(self, name: int, value: int, calls: Iterable[Outgoing]) -> None:
        """Keep to a setting of the peer's.

        Raises:
            ConnectionFault: it cannot have this value.
        """
        if name == Setting.INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            for call in calls:
                call.window += value - self.initial_window
            self.initial_window = value
        elif name == Setting.MAX_FRAME_SIZE:
            if not _SMALLEST_FRAME <= value < 1 << 24:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no size of a frame")
            self.largest_frame = value
        elif name == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        elif name == Setting.HEADER_TABLE_SIZE:
            # Nothing of ours is in that table, and so it may as well be empty.
            self.table_update = _EMPTY_TABLE

    def more_window(self, size: int) -> None:
        """The peer takes more on the connection.

        Raises:
            ConnectionFault: more than there may be.
        """
        self.window += size
        if size == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "leave for nothing")
        if self.window > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
        self.flush()

    def flush(self) -> None:
        """Send what waits and may go."""
        for call in list(self.blocked):
            if self.paused_since is not None or self.window <= 0:
                return
            self.push(call)

    def forget(self, call: Outgoing) -> None:
        """Send no more of it."""
        call.outbox = None
        self.blocked.pop(call, None)

    def push(self, call: Outgoing) -> None:
        """Send as much of the outbox as may go, and the end after it."""
        pieces: list[bytes | memoryview] = []
        outbox = call.outbox
        while outbox and self.paused_since is None:
            content = outbox[0]
            size = min(len(content), self.window, call.window, self.largest_frame)
            if size <= 0:
                break
            if size == len(content):
                outbox.popleft()
            else:
                outbox[0] = content[size:]
            self.window -= size
            call.window -= size
            head = HEAD.pack(size >> 8, size & 0xFF, Kind.DATA, 0, call.stream)
            pieces += (head, content[:size])
        last = not outbox and call.trailers is not None
        if last and call.trailers is not None:
            block, self.table_update = self.table_update + call.trailers, b""
            pieces.append(frame(Kind.HEADERS, END_HEADERS | END_STREAM, call.stream, block))
        if pieces:
            self.write(b"".join(pieces))
        if outbox:
            if pieces or call not in self.blocked:
                self.blocked[call] = monotonic()
        else:
            self.blocked.pop(call, None)
            call.sent(last=last)

    def write(self, content: bytes) -> None:
        """Send frames; uvloop makes a system call of each write, so several wait for the last."""
        if self.closed:
            return
        if self.gathering or self._gathered:
            if not self._gathered:
                asyncio.get_running_loop().call_soon(self._release)
            self._gathered.append(content)
        else:
            self.transport.write(content)

    def finish(self) -> None:
        """Say that nothing follows; what comes is still read."""
        if not self.closed and not self.transport.is_closing():
            self._release()
            self.closed = True
            self.transport.write_eof()

    def close(self) -> None:
        """Send what is written, and close."""
        self._release()
        self.closed = True
        self.transport.close()

    def _release(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered and not self.closed:
            self.transport.write(b"".join(gathered))
