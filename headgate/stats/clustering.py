"""Shares and quantiles of observations that come in clusters, whose members resemble each other.

Requests that follow each other meet the same queue, the same pause and the same neighbours on the
machine: a thousand of them say less than a thousand independent ones.
"""

from __future__ import annotations

import bisect
import math

import numpy as np
import numpy.typing as npt

from headgate.stats.proportions import beta_cdf, beta_quantile
from headgate.stats.student import t_quantile

__all__ = ["clustered_quantile_interval", "clustered_share", "clusters"]

_ENOUGH = 12
"""Clusters from which their scatter is known well enough; fewer are cut up."""
_SMALL = 10
"""Observations that a cut cluster keeps at least."""

_Labels = npt.NDArray[np.int64]


def clusters(block: npt.NDArray[np.int64]) -> _Labels:
    """Number the clusters 0, 1, 2…: the blocks, cut into equal parts where they are few.

    Args:
        block: The block of each observation, in the order of time.
    """
    count = len(block)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate(([True], np.diff(block) != 0)))
    sizes = np.diff(np.append(starts, count))
    parts = np.maximum(1, np.minimum(-(-_ENOUGH // len(starts)), sizes // _SMALL))
    within = np.arange(count) - np.repeat(starts, sizes)
    part = within * np.repeat(parts, sizes) // np.repeat(sizes, sizes)
    first = np.cumsum(parts) - parts
    return np.asarray(np.repeat(first, sizes) + part, dtype=np.int64)


def clustered_share(
    hits: npt.NDArray[np.bool_], cluster: _Labels, below: float, above: float
) -> tuple[float, float]:
    """Interval for the probability of a hit; ``(0, 1)`` for no observations.

    Clopper and Pearson's with an effective number of observations: the actual number over the
    design effect, which is estimated from the scatter between clusters and never taken for less
    than 1. E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small
    expected number of positive counts estimated from survey data", Survey Methodology 24 (1998),
    193-201. Where all or none are hits, nothing is known of the scatter, and all count.

    Args:
        hits: One for each observation.
        cluster: Its cluster, numbered from 0.
        below: Chance that the probability is below the interval.
        above: Chance that it is above.
    """
    sizes = np.bincount(cluster)
    found, count = np.bincount(cluster[hits], minlength=len(sizes)), len(hits)
    low, high = 0.0, 1.0
    if count and found.any() and below > 0:
        share, number = _effective(found, sizes, below)
        low = beta_quantile(below, share * number, (1 - share) * number + 1)
    if count > found.sum() and above > 0:
        share, number = _effective(found, sizes, above)
        high = beta_quantile(1 - above, share * number + 1, (1 - share) * number)
    return low, high


def clustered_quantile_interval(
    sample: npt.ArrayLike, cluster: _Labels, q: float, below: float, above: float
) -> tuple[float, float]:
    """Distribution-free interval for a quantile of observations in clusters.

    It ends at the values of the sample of which the share of observations before them just rules
    out that the quantile lies beyond: order statistics (H. A. David and H. N. Nagaraja, "Order
    Statistics", 3rd ed., 2003, section 7.1) on the effective number of observations *at that
    value*, so that clustering among values far away widens nothing. An end that the sample is
    too small for is infinite; no sample, or one with NaN, gives ``(-inf, inf)``.

    Args:
        sample: Values; infinities are values.
        cluster: The cluster of each, numbered from 0.
        q: Which quantile, as a share.
        below: Chance that it is below the interval.
        above: Chance that it is above.
    """
    values = np.asarray(sample, dtype=np.float64)
    if len(values) == 0 or np.isnan(values).any():
        return -math.inf, math.inf
    order = np.argsort(values, kind="stable")
    ordered, groups, sizes = values[order], cluster[order], np.bincount(cluster)

    def too_few_before(index: int) -> bool:
        """Whether the quantile is at or above this value."""
        before = groups[: np.searchsorted(ordered, ordered[index], side="left")]
        share, number = _effective(np.bincount(before, minlength=len(sizes)), sizes, below)
        return beta_cdf(q, share * number + 1, (1 - share) * number) >= 1 - below

    def enough_until(index: int) -> bool:
        """Whether it is at or below."""
        until = groups[: np.searchsorted(ordered, ordered[index], side="right")]
        share, number = _effective(np.bincount(until, minlength=len(sizes)), sizes, above)
        return beta_cdf(q, share * number, (1 - share) * number + 1) <= above

    low, high = -math.inf, math.inf
    if below > 0 and too_few_before(0):
        last = bisect.bisect_left(range(1, len(values)), True, key=lambda i: not too_few_before(i))
        low = float(ordered[last])
    if above > 0 and enough_until(len(values) - 1):
        high = float(ordered[bisect.bisect_left(range(len(values)), True, key=enough_until)])
    return low, high


def _effective(
    hits: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], tail: float
) -> tuple[float, float]:
    """The share of hits, and how many independent observations would know it as well."""
    count, found, groups = int(sizes.sum()), int(hits.sum()), len(sizes)
    share = found / count
    if not 0 < found < count or groups == 1:
        return share, count
    # Linearised variance of a ratio, with clusters drawn with replacement.
    scatter = float(np.sum((hits - share * sizes) ** 2)) * groups / (groups - 1)
    design = max(1.0, scatter / (count * share * (1 - share)))
    # The scatter itself is known from so many clusters only.
    known = (t_quantile(tail, count - 1) / t_quantile(tail, groups - 1)) ** 2
    return share, count / design * known
