"""HTTP/2 frames, RFC 9113: their kinds, their flags, and how they are written."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

__all__ = [
    "ACK",
    "END_HEADERS",
    "END_STREAM",
    "HEAD",
    "HEAD_BYTES",
    "PADDED",
    "PREFACE",
    "PRIORITISED",
    "ConnectionFault",
    "ErrorCode",
    "Kind",
    "Setting",
    "frame",
    "settings",
    "unpadded",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first."""
HEAD: Final = struct.Struct(">HBBBL")
"""Of a frame: the upper 16 and the lower 8 bits of its length, its kind, its flags, its stream."""
HEAD_BYTES: Final = HEAD.size

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20


class Kind(IntEnum):
    """What a frame is."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """What one side tells the other of itself."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):  # noqa: N818 - HTTP/2 calls it a connection error
    """The peer broke the protocol in a way that ends the connection."""

    def __init__(self, code: ErrorCode, why: str) -> None:
        self.code = code
        self.why = why
        super().__init__(code, why)


def frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame, whole."""
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    pairs = b"".join(struct.pack(">HL", name, value) for name, value in values.items())
    return frame(Kind.SETTINGS, 0, 0, pairs)


def unpadded(payload: bytes) -> bytes:
    """What is between a padded frame's first byte, which says how much padding there is, and that.

    Raises:
        ConnectionFault: there is less than it says.
    """
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
