"""Is a release worse than the champion, measured beside it, by more than the margin?"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from headgate.config import DemandConfig
from headgate.gate.trust import Levels
from headgate.gate.wording import ms, ratio_span
from headgate.records import Check, Generator, Outcome, Samples, Side
from headgate.stats import (
    LEAST_PAIRS,
    Blocks,
    Estimate,
    log_ratio,
    pooled_ratios,
    quantile,
    quantile_ratio,
)

__all__ = ["p95_ratio", "throughput_ratio"]

RESOLVED = 2
"""Times the generator's own P95 that a P95 has to be for a difference to be the release's own more than
the generator's. Below, a difference smaller than the latter is not told."""
UNEVEN = 0.25
"""Share of the resamples that are within the limit all the same where it may be an accident."""
APART = 1.1
"""Times the ratio of most rounds that the ratio over all requests is when it tells something else."""
MUCH = 1.25
"""Ratio that all resamples have to be beyond for a release to fail by what it does now and then."""
LIMITED = 0.8
"""Share of what the generator can ask for at most, above which it limits what is answered."""


def p95_ratio(
    candidate: Samples,
    champion: Samples,
    demand: DemandConfig,
    *,
    generator: Generator,
    levels: Levels,
    doubt: str,
    paired: bool,
) -> Check:
    """The P95 over the champion's; a difference that the generator cannot tell fails nobody.

    Args:
        candidate: One model of the release that is judged.
        champion: The same model of the other.
        demand: The margin.
        generator: What it tells apart.
        levels: How sure to be.
        doubt: Why nothing can be told; empty where it can.
        paired: Whether the blocks of a round share the machine's noise.
    """
    limit = demand.max_p95_ratio
    mine_ms, theirs_ms = (
        np.where(each.ok, each.latency_s * 1000, math.inf) for each in (candidate, champion)
    )
    sides = Blocks(mine_ms, candidate.block), Blocks(theirs_ms, champion.block)
    found = quantile_ratio(*sides, 0.95, below=levels.worse, above=levels.good, paired=paired)
    mine, theirs = quantile(mine_ms, 0.95), quantile(theirs_ms, 0.95)
    own_ms = 1000 * (generator.p95_s or 0.0)
    resolved = theirs >= RESOLVED * own_ms
    floor_ms = 0.0 if resolved else own_ms
    # What the generator adds to both makes every ratio look nearer to 1 than it is.
    dilution = 1 - own_ms / theirs if resolved and 0 < theirs < math.inf else 1.0
    most = 1 + (found.high - 1) / dilution
    figures = _figures(found.value, mine, theirs)
    blocks = "pairs of blocks" if paired else "blocks"
    basis = (
        f"({ratio_span(found.low, found.high)}, {found.pairs:,} {blocks}, "
        f"{len(mine_ms):,} requests)"
    )
    uneven = None
    apart = math.isfinite(theirs) and mine > theirs * max(limit, APART * found.value)
    if apart and mine - theirs > own_ms:
        uneven = _uneven(*sides, limit, paired=paired)
    # Without a figure of the champion's there is nothing to measure the difference by.
    most_ms = theirs * (found.high - 1) if math.isfinite(theirs) else math.inf
    too_fine = f"the load generator tells no less than {ms(floor_ms)} apart"
    if doubt or math.isnan(found.value):
        outcome = Outcome.INCONCLUSIVE
        reason = f"How P95 compares with the champion's is unknown: {doubt or _few(found)}."
    elif uneven and not found.low > limit:
        outcome = uneven
        reason = (
            f"P95 over all requests is {_times(mine / theirs)} the champion's ({ms(mine)} against "
            f"{ms(theirs)}), though {_times(found.value)} in most rounds: now and then it is slow "
            f"on its own {basis}."
        )
    elif most <= limit:
        outcome, reason = Outcome.PASS, f"{figures}; up to {limit:g} times may be {basis}."
    elif most_ms < floor_ms and found.value <= limit:
        outcome = Outcome.PASS
        reason = f"{figures}: the difference is not resolvable, {too_fine} {basis}."
    elif found.low > limit and theirs * (found.value - 1) >= floor_ms:
        outcome, reason = Outcome.FAIL, f"{figures}; up to {limit:g} times may be {basis}."
    else:
        outcome = Outcome.INCONCLUSIVE
        why = f", and {too_fine}" if found.low > limit else ""
        if found.high <= limit:
            why = f", since up to {ms(own_ms)} of both are the load generator's own"
        reason = f"{figures}, too near to {limit:g} to tell{why} {basis}: measure longer."
    return Check(
        name="p95_ratio",
        model=candidate.model,
        outcome=outcome,
        reason=reason,
        samples=len(mine_ms),
        unit="ratio",
        observed=found.value if math.isfinite(found.value) else None,
        limit=limit,
        interval=_interval(found),
    )


