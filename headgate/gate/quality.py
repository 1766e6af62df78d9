"""Does it predict as well as the champion, on the same labelled rows?"""

from __future__ import annotations

import math

import numpy as np

from headgate.gate.trust import FALSE_GOOD, FALSE_WORSE
from headgate.gate.wording import INTERVAL, percent
from headgate.records import Check, Outcome, Quality
from headgate.stats import Estimate, mcnemar, mean_difference, share_difference

__all__ = ["quality"]


def quality(measured: Quality, limit: float | None) -> Check:
    """A loss beyond the limit fails; one within it that chance explains as well passes.

    The rows are the same at every look, so no chance of a mistake is spent by looking. Accuracies
    are compared by McNemar's test, errors by Student's paired one.

    Args:
        measured: The scores of both.
        limit: How much worse it may be, in the metric's unit; None: anything, it is only said.
    """
    mine, theirs = measured.candidate, measured.champion
    count = len(mine)
    shares = measured.metric == "accuracy"

    def say(value: float) -> str:
        return percent(value) if shares else f"{value:.4g}"

    known = count > 0 and bool(np.isfinite(mine).all())
    own = float(mine.mean()) if known else math.nan
    figure = f"{measured.metric[:1].upper()}{measured.metric[1:]} {say(own)} on {count:,} rows"
    loss: Estimate | None = None
    if not known:
        outcome = Outcome.INCONCLUSIVE
        reason = f"Its {measured.metric} is unknown: " + (
            "there are no labelled rows." if not count else "some scores are not numbers."
        )
    elif theirs is None:
        outcome, reason = Outcome.PASS, f"{figure}; there is no champion's to compare it with."
    elif len(theirs) != count or not np.isfinite(theirs).all():
        outcome = Outcome.INCONCLUSIVE
        reason = f"{figure}; the champion's is unknown: its scores are not of the same rows."
    else:
        loss, chance = _loss(mine, theirs, shares=shares)
        way = "worse" if loss.value > 0 else "better"
        compared = (
            f"{figure}, the champion's {say(float(theirs.mean()))}: "
            f"{say(abs(loss.value))} {way if loss.value else 'apart'} "
            f"({INTERVAL} of the loss {say(loss.low)} to {say(loss.high)})"
        )
        outcome, ending = _judged(loss, chance, limit, say(limit) if limit is not None else "")
        reason = f"{compared}{ending}."
    return Check(
        name="quality",
        model=measured.model,
        outcome=outcome,
        reason=reason,
        samples=count,
        unit=measured.metric,
        observed=own if known else None,
        limit=limit,
        interval=(loss.low, loss.high) if loss and math.isfinite(loss.high - loss.low) else None,
    )


def _judged(loss: Estimate, chance: float, limit: float | None, most: str) -> tuple[Outcome, str]:
    if limit is None:
        return Outcome.PASS, "; no limit is set, so it is only said"
    if loss.low > limit:
        return Outcome.FAIL, f"; at most {most} may be lost"
    # Within the limit for sure, or as far as a few hundred rows tell.
    if loss.high <= limit or (loss.value <= limit and chance >= FALSE_GOOD):
        return Outcome.PASS, f"; up to {most} may be lost"
    return Outcome.INCONCLUSIVE, f"; too near to {most} to tell: label more rows"


def _loss(
    mine: np.ndarray[tuple[int], np.dtype[np.float64]],
    theirs: np.ndarray[tuple[int], np.dtype[np.float64]],
    *,
    shares: bool,
) -> tuple[Estimate, float]:
    """How much worse, and the chance of so much where neither is."""
    if shares:
        lost = int(((mine < 0.5) & (theirs > 0.5)).sum())
        won = int(((mine > 0.5) & (theirs < 0.5)).sum())
        found = share_difference(lost, won, len(mine), FALSE_WORSE, FALSE_GOOD)
        return found, mcnemar(lost, won)
    found = mean_difference(mine, theirs, FALSE_WORSE, FALSE_GOOD)
    significant = mean_difference(mine, theirs, FALSE_GOOD, FALSE_GOOD).low > 0
    return found, 0.0 if significant else 1.0
