"""What the launcher itself answers while no worker can: the truth, at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable

__all__ = ["StandIn"]

_READ_S = 2.0
_MOST = 256
_HEADER_BYTES = 16_384
_ALIVE = {b"/livez", b"/healthz", b"/v2/health/live"}


class StandIn:
    """Answers one request per connection with 503 and closes.

    The launcher is alive and scrapable meanwhile, so the liveness paths get 200 and ``/metrics``
    the metrics; everything else, ``/readyz`` first of all, is 503 with ``Retry-After``.
    """

    def __init__(self, metrics: Callable[[], bytes]) -> None:
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, sock: socket.socket, why: str) -> None:
        """Answer on ``sock`` and close it; more than 256 at a time are closed unanswered."""
        if len(self._tasks) >= _MOST:
            sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._answer(sock, why))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for the answers under way; each is bounded by two seconds."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _answer(self, sock: socket.socket, why: str) -> None:
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        with sock, contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_READ_S):
                head = b""
                while b"\r\n\r\n" not in head and len(head) < _HEADER_BYTES:
                    data = await loop.sock_recv(sock, 4096)
                    if not data:
                        return
                    head += data
                await loop.sock_sendall(sock, self._response(head, why))
                sock.shutdown(socket.SHUT_WR)
                # Closing with unread bytes would reset the connection and lose the answer.
                while await loop.sock_recv(sock, 65536):
                    pass

    def _response(self, head: bytes, why: str) -> bytes:
        path = head.split(b" ", 2)[1].partition(b"?")[0] if head.count(b" ") > 1 else b""
        extra = ""
        if path in _ALIVE:
            status, kind, body = "200 OK", "text/plain", b"\n"
        elif path == b"/metrics":
            status, kind, body = "200 OK", "text/plain; version=0.0.4", self._metrics()
        else:
            status, kind, extra = (
                "503 Service Unavailable",
                "application/json",
                "retry-after: 1\r\n",
            )
            body = json.dumps({"error": why, "where": "", "remedy": "try again shortly"}).encode()
        return (
            f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
            f"{extra}connection: close\r\n\r\n"
        ).encode() + body
