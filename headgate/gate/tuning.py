"""Which setting is best, one thing changed at a time; and which of two is better. The first is pure.

Coordinate descent: of each thing that can be set every value is tried against the best so far, then
once more from there, until nothing is better. A tie keeps what is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from headgate.config import ServingConfig
from headgate.gate.load import GENERATOR, Load
from headgate.gate.plan import Target
from headgate.gate.schedule import closed_block
from headgate.gate.stepping import Stepping
from headgate.gate.subject import Subject
from headgate.gate.tally import Tally, saturated
from headgate.records import Setting
from headgate.stats import Estimate, mean_difference, nominal_level

__all__ = ["Descent", "choices", "compare"]

_BLOCK_S = 1.0
_LOOKS = (6, 10, 16)
"""Pairs of blocks after which the two are compared."""
_MISTAKE = 0.01
"""Chance that a setting no better than the best so far is taken for better; and the reverse."""
_BATCHES = (16, 128)
"""Rows in one call, beside what is set."""


def choices(cores: int, models: Sequence[ServingConfig] = ()) -> dict[str, tuple[int, ...]]:
    """What to try on a machine with so many cores, by the name of the setting.

    What ``models`` all have already is left out.
    """
    counts = tuple(sorted({1, 2, max(1, cores // 2), cores} & set(range(1, cores + 1))))
    values = {
        "workers": counts,
        "threads": counts,
        "parallel_calls": counts,
        "max_batch_rows": _BATCHES,
    }
    for name in ("parallel_calls", "max_batch_rows"):
        known = {getattr(model, name) for model in models}
        if len(known) == 1:
            values[name] = tuple(value for value in values[name] if value not in known)
    return values


class Descent:
    """Challenges the best setting so far: :meth:`next`, then :meth:`tell`."""

    def __init__(self, start: Setting, values: Mapping[str, Sequence[int]], *, cores: int) -> None:
        """``start`` is what is set now; more than twice as many threads as ``cores`` are not tried."""
        self.best = start
        self._values = values
        self._busy = 2 * cores
        self._tried = {start}
        self._now = start

    def next(self) -> Setting | None:
        """Who is tried against :attr:`best` now; None where nobody is left."""
        for name, values in self._values.items():
            for value in values:
                setting = msgspec.structs.replace(self.best, **{name: value})
                calls = setting.threads * (setting.parallel_calls or 1)
                if setting not in self._tried and setting.workers * calls <= self._busy:
                    self._now = setting
                    return setting
        return None

    def tell(self, *, better: bool) -> None:
        """Whether it was better than the best, beyond the noise."""
        self._tried.add(self._now)
        if better:
            self.best = self._now


def compare(
    now: Subject,
    other: Subject,
    how: Stepping,
    *,
    workdir: Path,
    locustfile: Path = GENERATOR,
    ends_s: float = float("inf"),
    seed: int = 0,
) -> Estimate:
    """How many times as many right answers ``other`` gives when there is always a next request.

    How long they take follows: so many are under way as there are connections (Little's law). In pairs of closed-loop blocks in random order, Student's interval of the mean log ratio, looked
    at up to three times; the looks share one allowance, see :func:`headgate.stats.nominal_level`.
    It ends as soon as the interval leaves out 1, or after ``ends_s``.

    Args:
        now: What is set.
        other: What may be better; the same models.
        how: Its connections and generators.
        workdir: Where Locust's output goes meanwhile; nothing stays.
        locustfile: Carries out the blocks.
        ends_s: When there is no more time, on the clock of :func:`time.monotonic`.
        seed: Draws the order.

    Raises:
        ServingError: one of them is gone.
        GateError: the generator crashed, was killed or hung.
    """
    targets = [
        Target(
            url=subject.url,
            asks=tuple(ask for asked in subject.asked for ask in asked.asks),
            headers=subject.headers,
        )
        for subject in (now, other)
    ]
    with Load(targets, workdir=workdir, locustfile=locustfile, generators=how.generators) as load:
        pair = _Pair(load, (now, other), how, np.random.default_rng(seed))
        return pair.compare(ends_s)


@dataclass(slots=True)
class _Pair:
    """Two settings beside each other."""

    load: Load
    subjects: tuple[Subject, Subject]
    how: Stepping
    random: np.random.Generator

    def compare(self, ends_s: float) -> Estimate:
        """Block by block, until it is clear or there is no more time."""
        found = Estimate(math.nan, 0.0, math.inf, 0)
        rates: tuple[list[float], list[float]] = ([], [])
        shares: list[float] = []
        for index in (0, 1):
            self.block(index)  # wakes it up
        for pairs in range(1, _LOOKS[-1] + 1):
            for index in self.random.permutation(2).tolist():
                rates[index].append(self.block(index))
            if pairs in _LOOKS:
                shares.append(pairs / _LOOKS[-1])
                p = nominal_level(shares, _MISTAKE)
                found = _ratio(rates[1], rates[0], p)
                if found.low > 1 or found.high < 1:
                    break
            if time.monotonic() > ends_s:
                break
        return found

    def block(self, index: int) -> float:
        """Right answers per second of one of them, in closed loop."""
        tally = Tally(self.subjects[index])
        block = closed_block(
            index,
            tally.asks,
            seconds=_BLOCK_S,
            connections=self.how.connections * self.how.generators,
            random=self.random,
        )
        seen = self.load.send(block)
        self.subjects[index].watch()
        return sum(
            saturated(np.array(share.done_s), _BLOCK_S, compared.ok & compared.matched)
            for _, share, compared in tally.by_model(seen)
        )


def _ratio(first: Sequence[float], second: Sequence[float], p: float) -> Estimate:
    """Geometric mean of ``first / second``; no answer in a block counts as half of one."""
    least = 0.5 / _BLOCK_S
    logs = [np.log(np.maximum(least, np.array(each))) for each in (first, second)]
    found = mean_difference(logs[0], logs[1], p, p)
    low, high = math.exp(found.low), math.exp(found.high) if found.high < 700 else math.inf
    return Estimate(math.exp(found.value), low, high, found.pairs)
