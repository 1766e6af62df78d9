"""Intervals for proportions."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["beta_cdf", "beta_quantile", "clopper_pearson"]

_HALVINGS = 60
"""Of an interval of length 1: more than a float can tell apart."""


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval for a binomial proportion; ``(0, 1)`` for no trials.

    Exact: it holds the true proportion with at least this confidence however small the counts,
    where approximations hold it less often just there, near 0 and 1. C. J. Clopper and
    E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934), 404-413.

    Raises:
        ValueError: not ``0 <= successes <= trials``, or not ``0 < confidence < 1``.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1")
    tail = (1 - confidence) / 2
    misses = trials - successes
    low, high = 0.0, 1.0
    if successes:
        # The proportion at which so many successes, or more, have probability `tail`.
        low = beta_quantile(tail, successes, misses + 1)
    if misses:
        # The proportion at which so many, or fewer, have.
        high = beta_quantile(1 - tail, successes + 1, misses)
    return low, high


def beta_quantile(p: float, a: float, b: float) -> float:
    """Where :func:`beta_cdf` is ``p``."""
    return _root(lambda x: beta_cdf(x, a, b) - p)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for positive ``a`` and ``b``.

    P(X >= k) = I_p(k, n - k + 1) for a binomial X of n trials with probability p. By the
    continued fraction in DLMF 8.17.22 (https://dlmf.nist.gov/8.17), from the side where it
    converges within about the square root of ``max(a, b)`` steps.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    log_scale = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return math.exp(log_scale) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction, by the modified Lentz method (W. J. Lentz, Applied Optics 15, 1976)."""
    tiny = 1e-300
    c, d, value = 1.0, 0.0, 1.0
    for step in range(20 + 20 * math.isqrt(math.ceil(max(a, b)))):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d or tiny)
        c = 1 + term / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value - 1


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function of [0, 1] crosses zero, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
