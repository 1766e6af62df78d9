"""A WebSocket client without manners: any bytes, and all that comes back."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Frame(NamedTuple):
    """What the server sent."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """Of a close frame."""
        code: int = struct.unpack_from("!H", self.payload)[0]
        return code


def frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    fin: bool = True,
    mask: bytes | None = b"\x01\x02\x03\x04",
    reserved: int = 0,
    declared: int | None = None,
) -> bytes:
    """One frame, which may declare another length than it has."""
    size = len(payload) if declared is None else declared
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    bit = 0x80 if mask is not None else 0
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if mask is None:
        return head + payload
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return head + mask + masked


class RawSocket:
    """One connection, past its handshake."""

    def __init__(self, sock: socket.socket, rest: bytes) -> None:
        self.sock = sock
        self._rest = rest

    def send(self, *pieces: bytes) -> None:
        self.sock.sendall(b"".join(pieces))

    def say(self, message: Any) -> None:
        self.send(frame(json.dumps(message).encode()))

    def frames(self) -> Iterator[Frame]:
        """Until the server closes; TimeoutError when nothing comes."""
        while True:
            found = self._next()
            while found is None:
                try:
                    data = self.sock.recv(65_536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    return
                self._rest += data
                found = self._next()
            yield found

    def hear(self) -> Any:
        """The next message."""
        kind, payload = next(self.frames())
        assert kind == TEXT, (kind, payload)
        return json.loads(payload)

    def closed(self) -> Frame:
        """The close frame, once the server has closed the connection behind it."""
        *_, last = self.frames()
        assert last.opcode == CLOSE, last
        return last

    def _next(self) -> Frame | None:
        data = self._rest
        if len(data) < 2:
            return None
        size, begin = data[1], 2
        assert size < 128, "a server masks nothing"
        if size == 126:
            begin = 4
            if len(data) >= begin:
                (size,) = struct.unpack_from("!H", data, 2)
        elif size == 127:
            begin = 10
            if len(data) >= begin:
                (size,) = struct.unpack_from("!Q", data, 2)
        if len(data) < begin + size:
            return None
        self._rest = data[begin + size :]
        return Frame(data[0] & 0x0F, data[begin : begin + size])


def handshake(path: str, **headers: str) -> bytes:
    """The request; an underscore in a header's name stands for a hyphen."""
    key = base64.b64encode(os.urandom(16)).decode()
    named = {
        "host": "localhost",
        "upgrade": "websocket",
        "connection": "upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": key,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@contextlib.contextmanager
def raw_socket(
    address: str, path: str, *, timeout: float = 20, **headers: str
) -> Iterator[RawSocket]:
    """A connection to ``path``, past its handshake."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as sock:
        sock.sendall(handshake(path, **headers))
        said = b""
        while b"\r\n\r\n" not in said:
            data = sock.recv(65_536)
            assert data, said
            said += data
        assert said.startswith(b"HTTP/1.1 101 "), said
        yield RawSocket(sock, said.partition(b"\r\n\r\n")[2])
