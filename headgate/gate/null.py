"""An endpoint that does nothing: what the generator sees of it is the generator's own.

Run as a process of its own, it says its port and answers until its standard input ends. It
imports little of ours there, and so is up at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import cast

import httptools
import uvloop

from headgate.errors import GateError

__all__ = ["null_endpoint"]

_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 18\r\n\r\n"
    b'{"predictions":[]}'
)


@contextlib.contextmanager
def null_endpoint() -> Iterator[str]:
    """Its URL, while it runs; raises GateError where it cannot."""
    with subprocess.Popen(
        # Without its folder in the path, whose modules have names of others.
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,  # what interrupts the gate does not go by this
    ) as process:
        try:
            port = process.stdout.readline().decode().strip() if process.stdout else ""
            if not port.isdecimal():
                raise GateError(
                    "the endpoint that the load generator is calibrated with did not start",
                    where=__file__,
                    remedy=f"see what this says: {sys.executable} -P {__file__}",
                )
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


class _Nothing(asyncio.Protocol):
    """Answers every request alike."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_complete(self) -> None:
        self.transport.write(_ANSWER)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    server = await loop.create_server(_Nothing, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await ended.wait()


def run() -> None:
    """Serve."""
    uvloop.run(_serve())


if __name__ == "__main__":
    run()
