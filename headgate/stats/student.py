"""Student's t and the normal distribution: what intervals of means are made of."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

from headgate.stats.proportions import beta_cdf

__all__ = ["normal_quantile", "t_cdf", "t_quantile"]

_HALVINGS = 200
"""At most; from 10 to the last digit it takes about 60."""


def normal_quantile(p: float) -> float:
    """The standard normal value with probability ``p`` below it; infinite at 0 and 1."""
    if p <= 0 or p >= 1:
        return math.copysign(math.inf, p - 0.5)
    return NormalDist().inv_cdf(p)


def t_cdf(t: float, freedom: float) -> float:
    """P(T <= t) of Student's t, which is half an incomplete beta function (DLMF 8.17).

    Small tails keep their digits.
    """
    if math.isinf(t):
        return 1.0 if t > 0 else 0.0
    tail = beta_cdf(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return 1 - tail if t > 0 else tail


@functools.lru_cache(maxsize=4096)
def t_quantile(p: float, freedom: float) -> float:
    """The value with probability ``p`` below it, by bisection; infinite at 0 and 1.

    Raises:
        ValueError: ``freedom`` is not positive, or ``p`` is no probability.
    """
    if not (freedom > 0 and 0 <= p <= 1):
        raise ValueError(f"no Student quantile for p {p} and {freedom} degrees of freedom")
    if p > 0.5:
        return -t_quantile(1 - p, freedom)
    if p in {0.0, 0.5}:
        return 0.0 if p else -math.inf
    low, high = -1.0, 0.0
    while t_cdf(low, freedom) > p:
        low, high = low * 4, low
        if low < -1e150:  # its square would overflow
            return -math.inf
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        if t_cdf(middle, freedom) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2
