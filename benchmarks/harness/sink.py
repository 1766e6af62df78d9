"""A server that reads and does nothing: what slow sockets cost the machine, whoever serves them.

``python -m benchmarks.harness.sink`` prints its port and reads until its standard input ends.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys


def main() -> int:
    """Accept and read."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    epoll = select.epoll()
    for file in (listener, sys.stdin):
        epoll.register(file.fileno(), select.EPOLLIN)
    open_: dict[int, socket.socket] = {}
    print(listener.getsockname()[1], flush=True)
    while True:
        for number, _ in epoll.poll():
            if number == sys.stdin.fileno():
                return 0
            if number == listener.fileno():
                with contextlib.suppress(BlockingIOError):
                    sock = listener.accept()[0]
                    open_[sock.fileno()] = sock
                    epoll.register(sock.fileno(), select.EPOLLIN)
            elif not open_[number].recv(65536):
                open_.pop(number).close()


if __name__ == "__main__":
    sys.exit(main())
