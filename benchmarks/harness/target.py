"""A server with a known latency, error rate and share of wrong answers: what a gate should find out.

Run as a process of its own, with its settings as JSON; it says its port and serves until its standard
input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

__all__ = ["Behaviour", "target"]

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How a target behaves."""

    p95_ms: float = 20.0
    """Of its service time, which is lognormal."""
    spread: float = 0.35
    """Standard deviation of the service time's logarithm."""
    spin_ms: float = 1.0
    """Of that, how long it keeps the processor busy."""
    error_rate: float = 0.0
    wrong_rate: float = 0.0
    seed: int = 0


@contextlib.contextmanager
def target(behaviour: Behaviour) -> Iterator[str]:
    """Its URL, while it runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.harness.target", json.dumps(asdict(behaviour))],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            port = process.stdout.readline() if process.stdout else b""
            yield f"http://127.0.0.1:{int(port)}/predict"
        finally:
            process.kill()


class _Target:
    def __init__(self, behaviour: Behaviour) -> None:
        self.how = behaviour
        self.random = np.random.default_rng(behaviour.seed)
        # The 95 % quantile of a standard normal is 1.6449.
        self.median_s = behaviour.p95_ms / 1e3 / np.exp(1.6449 * behaviour.spread)

    async def answer(self, body: bytes) -> tuple[int, bytes]:
        """After its service time."""
        how = self.how
        began = time.perf_counter()
        service_s = self.median_s * np.exp(how.spread * self.random.standard_normal())
        while time.perf_counter() - began < how.spin_ms / 1e3:
            pass
        await asyncio.sleep(max(0.0, service_s - (time.perf_counter() - began)))
        if self.random.random() < how.error_rate:
            return 500, b'{"error":"out of memory"}'
        value = json.loads(body)["x"] * 2
        if self.random.random() < how.wrong_rate:
            value += 1
        return 200, b'{"prediction":%d}' % value

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                status, body = await self.answer(await reader.readexactly(length))
                writer.write(
                    b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (status, len(body), body)
                )
                await writer.drain()
        writer.close()


async def _serve(behaviour: Behaviour) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    server = await asyncio.start_server(_Target(behaviour).connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve(Behaviour(**json.loads(sys.argv[1]))))