def throughput_ratio(
    candidate: Side,
    champion: Side,
    limit: float,
    *,
    generator: Generator,
    levels: Levels,
) -> Check:
    """What it answers at saturation over what the champion does."""
    mine, theirs, count = _pairs(candidate, champion)
    # Answers per second are better high, so the mistakes change sides.
    found = log_ratio(mine, theirs, levels.good, levels.worse)
    own, other = (float(each.mean()) if count else math.nan for each in (mine, theirs))
    most = generator.most_rps or math.inf
    if count and max(own, other) > most:
        most = math.inf  # what was asked for shows that the calibration was disturbed
    limited, other_limited = own > LIMITED * most, other > LIMITED * most
    figures = (
        f"It answers {_times(found.value)} the champion's requests at saturation "
        f"({own:,.0f}/s against {other:,.0f}/s)"
    )
    basis = f"({ratio_span(found.low, found.high)}, {count:,} pairs of blocks)"
    needed = f"at least {limit:g} times must be"
    held = f"the load generator asks for no more than {most:,.0f}/s"
    if math.isnan(found.value) or not other > 0:
        outcome = Outcome.INCONCLUSIVE
        reason = f"How throughput compares with the champion's is unknown: {_few(found)}."
    elif found.low >= limit and not (other_limited and not limited):
        outcome, reason = Outcome.PASS, f"{figures}; {needed} {basis}."
        if limited:
            reason = (
                f"It answers at least {own:,.0f} requests/s, generator-limited: {held} {basis}."
            )
    elif limited and other_limited and found.value >= limit:
        outcome = Outcome.PASS
        reason = (
            f"Both answer at least {min(own, other):,.0f} requests/s, generator-limited: "
            f"{held} {basis}."
        )
    elif found.high < limit and not limited:
        outcome, reason = Outcome.FAIL, f"{figures}; {needed} {basis}."
    else:
        outcome = Outcome.INCONCLUSIVE
        why = f": {held}" if limited or other_limited else ": measure longer"
        reason = f"{figures}, too near to {limit:g} to tell {basis}{why}."
    return Check(
        name="throughput_ratio",
        model="",
        outcome=outcome,
        reason=reason,
        samples=count,
        unit="ratio",
        observed=found.value if math.isfinite(found.value) else None,
        limit=limit,
        interval=_interval(found),
    )


def _figures(ratio: float, mine_ms: float, theirs_ms: float) -> str:
    """Both P95s in words; either may be infinite."""
    if math.isinf(mine_ms):
        return f"P95 has no end, against the champion's {_end(theirs_ms)}"
    if math.isinf(theirs_ms):
        return f"P95 is {ms(mine_ms)}, against the champion's without an end"
    return f"P95 is {_times(ratio)} the champion's ({ms(mine_ms)} against {ms(theirs_ms)})"


def _uneven(mine: Blocks, theirs: Blocks, limit: float, *, paired: bool) -> Outcome | None:
    """What a P95 over all requests that is beyond the limit says, if that is no accident.

    The mean of the rounds leaves out the outermost ones, and with them what a release does to
    itself now and then.
    """
    ratios = pooled_ratios(mine, theirs, 0.95, paired=paired)
    if not ratios[int(UNEVEN * len(ratios))] > limit:
        return None
    return Outcome.FAIL if ratios[0] > max(limit, MUCH) else Outcome.INCONCLUSIVE


def _pairs(
    candidate: Side, champion: Side
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Requests answered per second by both sides in the rounds that both have."""
    if candidate.saturation is None or champion.saturation is None:
        return np.zeros(0), np.zeros(0), 0
    both, mine, theirs = np.intersect1d(
        candidate.saturation.block, champion.saturation.block, return_indices=True
    )
    return candidate.saturation.rps[mine], champion.saturation.rps[theirs], len(both)


def _few(found: Estimate) -> str:
    if found.pairs < LEAST_PAIRS:
        return f"{found.pairs} pairs of blocks are fewer than {LEAST_PAIRS}"
    return "what was measured has no ratio"


def _end(value_ms: float) -> str:
    return ms(value_ms) if math.isfinite(value_ms) else "without one either"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times"


def _interval(found: Estimate) -> tuple[float, float] | None:
    known = all(map(math.isfinite, (found.value, found.low, found.high)))
    return (found.low, found.high) if known else None
