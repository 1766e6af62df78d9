"""Does a release keep what its users were promised, whatever the champion does?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headgate.config import SloConfig
from headgate.gate.trust import Doubt, Levels
from headgate.gate.wording import ms, percent, span
from headgate.records import Check, Outcome, Samples
from headgate.stats import clustered_quantile_interval, clustered_share, clusters, quantile

__all__ = ["Asked", "latency", "throughput"]

SUSTAINED = 0.99
"""Share of the offered requests that must be answered in time for a rate to count."""


@dataclass(frozen=True)
class Asked:
    """One model's samples, and how they are to be judged."""

    samples: Samples
    counts: npt.NDArray[np.bool_]
    """Which requests the promises hold for."""
    seconds: float
    """How long those took to offer."""
    slo: SloConfig
    doubt: Doubt
    levels: Levels


def latency(asked: Asked, name: str, q: float, limit_ms: float) -> Check:
    """Bounds by order statistics; a request without a right answer takes for ever."""
    samples, chosen = asked.samples, asked.counts
    ok = samples.ok[chosen]
    latency_ms = np.where(ok, samples.latency_s[chosen] * 1000, math.inf)
    groups = clusters(samples.block[chosen])
    low, high = clustered_quantile_interval(
        latency_ms, groups, q, asked.levels.worse, asked.levels.good
    )
    observed = quantile(latency_ms, q)
    count, failed = len(ok), int((~ok).sum())
    called = name.upper()
    limit = f"the limit of {limit_ms:g} ms"
    numbers = f"{span(low, high)}, {count:,} requests"
    if math.isinf(observed):
        numbers = f"{failed:,} of {count:,} requests had no right answer"
    figure = f"{called} {ms(observed)}" if math.isfinite(observed) else called
    if asked.doubt.any or not count:
        outcome = Outcome.INCONCLUSIVE
        reason = f"{called} is unknown: {asked.doubt.any or 'no request counts'}."
    elif low > limit_ms and _own_low(asked, groups, q) > limit_ms:
        outcome, reason = Outcome.FAIL, f"{figure} is over {limit} ({numbers})."
    elif high <= limit_ms:
        outcome, reason = Outcome.PASS, f"{figure} is within {limit} ({numbers})."
    else:
        outcome = Outcome.INCONCLUSIVE
        reason = f"{figure} is too near to {limit} to tell ({numbers}): measure longer."
    bounded = math.isfinite(low) and math.isfinite(high)
    return Check(
        name=name,
        model=samples.model,
        outcome=outcome,
        reason=reason,
        samples=count,
        unit="ms",
        observed=observed if math.isfinite(observed) else None,
        limit=limit_ms,
        interval=(low, high) if bounded else None,
    )


def _own_low(asked: Asked, groups: npt.NDArray[np.int64], q: float) -> float:
    """The lower bound without the generator's own lateness: a release does not fail by that."""
    samples = asked.samples
    late_s = np.maximum(0.0, samples.sent_s - samples.intended_s)
    own_ms = np.where(samples.ok, (samples.latency_s - late_s) * 1000, math.inf)[asked.counts]
    return clustered_quantile_interval(own_ms, groups, q, asked.levels.worse, 0.0)[0]


def throughput(asked: Asked) -> Check:
    """Whether so high a rate was sustained: a queue that only grows leaves answers behind."""
    samples, slo = asked.samples, asked.slo
    in_time = _in_time(samples, slo)[asked.counts]
    count = len(in_time)
    offered = count / asked.seconds if asked.seconds > 0 else 0.0
    share = int(in_time.sum()) / count if count else 0.0
    groups = clusters(samples.block[asked.counts])
    # Slow requests come together, so an exact interval for independent ones would be too narrow.
    low, high = clustered_share(in_time, groups, asked.levels.good, asked.levels.worse)
    numbers = (
        f"{share * offered:.1f} requests/s were answered in time of {offered:.1f} offered "
        f"({percent(share)} of {count:,} requests; {percent(SUSTAINED)} must be)"
    )
    if asked.doubt.any or not count:
        outcome = Outcome.INCONCLUSIVE
        reason = f"Throughput is unknown: {asked.doubt.any or 'no request counts'}."
    elif high < SUSTAINED:
        outcome, reason = Outcome.FAIL, f"{numbers}."
    elif offered < slo.min_rps * (1 - 1e-9):
        outcome = Outcome.INCONCLUSIVE
        reason = f"{numbers}, but the limit is {slo.min_rps:g} requests/s: offer more."
    elif share < SUSTAINED:
        outcome, reason = Outcome.INCONCLUSIVE, f"{numbers}; too near to tell: measure longer."
    else:
        outcome, reason = Outcome.PASS, f"{numbers}; {slo.min_rps:g} requests/s are required."
    return Check(
        name="throughput",
        model=samples.model,
        outcome=outcome,
        reason=reason,
        samples=count,
        unit="requests/s",
        observed=share * offered if count else None,
        limit=slo.min_rps,
        interval=(low * offered, high * offered) if count else None,
    )


def _in_time(samples: Samples, slo: SloConfig) -> npt.NDArray[np.bool_]:
    """Answered within its block, or as soon after that as twice the promised P95.

    Blocks are about equally long, and each begins with its first request.
    """
    if len(samples.block) == 0:
        return np.zeros(0, dtype=bool)
    at_s = samples.intended_s
    starts = np.flatnonzero(np.concatenate(([True], np.diff(samples.block) != 0)))
    sizes = np.diff(np.append(starts, len(at_s)))
    spans_s = at_s[starts + sizes - 1] - at_s[starts]
    lengths_s = np.maximum(spans_s, samples.duration_s / len(starts))
    until_s = np.repeat(at_s[starts] + lengths_s, sizes) + 2 * slo.p95_ms / 1000
    in_time: npt.NDArray[np.bool_] = samples.ok & (at_s + samples.latency_s <= until_s)
    return in_time
