"""What a ramp, a spike and a soak ask beside the promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from headgate.gate.absolute import Asked
from headgate.gate.wording import INTERVAL, ms, percent
from headgate.records import Check, Outcome, Samples
from headgate.stats import quantile, rise

__all__ = ["drift_over_time", "ramp", "recovery"]

REFUSALS = ("HTTP 429", "HTTP 503")
"""Causes of errors that say "too much at once"; beyond the promised rate that is a right answer."""
WINDOW = 40
"""Requests that the P95 after a peak is taken of, at least: two of them may be slow."""
WINDOW_S = 1.0
"""And of so many seconds at least."""
SOON_S = 0.05
"""Less is said to be at once."""
MOST_RISE = 0.1
"""By how much P95 may rise over a soak."""
MOST_PARTS = 120
"""Of a soak: blocks are joined to so many, since a trend is sought between all pairs of them."""
LEAST_PARTS = 10
"""Fewer show no trend."""


def recovery(asked: Asked, peak: tuple[float, float] | None) -> tuple[list[Check], Asked, int]:
    """How long after a peak P95 is back within its limit.

    Returns:
        The check; what the other promises hold for, which is all but the peak and the recovery;
        and how many refusals meanwhile are forgiven.
    """
    samples, limit_ms = asked.samples, asked.slo.p95_ms
    begin, end = peak or (math.nan, math.nan)
    took_s = _back_within(samples, end, limit_ms)
    after = int((samples.intended_s >= end).sum())
    if asked.doubt.any or not after:
        outcome, took_s = Outcome.INCONCLUSIVE, math.nan
        why = asked.doubt.any or "nothing was measured after the peak"
        reason = f"How long it takes to recover from a peak is unknown: {why}."
    elif math.isfinite(took_s):
        outcome = Outcome.PASS
        when = f"back within {limit_ms:g} ms {took_s:.1f} s after the peak's end"
        if took_s < SOON_S:
            when = f"within {limit_ms:g} ms as soon as the peak ended"
        reason = f"P95 was {when} ({after:,} requests after it)."
    else:
        outcome = Outcome.FAIL
        seconds = float(samples.intended_s[-1]) - end
        reason = (
            f"P95 did not come back within {limit_ms:g} ms in the {seconds:.1f} s measured after "
            f"the peak's end ({after:,} requests)."
        )
    known = math.isfinite(took_s)
    check = Check(
        name="recovery",
        model=samples.model,
        outcome=outcome,
        reason=reason,
        samples=after,
        unit="s",
        observed=took_s if known else None,
    )
    until = end + took_s if known else end
    outside = ~((samples.intended_s >= begin) & (samples.intended_s < until))
    seconds = max(0.0, samples.duration_s - (until - begin)) if peak else samples.duration_s
    calm = replace(asked, counts=outside, seconds=seconds)
    return [check], calm, _refused(samples, ~outside)


def _back_within(samples: Samples, end: float, limit_ms: float) -> float:
    """Seconds from ``end`` to the first window within the limit; infinite where none is."""
    after = samples.intended_s >= end
    at_s = samples.intended_s[after]
    if len(at_s) < 2 or not np.isfinite(at_s).all():
        return math.inf
    latency_ms = np.where(samples.ok, samples.latency_s * 1000, math.inf)[after]
    slow = np.concatenate(([0], np.cumsum(~(latency_ms <= limit_ms))))
    last = np.searchsorted(at_s, at_s + WINDOW_S, side="left")
    last = np.maximum(last, np.arange(len(at_s)) + WINDOW)
    begins = np.flatnonzero(last <= len(at_s))
    share = (slow[last[begins]] - slow[begins]) / (last[begins] - begins)
    calm = begins[share <= 0.05]
    return float(max(0.0, at_s[calm[0]] - end)) if len(calm) else math.inf


def _refused(samples: Samples, where: npt.NDArray[np.bool_]) -> int:
    """Refusals that were right, at most as many as there are failures ``where`` they may be."""
    refused = sum(number for cause, number in samples.errors.items() if cause.startswith(REFUSALS))
    return min(refused, int((where & ~samples.ok).sum()))


def ramp(asked: Asked) -> tuple[Check, int]:
    """Up to which rate P95 stays within its limit; it fails where it leaves it below ``min_rps``.

    It is left for good after the last block within the limit, so that another process which
    comes and goes does not end the ramp.

    Returns:
        The check, and how many refusals beyond the promised rate are forgiven.
    """
    samples, slo = asked.samples, asked.slo
    blocks, sizes = np.unique(samples.block, return_counts=True)
    length_s = samples.duration_s / len(blocks) if len(blocks) else 0.0
    p95_ms = _per_block(samples, samples.block)
    # Requests come at random moments: the rate is known better from three blocks than from one.
    counts = _over_three(sizes, np.mean) * 3
    rates = counts / (3 * length_s) if length_s > 0 else np.zeros(len(blocks))
    # One block beyond the limit between two within it is chance, and the other way round.
    within = _over_three((p95_ms <= slo.p95_ms).astype(float), np.median) > 0.5
    left = int(np.flatnonzero(within)[-1]) + 1 if within.any() else 0
    held = float(rates[:left].max(initial=0.0))
    owed = rates * (1 - 2 / np.sqrt(np.maximum(counts, 1))) <= slo.min_rps
    numbers = f"{len(samples.ok):,} requests in {len(blocks):,} blocks"
    outcome = Outcome.PASS
    if asked.doubt.any:
        outcome = Outcome.INCONCLUSIVE
        reason = f"Up to which rate P95 stays within its limit is unknown: {asked.doubt.any}."
    elif left == len(blocks):
        reason = (
            f"P95 stayed within {slo.p95_ms:g} ms up to {held:.0f} requests/s, the end of the ramp "
            f"({numbers})."
        )
    else:
        slow = f"{ms(p95_ms[left])}" if math.isfinite(p95_ms[left]) else "without an end"
        outcome = Outcome.FAIL if owed[left] else Outcome.PASS
        reason = (
            f"P95 left {slo.p95_ms:g} ms for good at {rates[left]:.0f} requests/s, where it was "
            f"{slow}; {slo.min_rps:g} requests/s are required ({numbers})."
        )
    check = Check(
        name="ramp",
        model=samples.model,
        outcome=outcome,
        reason=reason,
        samples=len(samples.ok),
        unit="requests/s",
        observed=held if not asked.doubt.any else None,
        limit=slo.min_rps,
    )
    return check, _refused(samples, ~np.repeat(owed, sizes))


def _over_three(
    values: npt.NDArray[np.generic], how: Callable[..., npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """``how`` of each value and its two neighbours; at the ends, of the value twice and one."""
    if not len(values):
        return np.zeros(0)
    before, after = np.r_[values[:1], values[:-1]], np.r_[values[1:], values[-1:]]
    return how(np.stack([before, values, after]).astype(float), axis=0)


def _per_block(samples: Samples, label: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """P95 of each block, milliseconds; a request without a right answer takes for ever."""
    latency_ms = np.where(samples.ok, samples.latency_s * 1000, math.inf)
    return np.array(
        [quantile(latency_ms[label == number], 0.95) for number in np.unique(label)],
        dtype=np.float64,
    )


def drift_over_time(asked: Asked) -> Check:
    """Whether P95 rises while nothing else does: what leaks or fills up shows only in hours.

    A rise that is shown to be beyond the limit fails; one that is seen to be within it passes.
    """
    samples = asked.samples
    blocks, rank = np.unique(samples.block, return_inverse=True)
    parts = min(len(blocks), MOST_PARTS)
    level = _per_block(samples, rank * parts // max(1, len(blocks)))
    found = rise(level, asked.levels.worse, asked.levels.good)
    numbers = f"{INTERVAL} {_rise(found.low)} to {_rise(found.high)}, {len(samples.ok):,} requests"
    may = f"{percent(MOST_RISE)} may be ({numbers})"
    changed = f"P95 changed by {_rise(found.value)} from begin to end"
    if asked.doubt.any or parts < LEAST_PARTS or math.isnan(found.value):
        why = asked.doubt.any or f"{parts:,} blocks show no trend"
        outcome, reason = Outcome.INCONCLUSIVE, f"Whether P95 rises over time is unknown: {why}."
    elif found.low > MOST_RISE:
        outcome, reason = Outcome.FAIL, f"{changed}; {may}."
    elif found.value <= MOST_RISE:
        outcome, reason = Outcome.PASS, f"{changed}; {may}."
    else:
        outcome = Outcome.INCONCLUSIVE
        reason = f"{changed}, too near to {percent(MOST_RISE)} to tell ({numbers}): measure longer."
    known = math.isfinite(found.value)
    return Check(
        name="drift_over_time",
        model=samples.model,
        outcome=outcome,
        reason=reason,
        samples=len(samples.ok),
        unit="share",
        observed=found.value if known else None,
        limit=MOST_RISE,
        interval=(found.low, found.high) if math.isfinite(found.high - found.low) else None,
    )


def _rise(share: float) -> str:
    return f"{100 * share:+.3g} %" if math.isfinite(share) else "any"
