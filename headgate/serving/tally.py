"""Counts kept in plain Python and carried over to Prometheus now and then.

A Prometheus counter that several processes share costs about 1 µs a step and a histogram more,
with a lock and a write to a mapped file. A request takes a dozen steps, so they are counted here
first, at a tenth of that, and carried over once a second and before each scrape of this worker.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

__all__ = ["Bins", "Count"]


class Count:
    """A count on its way to one child of a Prometheus counter."""

    __slots__ = ("_child", "steps")

    def __init__(self, child: Any) -> None:
        self._child = child
        self.steps = 0
        """Add to it what is to be counted."""

    def flush(self) -> None:
        """Carry over."""
        steps, self.steps = self.steps, 0
        if steps:
            self._child.inc(steps)


class Bins:
    """Observations on their way to one child of a Prometheus histogram."""

    __slots__ = ("_bounds", "_child", "_counts", "_sum")

    def __init__(self, child: Any, bounds: Sequence[float]) -> None:
        """``bounds`` are the histogram's upper bounds, without infinity."""
        self._child = child
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count ``value``."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def flush(self) -> None:
        """Carry over."""
        if not any(self._counts):
            return
        counts, self._counts = self._counts, [0] * len(self._counts)
        total, self._sum = self._sum, 0.0
        # Histogram.observe() takes one at a time; this is its body, for many.
        for bucket, count in zip(self._child._buckets, counts, strict=True):  # noqa: SLF001
            if count:
                bucket.inc(count)
        self._child._sum.inc(total)  # noqa: SLF001
