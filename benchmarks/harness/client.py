"""HTTP connections for one request at a time, many of them in one thread.

One request costs some 20 µs of processor time, so one process keeps to a schedule of 10,000 a
second. ``select`` waits on ``epoll``'s own descriptor: it has microseconds where ``epoll`` has
milliseconds.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
from collections.abc import Iterator

__all__ = ["Answer", "Client", "Connection", "request_bytes"]

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)

Answer = tuple[int, bytes]
"""Status and body; status 0 where the connection was lost."""


def request_bytes(path: str, body: bytes, **headers: str) -> bytes:
    """A POST of JSON; an underscore in a header's name stands for a hyphen."""
    lines = [f"POST {path} HTTP/1.1", f"host: {HOST}", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Connection:
    """One kept-alive connection."""

    __slots__ = ("buffer", "connected", "key", "request", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect_ex((HOST, port))
        self.connected = False
        self.request: bytes | None = None
        """Waits for the connection."""
        self.buffer = b""
        self.key = -1
        """What the caller calls the request in flight; -1 while there is none."""

    def take_answer(self) -> tuple[Answer, bool] | None:
        """The answer and whether the server closes; None until it is complete."""
        try:
            data = self.sock.recv(262_144)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return (0, b""), True
        self.buffer = data = self.buffer + data if self.buffer else data
        end = data.find(b"\r\n\r\n")
        found = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
        if end >= 0 and found is None:
            return (0, data[:200]), True  # nobody here answers in chunks
        if found is None or len(data) < (whole := end + 4 + int(found[1])):
            return None
        self.buffer = b""
        answer = (int(data[9:12]), data[end + 4 : whole])
        return answer, _CLOSE.search(data, 0, end + 2) is not None


class Client:
    """Connections to one port."""

    def __init__(self, port: int, connections: int) -> None:
        """``connections`` are open from the start."""
        self._port = port
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self.idle = [self._connect() for _ in range(connections)]

    @property
    def size(self) -> int:
        """Connections now."""
        return len(self._open)

    def send(self, request: bytes, key: int) -> None:
        """Send on an idle connection, or on a new one; OSError where there can be no new one."""
        connection = self.idle.pop() if self.idle else self._connect()
        connection.key = key
        if connection.connected:
            self._write(connection, request)
        else:
            connection.request = request

    def answers(self, timeout: float) -> Iterator[tuple[int, Answer]]:
        """What comes within ``timeout`` seconds, by key; returns after the first that comes."""
        if timeout > 0:
            select.select([self._epoll], [], [], timeout)
        for number, events in self._epoll.poll(0):
            connection = self._open.get(number)
            if connection is None:
                continue
            if not connection.connected and events & select.EPOLLOUT:
                self._on_connected(connection)
            if not events & ~select.EPOLLOUT:
                continue
            taken = connection.take_answer()
            if taken is None:
                continue
            answer, closes = taken
            key, connection.key = connection.key, -1
            if closes:
                self._forget(connection)
            else:
                self.idle.append(connection)
            if key >= 0:
                yield key, answer

    def close(self) -> None:
        """Drop every connection, answered or not."""
        for connection in list(self._open.values()):
            connection.sock.close()
        self._open.clear()
        self.idle.clear()
        self._epoll.close()

    def _connect(self) -> Connection:
        connection = Connection(self._port)
        self._open[connection.sock.fileno()] = connection
        self._epoll.register(connection.sock, select.EPOLLIN | select.EPOLLOUT)
        return connection

    def _on_connected(self, connection: Connection) -> None:
        connection.connected = True
        self._epoll.modify(connection.sock, select.EPOLLIN)
        request, connection.request = connection.request, None
        if request is not None:
            self._write(connection, request)

    def _write(self, connection: Connection, request: bytes) -> None:
        with contextlib.suppress(OSError):
            # Requests are smaller than what a socket's buffer takes at once.
            if connection.sock.send(request) == len(request):
                return
            connection.sock.shutdown(socket.SHUT_RDWR)
        # A broken connection is readable, and told as an answer that was lost.

    def _forget(self, connection: Connection) -> None:
        del self._open[connection.sock.fileno()]
        with contextlib.suppress(ValueError):
            self.idle.remove(connection)
        connection.sock.close()
