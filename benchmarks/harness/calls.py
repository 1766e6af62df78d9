"""Closed loop over gRPC: N connections that each call again when they are answered.

One thread, and some ten microseconds for each call: requests are made ahead but for the numbers of
their streams, and of an answer what is read is how it ended. Headers are sent as gRPC's own clients
send them: whole the first time, then by reference. A request is one frame, so at most 16 KiB.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence

import numpy as np
from hpack import Decoder, Encoder

from benchmarks.harness.process import HOST
from benchmarks.harness.wrk import Measured

__all__ = ["CallError", "ask", "load"]

_HEAD = struct.Struct(">HBBBL")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _FAREWELL, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_LEAVE = 1 << 20
"""Bytes of answers after which a server is given leave for as many more."""
_TIMEOUT_S = 10


class CallError(OSError):
    """A server did not answer as one of gRPC."""


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


class Connection:
    """One connection with at most one call on it."""

    def __init__(self, port: int, path: str) -> None:
        self.sock = socket.create_connection((HOST, port), timeout=_TIMEOUT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self.leaving = False
        """Whether the server wants the next call on another connection."""
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path)]
        headers += [(":authority", f"{HOST}:{port}"), ("content-type", "application/grpc")]
        headers += [("te", "trailers"), ("user-agent", "bench")]
        encoder = Encoder()
        first = encoder.encode(headers)
        self._blocks = [encoder.encode(headers), first]
        self._decoder = Decoder()
        self._good: set[bytes] = set()
        """Blocks that say that a call went well, and refer to nothing that changes."""
        self._stream = -1
        self._rest = b""
        self._message = b""
        self._received = 0
        leave = _frame(_WINDOW, 0, 0, struct.pack(">L", 2 * _LEAVE))
        window = _frame(_SETTINGS, 0, 0, struct.pack(">HL", 4, 2 * _LEAVE))
        self.sock.sendall(_PREFACE + window + leave)

    def call(self, message: bytes) -> None:
        """Begin a call; ``message`` with its prefix."""
        self._stream += 2
        block = self._blocks.pop() if len(self._blocks) > 1 else self._blocks[0]
        self._message = b""
        headers = _frame(_HEADERS, 0x4, self._stream, block)
        self.sock.sendall(headers + _frame(_DATA, 0x1, self._stream, message))

    def take(self) -> bool | None:
        """Read; whether the call ended well, or None while it has not.

        Raises:
            CallError: the connection has ended.
        """
        data = self.sock.recv(262_144)
        if not data:
            raise CallError("the server closed the connection")
        data = self._rest + data
        place, end = 0, len(data)
        ended: bool | None = None
        while end - place >= 9:
            high, low, kind, flags, _ = _HEAD.unpack_from(data, place)
            begin = place + 9
            stop = begin + (high << 8 | low)
            if stop > end:
                break
            place = stop
            if kind == _HEADERS:
                well = self._is_good(data[begin:stop])
                if flags & 0x1:
                    ended = well
            elif kind == _DATA:
                self._message += data[begin:stop]
                self._received += stop - begin
            elif kind == _RESET:
                ended = ended is True
            elif kind != _WINDOW:
                self._control(kind, flags, data[begin:stop])
        self._rest = data[place:]
        if self._received > _LEAVE:
            self.sock.sendall(_frame(_WINDOW, 0, 0, struct.pack(">L", self._received)))
            self._received = 0
        return ended

    @property
    def message(self) -> bytes:
        """Of the last call's answer, without its prefix."""
        return self._message[5:]

    def _is_good(self, block: bytes) -> bool:
        if block in self._good:
            return True
        before = len(self._decoder.header_table.dynamic_entries)
        headers = dict(self._decoder.decode(block, raw=True))
        well = headers.get(b"grpc-status", b"0") == b"0"
        if well and len(self._decoder.header_table.dynamic_entries) == before:
            self._good.add(block)
        return well

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & 0x1:
            self.sock.sendall(_frame(_SETTINGS, 0x1, 0))
        elif kind == _PING and not flags & 0x1:
            self.sock.sendall(_frame(_PING, 0x1, 0, payload))
        elif kind == _FAREWELL:
            self.leaving = True


class _Loop:
    """Connections that call again and again."""

    def __init__(self, port: int, path: str, bodies: Sequence[bytes]) -> None:
        self._where = port, path
        self._messages = [b"\0" + len(body).to_bytes(4, "big") + body for body in bodies]
        self._number = 0
        self._by_file: dict[int, Connection] = {}
        self._poll = select.epoll()
        self.latencies: list[float] = []
        self.errors = 0

    def connect(self) -> None:
        connection = Connection(*self._where)
        self._by_file[connection.sock.fileno()] = connection
        self._poll.register(connection.sock, select.EPOLLIN)
        self._begin(connection)

    def step(self) -> None:
        """Take what has come; whoever is answered calls again."""
        ready = self._poll.poll(_TIMEOUT_S)
        if not ready:
            raise CallError(f"no answer within {_TIMEOUT_S} s")
        for file, _ in ready:
            connection = self._by_file[file]
            well = connection.take()
            if well is None:
                continue
            self.latencies.append(time.perf_counter() - connection.sent_at)
            self.errors += not well
            if connection.leaving:
                self._drop(connection)
                self.connect()
            else:
                self._begin(connection)

    def close(self) -> None:
        for connection in list(self._by_file.values()):
            self._drop(connection)
        self._poll.close()

    def _begin(self, connection: Connection) -> None:
        connection.sent_at = time.perf_counter()
        connection.call(self._messages[self._number % len(self._messages)])
        self._number += 1

    def _drop(self, connection: Connection) -> None:
        del self._by_file[connection.sock.fileno()]
        self._poll.unregister(connection.sock)
        connection.sock.close()


def load(
    port: int, path: str, bodies: Sequence[bytes], *, connections: int, seconds: float
) -> Measured:
    """So many connections for so long; ``bodies`` are messages, taken in turn."""
    loop = _Loop(port, path, bodies)
    try:
        began = time.perf_counter()
        for _ in range(connections):
            loop.connect()
        while (took := time.perf_counter() - began) < seconds:
            loop.step()
    finally:
        loop.close()
    quantiles = np.quantile(loop.latencies, (0.5, 0.95, 0.99)) * 1e3
    return Measured(
        rps=(len(loop.latencies) - loop.errors) / took,
        p50_ms=float(quantiles[0]),
        p95_ms=float(quantiles[1]),
        p99_ms=float(quantiles[2]),
        errors=loop.errors,
    )


def ask(port: int, path: str, body: bytes) -> bytes:
    """The message that answers one; raises :class:`CallError` where it is refused."""
    connection = Connection(port, path)
    try:
        connection.call(b"\0" + len(body).to_bytes(4, "big") + body)
        while (well := connection.take()) is None:
            pass
        if not well:
            raise CallError("the call was refused")
        return connection.message
    finally:
        connection.sock.close()
