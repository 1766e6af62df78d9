"""What the charts show, as numbers: few enough to draw, and none of them made up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headgate.records import Samples
from headgate.stats import quantile

__all__ = [
    "Blocks",
    "Course",
    "blocks",
    "distribution",
    "latencies_ms",
    "nines",
    "over_time",
    "thinned",
]

Array = npt.NDArray[np.float64]
_POINTS = 300
"""Of a line: as many as a chart has columns of pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """One point for each block, or for each few of them."""

    round: Array
    p95_ms: Array
    """Infinite where more than 5 % had no right answer."""
    failed: npt.NDArray[np.int64]
    each: int
    """Rounds in one point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Latency over time."""

    at_s: Array
    """Middle of each piece, seconds from the start of the load."""
    p50_ms: Array
    p95_ms: Array
    step_s: float
    """Length of a piece."""


def latencies_ms(samples: Samples) -> Array:
    """One for each request; infinite without a right answer, and where the time is no number."""
    known = samples.ok & ~np.isnan(samples.latency_s)
    return np.where(known, samples.latency_s * 1000, math.inf)


def nines(share: npt.ArrayLike) -> Array:
    """Where a share from 0 to below 1 is drawn: 0.9 at 1, 0.99 at 2, 0.999 at 3."""
    return np.asarray(-np.log10(1 - np.asarray(share, dtype=np.float64)))


def distribution(latency_ms: Array) -> tuple[Array, Array]:
    """Latency and the share of requests answered within it, evenly along :func:`nines`.

    The unanswered count: a curve ends where they begin.
    """
    ordered = np.sort(latency_ms)
    count, answered = len(ordered), int(np.isfinite(ordered).sum())
    if not answered:
        return np.empty(0), np.empty(0)
    # n + 1, so that the slowest of all has a place on an axis that never reaches 1.
    heights = np.linspace(0, float(nines(answered / (count + 1))), _POINTS)
    share = 1 - 10.0**-heights
    # One microsecond at least, for a logarithm.
    ordered = np.maximum(ordered, 1e-3)
    ranks = np.clip(np.ceil(share * (count + 1)).astype(np.int64), 1, answered)
    ranks = np.unique(ranks)
    return ordered[ranks - 1], ranks / (count + 1)


def blocks(samples: Samples) -> Blocks:
    """P95 and errors of each round's block."""
    latency_ms = latencies_ms(samples)
    rounds = np.unique(samples.block)
    each = max(1, math.ceil(len(rounds) / _POINTS))
    group = np.searchsorted(rounds, samples.block) // each
    starts = rounds[::each]
    parts = [latency_ms[group == index] for index in range(len(starts))]
    return Blocks(
        round=starts.astype(np.float64),
        p95_ms=np.array([quantile(part, 0.95) for part in parts]),
        failed=np.array([int(np.isinf(part).sum()) for part in parts], dtype=np.int64),
        each=each,
    )


def over_time(samples: Samples) -> Course:
    """P50 and P95 by the intended send time, in pieces of at least 20 requests on average."""
    known = np.isfinite(samples.intended_s)
    latency_ms, at_s = latencies_ms(samples)[known], samples.intended_s[known]
    if not len(at_s):
        return Course(at_s=at_s, p50_ms=at_s, p95_ms=at_s, step_s=0.0)
    first, last = float(at_s.min()), float(at_s.max())
    pieces = int(np.clip(len(at_s) // 20, 1, 120))
    edges = np.linspace(first, np.nextafter(last, math.inf), pieces + 1)
    piece = np.clip(np.searchsorted(edges, at_s, side="right") - 1, 0, pieces - 1)
    filled = [index for index in range(pieces) if np.any(piece == index)]
    middle = (edges[:-1] + edges[1:]) / 2
    return Course(
        at_s=middle[filled],
        p50_ms=np.array([quantile(latency_ms[piece == index], 0.5) for index in filled]),
        p95_ms=np.array([quantile(latency_ms[piece == index], 0.95) for index in filled]),
        step_s=(last - first) / pieces,
    )


def thinned(block: npt.NDArray[np.int64], value: Array) -> tuple[Array, Array]:
    """At most as many points as can be seen: the mean of each few, at the first of them."""
    each = max(1, math.ceil(len(block) / _POINTS))
    starts = np.arange(0, len(block), each)
    counts = np.diff(np.append(starts, len(block)))
    return block[starts].astype(np.float64), np.add.reduceat(value, starts) / counts
