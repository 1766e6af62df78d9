"""The highest rate that holds, found by steps that may mislead. Pure.

A bisection on a grid of rates. One bad step proves nothing on a shared machine, so a rate counts as
too high only once it has failed twice more often than it has held; and the answer, the last rate
that holds beside the first that does not, is settled only at a lead of three steps for each.
With steps that mislead one time in five, a lead of three is wrong one time in 65: the gambler's
ruin, 1 / (1 + 4^3) (W. Feller, "An Introduction to Probability Theory", vol. 1, 3rd ed., XIV.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from headgate.records import Capacity, Step, StepOutcome

__all__ = ["GRID", "LEAST_RPS", "Search"]

GRID = 1.04
"""Factor between neighbouring rates."""
LEAST_RPS = 2.0
"""Nothing slower is tried, requests per second."""
_TOO_HIGH = 2
"""Lead of the failed steps at which a rate is too high, for now."""
_SETTLED = 3
"""Lead at which one of the two rates that the answer lies between is settled."""
_MOST = 9
"""Steps at one rate; then the majority decides."""
_JUMPS = (6, 12, 18)
"""Grid points of the first jump away from the start, of the second, and of each further one: the
last doubles or halves the rate."""


@dataclass(slots=True)
class _Level:
    held: int = 0
    failed: int = 0
    limited: int = 0

    @property
    def trials(self) -> int:
        return self.held + self.failed

    @property
    def lead(self) -> int:
        return self.held - self.failed

    @property
    def settled(self) -> bool:
        return abs(self.lead) >= _SETTLED or (self.trials >= _MOST and self.lead != 0)

    @property
    def fails(self) -> bool:
        return self.lead <= -_TOO_HIGH or (self.trials >= _MOST and self.lead < 0)

    @property
    def holds(self) -> bool:
        return self.lead >= 1

    @property
    def barred(self) -> bool:
        """Whether the generator cannot ask so much: far more often than it could."""
        most = self.limited + self.trials >= 2 * _MOST and not self.settled
        return most or self.limited - self.trials >= _TOO_HIGH

    @property
    def open(self) -> bool:
        tried = self.trials + self.limited > 0
        return tried and not (self.fails or self.holds or self.barred)


class Search:
    """Asks for one step after the other: :meth:`next`, then :meth:`tell`."""

    def __init__(self, start: float, *, least: float = LEAST_RPS, most: float = math.inf) -> None:
        """Begin near ``start`` requests per second, between ``least`` and ``most``.

        Raises:
            ValueError: not ``0 < least <= most``.
        """
        if not 0 < least <= most:
            raise ValueError(f"no rates from {least} to {most}")
        self._least = least
        self._bar = math.inf if math.isinf(most) else self._index(most, math.floor) + 1
        """The first level that may not be tried."""
        first = self._index(max(start, least), round) if math.isfinite(start) else 0
        self._start = int(min(first, self._bar - 1))
        self._levels: dict[int, _Level] = {}
        self._steps: list[Step] = []

    def next(self) -> float | None:
        """The rate to try now; None where all is settled."""
        level = self._next()
        return None if level is None else self.rate(level)

    def tell(self, step: Step) -> None:
        """What came of a step at a rate that :meth:`next` asked for."""
        self._steps.append(step)
        level = self._levels.setdefault(self._index(step.rate, round), _Level())
        level.held += step.outcome is StepOutcome.HELD
        level.failed += step.outcome is StepOutcome.FAILED
        level.limited += step.outcome is StepOutcome.LIMITED

    def found(self) -> Capacity:
        """All that is known by now."""
        low, top = self._edges()
        below = self._levels[low] if low is not None else _Level()
        above = self._levels.get(int(top)) if math.isfinite(top) else None
        fails = above is not None and above.fails
        why, limited = "", ""
        if fails and above is not None:
            why = self._said(int(top), StepOutcome.FAILED)
        elif math.isfinite(top) and self._next() is None:
            limited = self._said(int(top), StepOutcome.LIMITED) or (
                f"the load generator asks for no more than {self.rate(int(top) - 1):,.0f}/s of each"
            )
        return Capacity(
            low=None if low is None else self.rate(low),
            high=self.rate(int(top)) if fails else None,
            low_held=(below.held, below.trials),
            high_failed=(above.failed, above.trials) if fails and above else (0, 0),
            settled=bool(self._steps) and self._next() is None,
            limited=limited,
            why=why,
            steps=tuple(self._steps),
        )

    def rate(self, level: int) -> float:
        """Requests per second at a level of the grid."""
        return self._least * GRID**level

    def _index(self, rate: float, rounding: object) -> int:
        exact = math.log(rate / self._least) / math.log(GRID)
        return round(exact) if rounding is round else math.floor(exact + 1e-9)

    def _edges(self) -> tuple[int | None, float]:
        """The highest level that holds, and the first above it that must not be tried again."""
        shut = (k for k, level in self._levels.items() if level.fails or level.barred)
        top = min(shut, default=self._bar)
        top = min(top, self._bar)
        holding = [k for k, level in self._levels.items() if level.holds and k < top]
        return max(holding, default=None), top

    def _next(self) -> int | None:
        low, top = self._edges()
        floor = -1 if low is None else low
        opened = [k for k, level in self._levels.items() if level.open and floor < k < top]
        if opened:
            return opened[-1]
        if low is None and math.isinf(top):
            return self._start
        if low is None:
            return self._lower(int(top))
        if math.isinf(top):
            return low + self._jump(sum(level.holds for level in self._levels.values()))
        if top - low > 1:
            higher = low + self._jump(sum(level.holds for level in self._levels.values()))
            known = int(top) in self._levels
            return (low + int(top)) // 2 if known else min(higher, int(top) - 1)
        return self._confirm(low, int(top))

    def _lower(self, top: int) -> int | None:
        """Below everything that was tried, none of which held."""
        if not self._levels:
            return self._start
        if top == 0:
            return 0 if not self._settled(0) else None
        return max(0, top - self._jump(sum(level.fails for level in self._levels.values())))

    def _confirm(self, low: int, top: int) -> int | None:
        """The less certain one of the two neighbours that the answer lies between."""
        unsure = [k for k in (low, top) if not self._settled(k)]
        return min(unsure, key=lambda k: abs(self._levels[k].lead), default=None)

    def _settled(self, level: int) -> bool:
        known = self._levels.get(level)
        return known is None or known.settled or known.barred

    def _jump(self, tried: int) -> int:
        return _JUMPS[min(max(0, tried - 1), len(_JUMPS) - 1)]

    def _said(self, level: int, outcome: StepOutcome) -> str:
        """The last words of a step there."""
        rate = self.rate(level)
        words = [
            step.why
            for step in self._steps
            if step.outcome is outcome and math.isclose(step.rate, rate, rel_tol=(GRID - 1) / 4)
        ]
        return words[-1] if words else ""
