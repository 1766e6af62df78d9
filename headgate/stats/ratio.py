"""How many times as much, where every figure is one of a few dozen blocks.

On a machine that others use, levels move from one moment to the next. Two blocks that lie next to
each other share most of that, so their ratio is steadier than either; and where something
happened during one of the two, their ratio says nothing and should count for little. So: the
logarithm of each pair's ratio, and of those a mean without the outermost fifth at either end.
What it estimates is the ratio that holds most of the time. For pairs whose order is drawn
at random it is right however the noise is distributed: without a difference, it is as likely to
err to one side as to the other.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headgate.stats.paired import Estimate, around
from headgate.stats.proportions import beta_cdf
from headgate.stats.quantiles import quantile

__all__ = ["LEAST_PAIRS", "Blocks", "harrell_davis", "log_ratio", "quantile_ratio"]

LEAST_PAIRS = 6
"""Fewer give no interval: that five pairs point the same way happens by chance one time in 32,
which is more than the 2.5 % that is usually allowed."""
TRIM = 0.2
"""Share of the pairs left out at either end."""
KNOWN = 0.77
"""Degrees of freedom for each that Tukey and McLaughlin count. With theirs, normal data are beyond
a 0.1 % end 1.3 to 1.9 times as often as they should; with these, as often (6 to 60 pairs, ends of
0.1 % to 2.5 %, by simulation), and heavier tails less often."""
_MOST = 20.0
"""Logarithm that stands for an infinite ratio: beyond all that are finite, and itself finite."""
_REACH = 8.0
"""Standard errors of a rank, from the quantile's own, within which a value has a weight."""

_Numbers = npt.NDArray[np.float64]


class Blocks(NamedTuple):
    """Observations, and the block of each."""

    values: _Numbers
    block: npt.NDArray[np.int64]


def quantile_ratio(
    first: Blocks, second: Blocks, q: float, *, below: float, above: float, paired: bool = True
) -> Estimate:
    """How many times as much a quantile of ``first`` is as that of ``second``.

    Args:
        first: Positive values; infinite ones are allowed.
        second: The same of the other; where paired, blocks of the same number belong together.
        q: Which quantile, as a share.
        below: Chance that the ratio is below the interval.
        above: Chance that it is above.
        paired: Whether blocks of the same number share their noise.
    """
    levels, others = _quantiles(first, q), _quantiles(second, q)
    if not paired:
        mine, theirs = (np.array(list(each.values())) for each in (levels, others))
        return _unpaired(mine, theirs, below, above)
    both = sorted(levels.keys() & others.keys())
    return log_ratio(
        np.array([levels[block] for block in both]),
        np.array([others[block] for block in both]),
        below,
        above,
    )


