"""What comes in on one connection: bytes to frames, and frames to whoever answers them."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final

from headgate.serving.grpc.frames import (
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEAD_BYTES,
    PADDED,
    PREFACE,
    PRIORITISED,
    ConnectionFault,
    ErrorCode,
    Kind,
    unpadded,
)
from headgate.serving.grpc.headers import HEADER_BYTES
from headgate.serving.launch.turns import TURNS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LARGEST_FRAME", "LARGEST_STREAM", "Incoming"]

LARGEST_FRAME = 16_384
LARGEST_STREAM = 2**31 - 1
_SIZES: Final[dict[int, int]] = {
    Kind.PRIORITY: 5,
    Kind.RST_STREAM: 4,
    Kind.PING: 8,
    Kind.WINDOW_UPDATE: 4,
}
_OF_STREAMS: Final = {Kind.PRIORITY, Kind.RST_STREAM}
_OF_CONNECTION: Final = {Kind.SETTINGS, Kind.PING, Kind.GOAWAY}


class Incoming(asyncio.Protocol):
    """The frames of a client, checked by themselves; what they mean is up to the ``on_`` methods.

    Those, and :meth:`give_up`, are a subclass's.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self.began = self.heard = monotonic()
        """When it began and when its client last sent anything."""
        self.greeted = False
        """Whether the client has said that it speaks HTTP/2."""
        self.partial_since: float | None = None
        """Since when headers are not complete."""
        self.nuisance = 0
        """Frames that cost us something and say little, since somebody last set it to 0."""
        self._buffer = b""
        self._partial: tuple[int, bool, bytes] | None = None

    def data_received(self, data: bytes) -> None:
        """Take every frame that is complete."""
        TURNS.read(self.loop)
        buffer = self._buffer + data if self._buffer else data
        place = 0
        try:
            if self.greeted or (place := self._greet(buffer)):
                place = self._frames(buffer, place)
        except ConnectionFault as fault:
            self._buffer = b""
            self.give_up(fault.code, fault.why)
            return
        self.heard = monotonic()
        self._buffer = buffer[place:]

    def on_greeting(self) -> None:
        """The client speaks HTTP/2."""
        raise NotImplementedError

    def on_block(self, stream: int, block: bytes, *, last: bool) -> None:
        """Headers are complete; ``last``: nothing follows on this stream."""
        raise NotImplementedError

    def on_data(self, stream: int, content: bytes, size: int, *, last: bool) -> None:
        """Bytes of messages; ``size`` is what they count for, with padding."""
        raise NotImplementedError

    def give_up(self, code: ErrorCode, why: str) -> None:
        """End the connection, for a reason that the client is told."""
        raise NotImplementedError

    def _greet(self, buffer: bytes) -> int:
        """Where the first frame begins; 0 while that is not known."""
        if not PREFACE.startswith(buffer[: len(PREFACE)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2")
        if len(buffer) < len(PREFACE):
            return 0
        self.greeted = True
        self.on_greeting()
        return len(PREFACE)

    def _frames(self, buffer: bytes, place: int) -> int:
        """Take the frames from ``place`` on; returns where an incomplete one begins."""
        end = len(buffer)
        while end - place >= HEAD_BYTES:
            high, low, kind, flags, stream = HEAD.unpack_from(buffer, place)
            size = high << 8 | low
            if size > LARGEST_FRAME:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            begin = place + HEAD_BYTES
            if begin + size > end:
                break
            place = begin + size
            self._take(kind, flags, stream & LARGEST_STREAM, buffer[begin:place])
        return place

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._partial is not None and (kind != Kind.CONTINUATION or stream != self._partial[0]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "headers are not continued")
        if kind == Kind.DATA:
            size = len(payload)
            content = unpadded(payload) if flags & PADDED else payload
            self.on_data(stream, content, size, last=bool(flags & END_STREAM))
        elif kind == Kind.HEADERS:
            self._take_headers(flags, stream, payload)
        elif kind == Kind.CONTINUATION:
            self._continue(flags, payload)
        elif (take := self.others.get(kind)) is not None:
            self.nuisance += 1
            if len(payload) != _SIZES.get(kind, len(payload)):
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame of another size")
            if (kind in _OF_STREAMS and not stream) or (kind in _OF_CONNECTION and stream):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame in the wrong place")
            take(self, flags, stream, payload)
        else:
            self.nuisance += 1  # of a later version, and ignored

    others: ClassVar[dict[int, Callable[[Any, int, int, bytes], None]]] = {}
    """What takes the other kinds of frames: flags, stream, payload."""

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if stream % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no stream of a client's")
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & PRIORITISED:
            payload = payload[5:]
        last = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self.on_block(stream, payload, last=last)
        else:
            self._partial = (stream, last, payload)
            self.partial_since = monotonic()

    def _continue(self, flags: int, payload: bytes) -> None:
        if self._partial is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "nothing to continue")
        stream, last, block = self._partial
        block += payload
        self.nuisance += 1
        if len(block) > HEADER_BYTES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too long")
        if flags & END_HEADERS:
            self._partial = self.partial_since = None
            self.on_block(stream, block, last=last)
        else:
            self._partial = (stream, last, block)
