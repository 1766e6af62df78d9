"""Another process's load on the same machine, switched on and off at random."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["neighbour"]

_ROOT = Path(__file__).resolve().parents[2]
_ON_S = (1.0, 12.0)
_OFF_S = (2.0, 20.0)


@contextlib.contextmanager
def neighbour(seed: int) -> Iterator[None]:
    """One core busy now and then, while this lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.harness.neighbour", str(seed)],
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.kill()


def _disturb(seed: int) -> None:
    draw = random.Random(seed)
    ends = time.monotonic() + 3600
    while time.monotonic() < ends:
        time.sleep(draw.uniform(*_OFF_S))
        until = time.monotonic() + draw.uniform(*_ON_S)
        while time.monotonic() < until:
            sum(range(1000))


if __name__ == "__main__":
    _disturb(int(sys.argv[1]))