def log_ratio(first: _Numbers, second: _Numbers, below: float, above: float) -> Estimate:
    """How many times as much ``first`` is as ``second``, pair by pair.

    The trimmed mean of the logarithms with its interval from the winsorised variance and
    Student's t: J. W. Tukey and D. H. McLaughlin, "Less vulnerable confidence and significance
    procedures for location based on a single sample", Sankhya A 25 (1963), 331-352. Pairs of two
    zeros or two infinities have no ratio and are left out. Too few pairs, or any with NaN, make
    it unknown.

    Args:
        first: One number a pair, none negative.
        second: The other.
        below: Chance that the ratio is below the interval.
        above: Chance that it is above.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    odd = bool(np.isnan(first).any() or np.isnan(second).any())
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(first) - np.log(second)
    logs = np.clip(logs[~np.isnan(logs)], -_MOST, _MOST)
    if odd or len(logs) < LEAST_PAIRS:
        return Estimate(math.nan, 0.0, math.inf, len(logs))
    middle, error, freedom = _trimmed(logs)
    return _as_ratio(middle, around(middle, error, freedom, below, above), len(logs))


def _unpaired(first: _Numbers, second: _Numbers, below: float, above: float) -> Estimate:
    """The same of blocks that have nothing to do with each other.

    K. K. Yuen, "The two-sample trimmed t for unequal population variances", Biometrika 61 (1974),
    165-170.
    """
    count = min(len(first), len(second))
    if count < LEAST_PAIRS or np.isnan(first).any() or np.isnan(second).any():
        return Estimate(math.nan, 0.0, math.inf, count)
    with np.errstate(divide="ignore"):
        (mine, error, free), (theirs, other_error, other_free) = (
            _trimmed(np.clip(np.log(each), -_MOST, _MOST)) for each in (first, second)
        )
    variance = error**2 + other_error**2
    parts = error**4 / free + other_error**4 / other_free
    freedom = variance**2 / parts if parts > 0 else free + other_free
    middle = mine - theirs
    ends = around(middle, math.sqrt(variance), freedom, below, above)
    return _as_ratio(middle, ends, count)


def _trimmed(values: _Numbers) -> tuple[float, float, float]:
    """Trimmed mean, its standard error, and the degrees of freedom of that."""
    ordered = np.sort(values)
    count, cut = len(ordered), int(TRIM * len(ordered))
    kept = ordered[cut : count - cut]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    error = float(winsorised.std(ddof=1)) / ((1 - 2 * cut / count) * math.sqrt(count))
    return float(kept.mean()), error, KNOWN * (len(kept) - 1)


def _as_ratio(middle: float, ends: tuple[float, float], count: int) -> Estimate:
    low, high = ends
    return Estimate(_exp(middle), _exp(low), _exp(high), count)


def _exp(log: float) -> float:
    """Back from a logarithm; what was clipped was infinite."""
    if abs(log) > _MOST - 1:
        return math.inf if log > 0 else 0.0
    return math.exp(log)


def _quantiles(sample: Blocks, q: float) -> dict[int, float]:
    """The quantile of each block."""
    if not len(sample.values):
        return {}
    order = np.lexsort((sample.values, sample.block))
    blocks, starts = np.unique(sample.block[order], return_index=True)
    parts = np.split(sample.values[order], starts[1:])
    return {
        int(block): _weighted(part, q)
        for block, part in zip(blocks, parts, strict=True)
        if len(part)
    }


def harrell_davis(sample: npt.ArrayLike, q: float) -> float:
    """A quantile as a mean of neighbouring order statistics; NaN for no sample, or one with NaN.

    F. E. Harrell and C. E. Davis, "A new distribution-free quantile estimator", Biometrika 69
    (1982), 635-640. In a block of some hundred requests it scatters less than one of them, and
    is as much too high or too low in small blocks as in large ones. Infinite values beyond the
    quantile count as the largest finite one; where the quantile is itself infinite, so is this.
    """
    ordered = np.sort(np.asarray(sample, dtype=np.float64))
    return _weighted(ordered, q) if len(ordered) else math.nan


def _weighted(ordered: _Numbers, q: float) -> float:
    middle = quantile(ordered, q)
    if not math.isfinite(middle):
        return middle
    first, weights = _weights(len(ordered), q)
    values = ordered[first : first + len(weights)]
    finite = values[np.isfinite(values)]
    return float(np.dot(np.clip(values, finite[0], finite[-1]), weights))


@functools.lru_cache(maxsize=1024)
def _weights(count: int, q: float) -> tuple[int, _Numbers]:
    """The first rank with a weight, from 0, and the weights from there on."""
    reach = _REACH * math.sqrt(q * (1 - q) / (count + 2))
    first = max(0, math.floor((q - reach) * count))
    last = min(count, math.ceil((q + reach) * count))
    a, b = (count + 1) * q, (count + 1) * (1 - q)
    below = np.array([beta_cdf(rank / count, a, b) for rank in range(first, last + 1)])
    weights = np.diff(below)
    return first, weights / weights.sum()
