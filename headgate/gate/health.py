"""Are the answers there, are they right, and what do they cost to start and to hold?"""

from __future__ import annotations

import math

from headgate.gate.absolute import Asked
from headgate.gate.wording import INTERVAL, causes, percent
from headgate.records import Check, Outcome

__all__ = ["error_rate", "load_time", "memory", "parity"]


def error_rate(asked: Asked, excused: int = 0) -> Check:
    """Fails where the exact interval is beyond the limit, however many were answered.

    ``excused`` refusals are no errors: at a peak, refusing is right.
    """
    samples, limit = asked.samples, asked.slo.max_error_rate
    count = len(samples.ok) - excused
    failed = count - int(samples.ok.sum())
    low, high = asked.levels.share(failed, count)
    why = causes(samples.errors)
    numbers = (
        f"{failed:,} of {count:,} requests failed"
        + (f" ({why})" if why else "")
        + (f", {excused:,} refusals at the peak not counted" if excused else "")
        + f"; at most {percent(limit)} may ({INTERVAL} {percent(low)} to {percent(high)})"
    )
    if low > limit:
        outcome, reason = Outcome.FAIL, f"{numbers}."
    elif asked.doubt.few:
        outcome, reason = Outcome.INCONCLUSIVE, f"The error rate is unknown: {asked.doubt.few}."
    elif failed / count <= limit:
        outcome, reason = Outcome.PASS, f"{numbers}."
    else:
        outcome, reason = Outcome.INCONCLUSIVE, f"{numbers}: too few to tell, measure longer."
    return Check(
        name="error_rate",
        model=samples.model,
        outcome=outcome,
        reason=reason,
        samples=count,
        unit="share",
        observed=failed / count if count else None,
        limit=limit,
        interval=(low, high),
    )


def parity(asked: Asked, answered: int, wrong: int, least: int) -> Check:
    """One wrong answer fails, be it the only one; only ``least`` right ones show that none is.

    ``answered`` and ``wrong`` count every answer of the model, those at saturation among them.
    """
    if wrong:
        outcome = Outcome.FAIL
        reason = f"{wrong:,} of {answered:,} answers differ from the model as trained; none may."
    elif asked.doubt.few or answered < least:
        few = f"{answered:,} answers are fewer than the {least:,} that the profile wants compared"
        outcome = Outcome.INCONCLUSIVE
        reason = (
            "Whether its answers are those of the model as trained is unknown: "
            f"{asked.doubt.few or few}."
        )
    else:
        outcome = Outcome.PASS
        reason = f"All {answered:,} answers are those of the model as trained."
    return Check(
        name="parity",
        model=asked.samples.model,
        outcome=outcome,
        reason=reason,
        samples=answered,
        unit="answers",
        observed=float(wrong),
        limit=0.0,
    )


def load_time(asked: Asked, took_s: float) -> Check:
    """From its start to ready; known at once, and the same at every look."""
    limit_s = asked.slo.max_load_s
    reason = f"Ready {took_s:.1f} s after its start; {limit_s:g} s are allowed."
    unknown = "How long it took to get ready is unknown."
    reasons = reason, unknown
    return _once(asked, "load_time", unit="s", value=took_s, limit=limit_s, reasons=reasons)


def memory(asked: Asked, held_mb: float, limit_mb: float) -> Check:
    """The most that all processes of the release held under load."""
    reason = f"It held {held_mb:,.0f} MiB at most; {limit_mb:,g} MiB are allowed."
    unknown = "How much memory it held is unknown."
    reasons = reason, unknown
    return _once(asked, "memory", unit="MiB", value=held_mb, limit=limit_mb, reasons=reasons)


def _once(
    asked: Asked, name: str, *, unit: str, value: float, limit: float, reasons: tuple[str, str]
) -> Check:
    """A figure that is measured once, or is not known: then the second reason holds."""
    known = math.isfinite(value)
    outcome = Outcome.PASS if value <= limit else Outcome.FAIL
    return Check(
        name=name,
        model=asked.samples.model,
        outcome=outcome if known else Outcome.INCONCLUSIVE,
        reason=reasons[0] if known else reasons[1],
        samples=1 if known else 0,
        unit=unit,
        observed=value if known else None,
        limit=limit,
    )
