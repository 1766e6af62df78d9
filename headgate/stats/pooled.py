"""How many times as much a quantile of all observations is, whichever blocks they come from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headgate.stats.ratio import Blocks

__all__ = ["pooled_ratios"]

_Numbers = npt.NDArray[np.float64]


def pooled_ratios(
    first: Blocks, second: Blocks, q: float, *, paired: bool = True, resamples: int = 400
) -> _Numbers:
    """Ratios of the two quantiles over all observations, in resamples of the blocks, rising.

    The block bootstrap (H. R. Kuensch, "The jackknife and the bootstrap for general stationary
    observations", Annals of Statistics 17 (1989), 1217-1241) with whole rounds for blocks. Unlike
    :func:`headgate.stats.quantile_ratio` it counts what happens in few blocks alone, and so all
    noise of the machine too. A ratio of two infinities is 1.

    Args:
        first: Positive values; infinite ones are allowed.
        second: The same of the other.
        q: Which quantile, as a share.
        paired: Whether blocks of the same number are drawn together.
        resamples: How many.
    """
    random = np.random.default_rng(0)
    numbers = np.union1d(first.block, second.block)
    if not len(first.values) or not len(second.values):
        return np.full(resamples, np.nan)
    count = len(numbers)
    drawn = random.multinomial(count, np.full(count, 1 / count), resamples)
    others = drawn if paired else random.multinomial(count, np.full(count, 1 / count), resamples)
    mine, theirs = _resampled(first, numbers, drawn, q), _resampled(second, numbers, others, q)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = mine / theirs
    return np.sort(np.where(np.isinf(mine) & np.isinf(theirs), 1.0, ratios))


def _resampled(
    sample: Blocks, numbers: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64], q: float
) -> _Numbers:
    order = np.argsort(sample.values)
    values = sample.values[order]
    place = np.searchsorted(numbers, sample.block[order])
    found = np.empty(len(drawn))
    for index, times in enumerate(drawn):
        reached = np.cumsum(times[place])
        if reached[-1] == 0:
            found[index] = np.nan
            continue
        found[index] = values[np.searchsorted(reached, q * reached[-1])]
    return found
