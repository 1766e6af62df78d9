"""One WebSocket with many messages in flight, from a client that costs a microsecond or two each.

Messages are made ahead but for their ids; they are masked with zeros, which the protocol allows and
which leaves them as they are. All that is answered in one read is sent anew in one write.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import time
from collections.abc import Sequence

import numpy as np
import orjson

from benchmarks.harness.process import HOST
from benchmarks.harness.wrk import Measured

__all__ = ["Socket", "SocketError", "ask", "load"]

_FIRST = 1_000_000
"""Ids have seven digits, so that messages have a length of their own."""
_PREFIX = len(b'{"id":')
_GOOD = b',"predictions":'


class SocketError(OSError):
    """The server did not answer as a WebSocket."""


class Socket:
    """A connection, and the frames that have come on it."""

    def __init__(self, port: int, path: str) -> None:
        self._sock = socket.create_connection((HOST, port), timeout=10)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"host: {HOST}:{port}", "upgrade: websocket"]
        lines += ["connection: upgrade", "sec-websocket-version: 13", f"sec-websocket-key: {key}"]
        self._sock.sendall("\r\n".join([*lines, "", ""]).encode())
        said = b""
        while b"\r\n\r\n" not in said:
            data = self._sock.recv(65536)
            if not data:
                raise SocketError(f"the handshake ended with {said[:200]!r}")
            said += data
        if not said.startswith(b"HTTP/1.1 101 "):
            raise SocketError(f"no WebSocket: {said[:300]!r}")
        self._rest = said.partition(b"\r\n\r\n")[2]

    def send(self, frames: bytes) -> None:
        """Send whole frames."""
        self._sock.sendall(frames)

    def receive(self) -> list[bytes]:
        """The payloads of the text frames that are here; waits for one."""
        while True:
            data = self._sock.recv(1 << 20)
            if not data:
                raise SocketError("the server closed the connection")
            found, self._rest = _frames(self._rest + data)
            if found:
                return found

    def close(self) -> None:
        """Drop it."""
        self._sock.close()


def load(
    port: int, path: str, bodies: Sequence[bytes], *, in_flight: int, seconds: float
) -> Measured:
    """So many messages in flight for so long; ``bodies`` are V1's, taken in turn."""
    heads = [_head(len(body) + _PREFIX + 7) for body in bodies]
    rests = [b"," + body[1:] for body in bodies]
    sent_at: dict[bytes, float] = {}
    latencies: list[float] = []
    errors = 0
    number = 0
    count = len(bodies)
    connection = Socket(port, path)

    def frames(wanted: int, now: float) -> bytes:
        nonlocal number
        made = []
        for _ in range(wanted):
            name = b"%d" % (_FIRST + number)
            index = number % count
            made.append(b'%b{"id":%b%b' % (heads[index], name, rests[index]))
            sent_at[name] = now
            number += 1
        return b"".join(made)

    try:
        began = now = time.perf_counter()
        connection.send(frames(in_flight, now))
        end = began + seconds
        while now < end:
            answers = connection.receive()
            now = time.perf_counter()
            for answer in answers:
                latencies.append(now - sent_at.pop(answer[_PREFIX : _PREFIX + 7]))
                if not answer.startswith(_GOOD, _PREFIX + 7):
                    errors += 1
            connection.send(frames(len(answers), now))
    finally:
        connection.close()
    took = now - began
    quantiles = np.quantile(latencies, (0.5, 0.95, 0.99)) * 1e3
    return Measured(
        rps=(len(latencies) - errors) / took,
        p50_ms=float(quantiles[0]),
        p95_ms=float(quantiles[1]),
        p99_ms=float(quantiles[2]),
        errors=errors,
    )


def ask(port: int, path: str, body: bytes) -> bytes:
    """The answer to one message; raises :class:`SocketError` where it is an error."""
    connection = Socket(port, path)
    try:
        message = b'{"id":%d,%b' % (_FIRST, body[1:])
        connection.send(_head(len(message)) + message)
        [answer] = connection.receive()
    finally:
        connection.close()
    if "status" in orjson.loads(answer):
        raise SocketError(answer[:300].decode(errors="replace"))
    return answer


def _head(size: int) -> bytes:
    """Of a masked text frame."""
    if size < 126:
        return struct.pack("!BBI", 0x81, 0x80 | size, 0)
    if size < 65536:
        return struct.pack("!BBHI", 0x81, 0x80 | 126, size, 0)
    return struct.pack("!BBQI", 0x81, 0x80 | 127, size, 0)


def _frames(data: bytes) -> tuple[list[bytes], bytes]:
    """The payloads of complete text frames, and what remains."""
    found = []
    start = 0
    end = len(data)
    while end - start >= 2:
        size = data[start + 1]
        begin = start + 2
        if size == 126:
            if end - start < 4:
                break
            size = data[start + 2] << 8 | data[start + 3]
            begin = start + 4
        elif size == 127:
            if end - start < 10:
                break
            (size,) = struct.unpack_from("!Q", data, start + 2)
            begin = start + 10
        if end < begin + size:
            break
        kind = data[start] & 0x0F
        if kind == 1:
            found.append(data[begin : begin + size])
        elif kind == 8:
            raise SocketError(f"closed: {data[begin : begin + size]!r}")
        start = begin + size
    return found, data[start:]
