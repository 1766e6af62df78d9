"""Requests, one after the other → arrays, sorted and cut into blocks."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headgate.errors import InputError
from headgate.records import Samples, Side

__all__ = ["Requests"]

_BLOCK_S = 2.0
_FEWEST, _MOST = 6, 200
"""Blocks: fewer have no interval, more add nothing to it."""
_EACH = 100
"""Requests in a block, where there are no times."""
_CAUSES = 1_000
"""Different causes of errors that are kept; a server may make up a new one for each request."""
_LONGEST = 200
"""Characters of a cause."""
_LONGEST_S = 7 * 86_400.0


class Requests:
    """What was read so far."""

    def __init__(self) -> None:
        self.latency_s = array("d")
        self.at_s = array("d")
        """Send times, on any clock; none at all where the file has none."""
        self.ok = bytearray()
        self.block: array[int] | None = None
        self.errors: Counter[str] = Counter()

    def add(self, latency_s: float, cause: str = "") -> None:
        """One request; with a cause it failed, and its latency does not count."""
        self.latency_s.append(math.inf if cause else latency_s)
        self.ok.append(not cause)
        if cause:
            self._count(cause)

    def fail_last(self, cause: str) -> None:
        """Of the request added last, it turns out that it failed."""
        if self.ok and self.ok[-1]:
            self.ok[-1] = False
            self.latency_s[-1] = math.inf
            self._count(cause)

    def _count(self, cause: str) -> None:
        cause = " ".join(cause.split())[:_LONGEST]
        if cause not in self.errors and len(self.errors) >= _CAUSES:
            cause = "other causes"
        self.errors[cause] += 1

    def side(self, path: Path, name: str) -> Side:
        """All of it, in the order of the send times.

        Raises:
            InputError: there is no request, the times span weeks, or blocks overlap.
        """
        count = len(self.ok)
        if not count:
            raise InputError("holds no request", where=str(path), remedy="give one with samples")
        at_s = np.frombuffer(self.at_s) if self.at_s else np.zeros(count)
        order = np.argsort(at_s, kind="stable")
        at_s = at_s[order] - at_s[order[0]]
        span_s = float(at_s[-1])
        if span_s > _LONGEST_S:
            raise InputError(
                f"its requests span {span_s / 86_400:,.0f} days",
                where=str(path),
                remedy="name the unit in the time's column: time_ms or time_s",
            )
        named = self._named(path, order)
        ok = np.frombuffer(self.ok, dtype=np.bool_)[order]
        samples = Samples(
            model="",
            release=name,
            block=_cut(at_s) if named is None else named,
            intended_s=at_s,
            sent_s=at_s,
            latency_s=np.frombuffer(self.latency_s)[order],
            ok=ok,
            matched=ok,
            rows=np.ones(count, dtype=np.int64),
            # One more gap than there are between them, or the last has no time of its own.
            duration_s=span_s * count / (count - 1) if count > 1 else 0.0,
            errors=dict(self.errors),
        )
        return Side(release=name, samples=(samples,), paired=named is not None)

    def _named(self, path: Path, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
        """The file's own blocks, rising."""
        if self.block is None:
            return None
        block = np.frombuffer(self.block, dtype=np.int64)[order]
        if np.any(np.diff(block) < 0):
            raise InputError(
                "its blocks do not follow one another",
                where=f"{path}, column block",
                remedy="number the rounds in the order of their times",
            )
        return block


def _cut(at_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Equal pieces of about 2 s; of the requests, where there are no times."""
    count, span_s = len(at_s), float(at_s[-1])
    if span_s > 0:
        pieces = int(np.clip(round(span_s / _BLOCK_S), _FEWEST, _MOST))
        return np.minimum(at_s / span_s * pieces, pieces - 1).astype(np.int64)
    pieces = min(count, int(np.clip(count // _EACH, _FEWEST, _MOST)))
    return np.arange(count, dtype=np.int64) * pieces // count
