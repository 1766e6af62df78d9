"""Sockets that write their requests byte by byte, as slow or hostile clients do.

``python -m benchmarks.harness.slow PORT PATH COUNT`` says ``ready`` once each has written, and goes on
until its standard input ends. A socket that the server closes is opened again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time

HOST = "127.0.0.1"
EVERY_S = 1.0
"""Each socket writes one byte so often."""
BODY_BYTES = 1000


class _Slow:
    """One socket, and where in its request it is."""

    def __init__(self, port: int, path: str) -> None:
        head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
        self._request = f"{head}content-length: {BODY_BYTES}\r\n\r\n{'1' * BODY_BYTES}".encode()
        self._sent = self._request.index(b"\r\n\r\n") + 4
        self._sock = socket.create_connection((HOST, port), timeout=10)
        self._sock.sendall(self._request[: self._sent])
        self._sock.setblocking(False)

    def write(self) -> bool:
        """One more byte; false once the server has hung up or answered."""
        try:
            if self._sock.recv(65536):
                return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        else:
            return False
        with contextlib.suppress(OSError):
            self._sock.send(self._request[self._sent : self._sent + 1])
            self._sent = min(self._sent + 1, len(self._request) - 1)
            return True
        return False

    def close(self) -> None:
        """Give the descriptor back."""
        self._sock.close()


def main() -> int:
    """Open them all and keep them slow."""
    port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    slow = [_Slow(port, path) for _ in range(count)]
    written, due = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], max(due - time.monotonic(), 0))[0]:
        # One socket after the other, evenly over EVERY_S: no burst of its own making.
        due += EVERY_S / count
        index = written % count
        if not slow[index].write():
            slow[index].close()
            slow[index] = _Slow(port, path)
        written += 1
        if written == count:
            print("ready", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
