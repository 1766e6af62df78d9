"""Headers of calls: what a request says of itself, and the blocks that answers are made of.

What is sent refers to nothing that was sent before (RFC 7541, literals without indexing), so that
a block is the same bytes on every connection and made once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

from hpack import Decoder, HPACKError
from hpack.table import HeaderTable

from headgate.errors import InputError
from headgate.serving.grpc.frames import ConnectionFault, ErrorCode

__all__ = ["HEADER_BYTES", "OK", "Headers", "Malformed", "Reader", "Request", "block", "literal"]

HEADER_BYTES = 32_768
"""Longest header list of a request."""
CONTENT_TYPE = (b"content-type", b"application/grpc")
_REMEMBERED, _REMEMBERED_BYTES = 64, 512
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_MESSAGE_CHARACTERS = 600
"""Encoded, they may be twelve times as many, and clients take 8 KiB of headers."""
_FORBIDDEN = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
_PSEUDO = {b":method", b":scheme", b":authority", b":path"}


class Malformed(Exception):  # noqa: N818 - HTTP/2's word
    """The headers are no request: the stream is reset."""


class Request(NamedTuple):
    """What the headers of a call say."""

    path: str
    """``/package.Service/Method``."""
    timeout_s: float | None
    encoding: bytes
    """Of messages that are marked as compressed."""
    http_status: bytes
    """By which it is refused because it is no call at all; empty where it is one."""


class _Table(HeaderTable):
    """Knows whether it has changed."""

    added = 0

    @property
    def state(self) -> tuple[int, int]:
        """Another one after every change."""
        return self.added, self.maxsize

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)


class Reader:
    """Reads the headers of one connection's requests.

    The same bytes mean the same until the table that they refer to changes, and clients repeat
    themselves: nearly every request is answered from what is remembered.
    """

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=HEADER_BYTES)
        self._decoder.header_table = self._table = _Table()
        self._known: dict[bytes, Request] = {}

    def read(self, content: bytes) -> Request:
        """What a block says.

        Raises:
            ConnectionFault: it cannot be decoded, nor can what follows it.
            Malformed: it can, and is no request.
            InputError: a header of gRPC's is wrong.
        """
        known = self._known.get(content)
        if known is not None:
            return known
        before = self._table.state
        request = _request(self._decode(content))
        if before == self._table.state and len(content) <= _REMEMBERED_BYTES:
            if len(self._known) == _REMEMBERED:
                self._known.clear()
            self._known[content] = request
        return request

    def skip(self, content: bytes) -> None:
        """Read a block that nobody needs, for what it may do to the table.

        Raises:
            ConnectionFault: it cannot be decoded.
        """
        self._decode(content)

    def _decode(self, content: bytes) -> list[tuple[bytes, bytes]]:
        before = self._table.state
        try:
            decoded: Any = self._decoder.decode(content, raw=True)
        except HPACKError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from None
        if before != self._table.state:
            self._known.clear()
        return list(decoded)


class Headers:
    """A block that begins answers, with what is written before it."""

    __slots__ = ("block", "lead")

    def __init__(self, *more: tuple[bytes, bytes]) -> None:
        """``more`` than what every answer has."""
        known = (CONTENT_TYPE, (b"grpc-accept-encoding", b"identity,deflate,gzip"))
        self.block = _STATUS_200 + block((*known, *more))
        self.lead = len(self.block).to_bytes(3, "big") + b"\x01\x04"  # HEADERS, END_HEADERS


def block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The headers as literals."""
    return b"".join(literal(name, value) for name, value in headers)


def literal(name: bytes, value: bytes) -> bytes:
    """One header."""
    return b"".join((b"\0", _length(name), name, _length(value), value))


def http_answer(status: bytes) -> bytes:
    """The block of an answer by a status of HTTP alone."""
    return b"\x08" + _length(status) + status


def outcome(status: int, text: str, more: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The block that ends a call that went wrong; ``text`` is for a person."""
    told = quote(text[:_MESSAGE_CHARACTERS], safe=_PRINTABLE).encode()
    return block([(b"grpc-status", b"%d" % status), (b"grpc-message", told), *more])


def _length(text: bytes) -> bytes:
    """A length as an integer with a prefix of 7 bits."""
    rest = len(text) - 127
    if rest < 0:
        return bytes((len(text),))
    encoded = bytearray((127,))
    while rest >= 128:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


_STATUS_200 = b"\x88"
OK = block([(b"grpc-status", b"0")])
"""The block that ends a call that went well."""


def _request(headers: list[tuple[bytes, bytes]]) -> Request:
    found: dict[bytes, bytes] = {}
    ordinary = False
    for name, value in headers:
        pseudo = name[:1] == b":"
        if (
            name != name.lower()
            or name in _FORBIDDEN
            or (pseudo and (ordinary or name in found or name not in _PSEUDO))
        ):
            raise Malformed
        ordinary = ordinary or not pseudo
        found[name] = value
    if not found.get(b":path") or b":scheme" not in found or b":method" not in found:
        raise Malformed
    kind = found.get(b"content-type", b"")
    status = b""
    if found[b":method"] != b"POST":
        status = b"405"
    elif kind[:16] != CONTENT_TYPE[1] or kind[16:17] not in (b"", b"+", b";"):
        status = b"415"
    timeout = found.get(b"grpc-timeout")
    return Request(
        path=found[b":path"].decode("latin-1"),
        timeout_s=None if timeout is None else _seconds(timeout),
        encoding=found.get(b"grpc-encoding", b"identity"),
        http_status=status,
    )


def _seconds(timeout: bytes) -> float:
    found: Any = _TIMEOUT.fullmatch(timeout)
    if found is None:
        raise InputError(
            f"{timeout[:60].decode('latin-1')!r} is no time",
            where="grpc-timeout",
            remedy="send at most eight digits and one of H, M, S, m, u, n",
        )
    return int(found[1]) * _UNITS[found[2]]
