"""A rise over time, however the figures scatter."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from headgate.stats.paired import Estimate
from headgate.stats.student import t_quantile

__all__ = ["rise"]


def rise(level: npt.NDArray[np.float64], below: float, above: float) -> Estimate:
    """By which share a level rises from its first value to its last.

    The median of the slopes between all pairs of values, of their logarithms: H. Theil (1950);
    P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am. Stat.
    Assoc. 63 (1968), 1379-1389. The interval is Sen's, from the variance of Kendall's score,
    times n/n* where neighbours resemble each other: S. Yue and C. Y. Wang, Water Resources
    Management 18 (2004), 201-218, with the lag-one autocorrelation of what the trend leaves.

    Args:
        level: Values at equal distances in time. Those that are not positive and finite make the
            rise unknown.
        below: Chance that the rise is below the interval.
        above: Chance that it is above.
    """
    count = len(level)
    if count < 3 or not (np.isfinite(level) & (level > 0)).all():
        return Estimate(math.nan, -1.0, math.inf, count)
    log = np.log(level)
    first, last = np.triu_indices(count, 1)
    slopes = np.sort((log[last] - log[first]) / (last - first))
    middle = float(np.median(slopes))
    rest = log - middle * np.arange(count)
    rest -= rest.mean()
    total = float(rest @ rest)
    likeness = max(0.0, float(rest[1:] @ rest[:-1]) / total) if total > 0 else 0.0
    inflation = (1 + likeness) / (1 - likeness) if likeness < 1 else math.inf
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18 * inflation)
    effective = max(2.0, count / inflation)

    def end(tail: float, side: int) -> float:
        place = (len(slopes) - side * t_quantile(tail, effective - 1) * spread) / 2
        if not 0 <= place <= len(slopes) - 1:
            return side * math.inf
        return float(slopes[math.ceil(place) if side > 0 else math.floor(place)])

    low, high = end(below, -1), end(above, 1)
    middle, low, high = (_grown(slope * (count - 1)) for slope in (middle, low, high))
    return Estimate(middle, low, high, count)


def _grown(log: float) -> float:
    return math.expm1(log) if log < 700 else math.inf
