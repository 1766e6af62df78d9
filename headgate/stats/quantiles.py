"""Quantiles and their intervals, from order statistics alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["quantile", "quantile_interval"]


def quantile(sample: npt.ArrayLike, q: float) -> float:
    """The smallest value with at least a share ``q`` of the sample at or below it.

    The inverse of the empirical distribution function (type 1 of Hyndman and Fan, "Sample
    quantiles in statistical packages", The American Statistician 50 (1996), 361-365): always
    a value that was observed, and right for samples with infinities. NaN for no sample, or one
    with NaN.

    Raises:
        ValueError: not ``0 <= q <= 1``.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q is {q}, not a share from 0 to 1")
    ordered = np.sort(np.asarray(sample, dtype=np.float64))
    count = len(ordered)
    if count == 0 or np.isnan(ordered[-1]):
        return math.nan
    rank = max(1, math.ceil(q * count))
    # The product may come out above a whole number: 0.55 * 100 is 55.00000000000001.
    if rank > 1 and (rank - 1) / count >= q:
        rank -= 1
    return float(ordered[rank - 1])


def quantile_interval(
    sample: npt.ArrayLike, q: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Distribution-free interval for the ``q``-quantile of what the sample is drawn from.

    Between two order statistics whose ranks enclose, with at least this probability, a
    Binomial(n, q) count: H. A. David and H. N. Nagaraja, "Order Statistics", 3rd ed. (2003),
    section 7.1. It holds for independent observations. An end that the sample is too small
    for is infinite; no sample, or one with NaN, gives ``(-inf, inf)``.

    Raises:
        ValueError: not ``0 < q < 1``, or not ``0 < confidence < 1``.
    """
    if not (0 < q < 1 and 0 < confidence < 1):
        raise ValueError(f"q {q} and confidence {confidence} must lie between 0 and 1")
    ordered = np.sort(np.asarray(sample, dtype=np.float64))
    count = len(ordered)
    if count == 0 or np.isnan(ordered[-1]):
        return -math.inf, math.inf
    tail = (1 - confidence) / 2
    below = np.cumsum(_binomial(count, q))
    # X(r) is above the quantile only if fewer than r observations are at or below it.
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return (
        float(ordered[low - 1]) if low >= 1 else -math.inf,
        float(ordered[high - 1]) if high <= count else math.inf,
    )


def _binomial(count: int, q: float) -> npt.NDArray[np.float64]:
    """Probabilities of 0 to ``count`` successes, by logarithms so that none overflows."""
    factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))
    successes = np.arange(count + 1)
    log = (
        factorial[count]
        - factorial
        - factorial[::-1]
        + successes * math.log(q)
        + (count - successes) * math.log1p(-q)
    )
    probabilities: npt.NDArray[np.float64] = np.exp(log)
    return probabilities
