"""Messages on a stream: a byte that says whether it is compressed, four of length, the message."""

from __future__ import annotations

import zlib

from headgate.errors import InputError
from headgate.serving.grpc.status import MessageTooLargeError, UnimplementedError

__all__ = ["PREFIX_BYTES", "Assembler", "prefixed"]

PREFIX_BYTES = 5
_GZIP, _ZLIB = 31, 15
"""What zlib calls these formats."""
_FORMATS = {b"gzip": _GZIP, b"deflate": _ZLIB}


def prefixed(content: bytes) -> bytes:
    """A message as it is sent."""
    return b"\0" + len(content).to_bytes(4, "big") + content


class Assembler:
    """Puts the messages of one stream together."""

    __slots__ = ("_chunks", "_encoding", "_limit", "_needed", "size")

    def __init__(self, encoding: bytes, limit: int) -> None:
        """``limit`` is the longest message, bytes, compressed or not."""
        self._encoding = encoding
        self._limit = limit
        self._chunks: list[bytes] = []
        self._needed = PREFIX_BYTES
        self.size = 0
        """Bytes of a message that is not complete."""

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete with ``data``.

        Raises:
            InputError: one is too large, or cannot be decompressed.
        """
        if not self._chunks and data[:1] == b"\0" and len(data) >= PREFIX_BYTES:
            length = int.from_bytes(data[1:PREFIX_BYTES], "big")
            if length == len(data) - PREFIX_BYTES <= self._limit:
                return [data[PREFIX_BYTES:]]
        if data:
            self._chunks.append(data)
            self.size += len(data)
        return self._complete() if self.size >= self._needed else []

    def _complete(self) -> list[bytes]:
        content = b"".join(self._chunks)
        messages = []
        place = 0
        self._needed = PREFIX_BYTES
        while len(content) - place >= PREFIX_BYTES:
            begin = place + PREFIX_BYTES
            length = int.from_bytes(content[place + 1 : begin], "big")
            if length > self._limit:
                raise _too_large(f"{length} bytes", self._limit)
            if len(content) - begin < length:
                self._needed = PREFIX_BYTES + length
                break
            messages.append(self._plain(content[place], content[begin : begin + length]))
            place = begin + length
        rest = content[place:]
        self._chunks = [rest] if rest else []
        self.size = len(rest)
        return messages

    def _plain(self, flag: int, content: bytes) -> bytes:
        if flag == 0:
            return content
        if flag != 1:
            raise InputError(
                f"{flag} is no flag of a message",
                where="message",
                remedy="send 0, or 1 for compressed",
            )
        kind = _FORMATS.get(self._encoding)
        if kind is None:
            raise UnimplementedError(
                f"{self._encoding[:60].decode('latin-1')!r} is not understood",
                where="grpc-encoding",
                remedy="send gzip, deflate or identity",
            )
        return self._inflated(content, kind)

    def _inflated(self, content: bytes, kind: int) -> bytes:
        inflater = zlib.decompressobj(kind)
        try:
            plain = inflater.decompress(content, self._limit + 1)
        except zlib.error as error:
            raise InputError(
                f"it cannot be decompressed: {error}",
                where="message",
                remedy=f"compress it with {self._encoding.decode('latin-1')}",
            ) from None
        if len(plain) > self._limit:
            raise _too_large(f"more than {self._limit} bytes, decompressed", self._limit)
        if not inflater.eof or inflater.unused_data:
            raise InputError(
                "it ends before it is complete, or goes on after its end",
                where="message",
                remedy=f"compress it with {self._encoding.decode('latin-1')}",
            )
        return plain


def _too_large(size: str, limit: int) -> MessageTooLargeError:
    return MessageTooLargeError(
        f"the message has {size}",
        where="message",
        remedy=f"send at most {limit} bytes, or raise server.max_body_mb",
    )
