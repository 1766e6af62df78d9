"""Two things measured side by side: which is more, and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headgate.stats.student import normal_quantile, t_quantile

__all__ = ["Estimate", "mcnemar", "mean_difference", "share_difference"]

_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure, and the interval that it lies in; NaN where it is unknown."""

    value: float
    low: float
    high: float
    pairs: int
    """How many pairs it rests on."""


def around(
    value: float, error: float, freedom: float, below: float, above: float
) -> tuple[float, float]:
    """Student's interval: ``below`` and ``above`` are the chances of what lies beyond its ends.

    An end for which no chance is left is open.
    """
    low, high = t_quantile(below, freedom), -t_quantile(above, freedom)
    return (
        value + low * error if math.isfinite(low) else -math.inf,
        value + high * error if math.isfinite(high) else math.inf,
    )


def mean_difference(first: _Numbers, second: _Numbers, below: float, above: float) -> Estimate:
    """Mean of ``first - second``, pair by pair, with Student's interval.

    Args:
        first: One number a pair.
        second: The other.
        below: Chance that the difference is below the interval.
        above: Chance that it is above.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    count = len(differences)
    if count == 0 or not np.isfinite(differences).all():
        return Estimate(math.nan, -math.inf, math.inf, count)
    mean = float(differences.mean())
    if count == 1:
        return Estimate(mean, -math.inf, math.inf, count)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, *around(mean, error, count - 1, below, above), count)


def share_difference(lost: int, won: int, pairs: int, below: float, above: float) -> Estimate:
    """By how much one share of hits is below another's, seen in the same ``pairs``.

    The adjusted Wald interval of D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval
    for a difference of binomial proportions based on paired data", J. Educ. Behav. Stat. 37
    (2012), 479-488: a pair of each kind is added.

    Args:
        lost: Pairs in which only the second hit.
        won: Pairs in which only the first hit.
        pairs: All.
        below: Chance that the difference is below the interval.
        above: Chance that it is above.
    """
    if pairs == 0:
        return Estimate(math.nan, -1.0, 1.0, 0)
    down, up = (lost + 1) / (pairs + 2), (won + 1) / (pairs + 2)
    middle = down - up
    error = math.sqrt(max(0.0, down + up - middle * middle) / (pairs + 2))
    return Estimate(
        (lost - won) / pairs,
        max(-1.0, middle + normal_quantile(below) * error),
        min(1.0, middle - normal_quantile(above) * error),
        pairs,
    )


def mcnemar(lost: int, won: int) -> float:
    """One-sided mid-p value of McNemar's test: that losses are no more likely than wins.

    Exact binomial, with half of the observed outcome's own probability: M. W. Fagerland,
    S. Lydersen and P. Laake, "The McNemar test for binary matched-pairs data: mid-p and
    asymptotic are better than exact conditional", BMC Medical Research Methodology 13 (2013), 91.

    Args:
        lost: Pairs in which only the second hit.
        won: Pairs in which only the first hit.
    """
    count = lost + won
    whole = math.lgamma(count + 1) - count * math.log(2)
    chances = [
        math.exp(whole - math.lgamma(losses + 1) - math.lgamma(count - losses + 1))
        for losses in range(lost, count + 1)
    ]
    return sum(chances) - chances[0] / 2
