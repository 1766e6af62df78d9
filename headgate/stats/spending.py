"""How small a chance must be to count, when one looks again and again.

Looking at a running test ten times and stopping at the first "significant" result is wrong far
more often than one look is. Alpha spending divides the allowed chance of error over the looks as
information comes in: K. K. G. Lan and D. L. DeMets, "Discrete sequential boundaries for clinical
trials", Biometrika 70 (1983), 659-663. Neither the number of looks nor their times have to be
known before.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headgate.stats.student import normal_quantile

__all__ = ["boundary", "like_obrien_fleming", "like_pocock", "nominal_level", "power_family"]

Spend = Callable[[float], float]
"""The share of the allowance that is spent by a share of the information: from 0 to 1, rising."""

_EDGE = 9.0
"""Standard errors beyond which nothing is expected: a chance of 1e-19."""
_CELLS = 256
"""Of the grid, at least; even, for Simpson's rule."""
_MOST_CELLS = 4096
_NEW = 1e-4
"""Share by which information has to have grown for a look to be one: the grid resolves no less."""
_FINE = 3.0
"""Cells in a standard deviation of the step from one look to the next, at least."""


def power_family(rho: float) -> Spend:
    """``t ** rho``: K. Kim and D. L. DeMets, Biometrika 74 (1987), 149-154."""
    return _Power(rho)


def like_pocock(t: float) -> float:
    """Nearly the same nominal level at every look (Lan and DeMets 1983)."""
    return math.log1p((math.e - 1) * t)


def like_obrien_fleming(t: float) -> float:
    """Next to nothing early (Lan and DeMets 1983), for a one-sided allowance of 2.5 %."""
    if t <= 0:
        return 0.0
    z = normal_quantile(1 - 0.025 / 2)
    return 2 * math.erfc(z / math.sqrt(2 * t)) / 2 / 0.025


@dataclass(frozen=True)
class _Power:
    rho: float

    def __call__(self, t: float) -> float:
        return float(t**self.rho)


DEFAULT: Spend = power_family(1)
"""Evenly over the information."""


def nominal_level(looks: Sequence[float], alpha: float, spend: Spend = DEFAULT) -> float:
    """One-sided p-value that counts at the last of ``looks``.

    Args:
        looks: The share of the information at each look so far, rising, in (0, 1].
        alpha: The chance, over all looks together, of being wrong to this side.
        spend: When how much of it may be spent.

    Raises:
        ValueError: no look, or ``alpha`` is not in (0, 0.5).
    """
    return _upper_tail(boundary(looks, alpha, spend))


def boundary(looks: Sequence[float], alpha: float, spend: Spend = DEFAULT) -> float:
    """The same as a standard normal value: beyond it the last look counts.

    Found by the recursion of P. Armitage, C. K. McPherson and B. C. Rowe (J. R. Stat. Soc. A 132
    (1969), 235-244) with Simpson's rule, as C. Jennison and B. W. Turnbull describe it in "Group
    Sequential Methods" (2000), chapter 19. Infinite where nothing is left to spend.
    """
    if not looks or not 0 < alpha < 0.5:
        raise ValueError(f"{len(looks)} looks and an allowance of {alpha}: there is no boundary")
    return _state(tuple(float(look) for look in looks), alpha, spend).z


@dataclass(frozen=True)
class _State:
    """After a look: its boundary, and where the statistic may be if nothing was crossed so far."""

    z: float
    time: float
    spent: float
    at: npt.NDArray[np.float64]
    density: npt.NDArray[np.float64]


@functools.lru_cache(maxsize=4096)
def _state(looks: tuple[float, ...], alpha: float, spend: Spend) -> _State:
    *before, now = looks
    earlier = _state(tuple(before), alpha, spend) if before else None
    time = min(now, 1.0)
    spent = alpha * spend(time) if time > 0 else 0.0
    if earlier is None:
        z = -normal_quantile(spent)
        at = _grid(z)
        return _State(z, time, spent, at, np.exp(-at * at / 2) / math.sqrt(2 * math.pi))
    # Nothing new, or nothing to spend.
    if not time > earlier.time * (1 + _NEW) or spent <= earlier.spent:
        return _State(math.inf, earlier.time, earlier.spent, earlier.at, earlier.density)
    keep = math.sqrt(earlier.time / time)
    spread = math.sqrt(1 - earlier.time / time)
    where, mass = _weighed(earlier, spread / keep if keep else math.inf)
    z = _crossed(where * keep, mass, spread, spent - earlier.spent)
    at = _grid(z)
    step = (at[:, None] - where * keep) / spread
    density = np.exp(-step * step / 2) @ mass / (spread * math.sqrt(2 * math.pi))
    return _State(z, time, spent, at, density)


def _grid(z: float) -> npt.NDArray[np.float64]:
    return np.linspace(-_EDGE, min(z, _EDGE), _CELLS + 1)


def _weighed(
    state: _State, spread: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Points and their probability by Simpson's rule, close enough for a step of that spread."""
    at, density = state.at, state.density
    cells = 2 * math.ceil(min(_FINE * (at[-1] - at[0]) / spread, _MOST_CELLS) / 2)
    if cells > len(at) - 1:
        fine = np.linspace(at[0], at[-1], cells + 1)
        at, density = fine, np.interp(fine, at, density)
    weights = np.full(len(at), 2.0)
    weights[1::2] = 4
    weights[[0, -1]] = 1
    return at, weights * density * (at[1] - at[0]) / 3


def _crossed(
    means: npt.NDArray[np.float64], mass: npt.NDArray[np.float64], spread: float, chance: float
) -> float:
    """The value beyond which a step from ``means`` ends with that chance."""
    low, high = -_EDGE, _EDGE
    while high - low > 1e-10:
        z = (low + high) / 2
        tails = [_upper_tail((z - mean) / spread) for mean in means]
        if float(np.dot(mass, tails)) > chance:
            low = z
        else:
            high = z
    return (low + high) / 2


def _upper_tail(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2
