"""More than a server can do, and clients that hold it up: what the others get."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np

from benchmarks.harness.environments import ROOT
from benchmarks.harness.openloop import Offered, offer
from benchmarks.harness.process import Running

__all__ = ["Disturbed", "Load", "disturb", "medians", "overload", "refusal_us", "slow_sockets"]

_REFUSED = (429, 503)


@dataclass(frozen=True, kw_only=True)
class Load:
    """One run at a rate, or the medians of several."""

    rate: float
    """Requests offered a second."""
    goodput: float
    """Requests a second that were answered with 200 within their deadline."""
    refused: float
    """Share of requests answered with 429 or 503."""
    in_time: float
    """Of those that were not refused: the share answered with 200 within their deadline."""
    p95_ms: float
    """Of good answers."""
    failed: float
    """Share with any other status, or without an answer."""
    generator_late_p95_ms: float
    user: float = 0.0
    """Processor seconds a second that the server spent in its own code."""
    system: float = 0.0
    """And in the kernel."""

    def described(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def overload(
    server: Running, requests: Sequence[bytes], *, rate: float, seconds: float, deadline_s: float
) -> Load:
    """Offer ``rate`` for ``seconds``; a deadline counts from when its request was sent."""
    before = server.cpu_times()
    offered = offer(server.port, requests, rate=rate, seconds=seconds)
    user, system = (
        (now - then) / seconds for now, then in zip(server.cpu_times(), before, strict=True)
    )
    load = judged(offered, seconds=seconds, rate=rate, deadline_s=deadline_s)
    return replace(load, user=user, system=system)


def refusal_us(light: Load, heavy: Load) -> dict[str, float] | None:
    """Microseconds of ``user`` and ``system`` that a refusal takes; None where that cannot be told.

    What the heavy load takes beyond its good answers, which cost what those of the light one do.
    """
    refused = heavy.refused * heavy.rate
    if not refused or not light.goodput:
        return None
    answers = heavy.goodput / light.goodput
    user_s, system_s = heavy.user - answers * light.user, heavy.system - answers * light.system
    if user_s <= 0 or system_s <= 0:
        return None
    return {"user": 1e6 * user_s / refused, "system": 1e6 * system_s / refused}


def judged(offered: Offered, *, seconds: float, rate: float, deadline_s: float) -> Load:
    """What became of the requests, as shares."""
    count = len(offered.status)
    refused = np.isin(offered.status, _REFUSED)
    met = offered.ok & (offered.latency - offered.late <= deadline_s)
    accepted = int((~refused).sum())
    return Load(
        rate=rate,
        goodput=float(met.sum()) / seconds,
        refused=float(refused.mean()),
        in_time=float(met.sum()) / accepted if accepted else 0.0,
        p95_ms=offered.quantile_ms(0.95),
        failed=float((~offered.ok & ~refused).sum()) / count,
        generator_late_p95_ms=offered.late_p95_ms,
    )


def medians(loads: Sequence[Load]) -> Load:
    """The median of each number."""
    names = Load.__dataclass_fields__
    return Load(
        **{name: statistics.median(getattr(each, name) for each in loads) for name in names}
    )


class Disturbed(NamedTuple):
    """The same load three times."""

    without: Offered
    elsewhere: Offered
    """While slow sockets write to a process that only reads: what they cost the machine."""
    beside: Offered
    """While they write to the server."""


def disturb(
    port: int, path: str, requests: Sequence[bytes], *, rate: float, seconds: float, count: int
) -> Disturbed:
    """A load without and with ``count`` slow sockets."""

    def load() -> Offered:
        return offer(port, requests, rate=rate, seconds=seconds)

    without = load()
    with _sink() as sink, slow_sockets(sink, path, count):
        elsewhere = load()
    with slow_sockets(port, path, count):
        return Disturbed(without, elsewhere, load())


@contextlib.contextmanager
def _sink() -> Iterator[int]:
    """The port of a server that only reads."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.harness.sink"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            yield int((process.stdout or sys.stdin.buffer).readline())
        finally:
            process.kill()


@contextlib.contextmanager
def slow_sockets(port: int, path: str, count: int) -> Iterator[None]:
    """``count`` of them in a process of their own, all open when this yields.

    Raises:
        RuntimeError: they could not be opened, or their process did not last.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.harness.slow", str(port), path, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    told, stop = process.stdout, process.stdin
    try:
        if told is None or stop is None or told.readline() != b"ready\n":
            raise RuntimeError(f"{count} slow sockets could not be opened")
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the slow sockets ended with {process.returncode}")
    finally:
        for pipe in (told, stop):
            if pipe is not None:
                pipe.close()
        process.kill()
        process.wait()
