"""Samples → checks → verdict. Pure functions: no clock, no file, no network."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

import numpy as np

from headgate.config import LoadProfile, SloConfig
from headgate.records import Check, Outcome, Release, Samples, Verdict
from headgate.stats import clopper_pearson, quantile, quantile_interval

__all__ = ["conclude", "judge"]

BUSY = 0.9
"""A generator that uses more of its core than this measures itself."""
SUSTAINED = 0.99
"""Share of the offered requests that must be answered in time for a rate to count."""
NAMED = 5
"""Causes of errors that a reason names."""


def judge(
    samples: Samples, slo: SloConfig, profile: LoadProfile, *, max_generator_lateness_ms: float
) -> tuple[Check, ...]:
    """Ask one model's samples every question of its ``[slo]``, and whether its answers are right.

    A check fails where its 95 % interval lies beyond the limit and passes where there is enough
    data and what it asks for is shown; in between, and where the samples are too few or the
    generator measured itself, it is inconclusive.
    """
    # A request without an answer has an infinite time, and infinities have no difference.
    with np.errstate(invalid="ignore", over="ignore"):
        few = _too_few(samples, profile)
        doubt = few or _generator_at_fault(samples, max_generator_lateness_ms)
        return (
            _p95(samples, slo, doubt),
            _throughput(samples, slo, doubt),
            _error_rate(samples, slo, few),
            _load_time(samples, slo),
            _parity(samples, few),
        )


def conclude(
    release: Release, checks: Sequence[Check], profile_name: str, at: dt.datetime
) -> Verdict:
    """One verdict: fail if any check fails, else inconclusive if any is or there is none."""
    outcomes = {check.outcome for check in checks}
    if Outcome.FAIL in outcomes:
        worst = Outcome.FAIL
    elif Outcome.INCONCLUSIVE in outcomes or not checks:
        worst = Outcome.INCONCLUSIVE
    else:
        worst = Outcome.PASS
    # The checks of one model saw the same requests.
    requests = {check.model: 0 for check in checks}
    for check in checks:
        requests[check.model] = max(requests[check.model], check.samples)
    count = sum(requests.values())
    if worst is Outcome.PASS:
        reason = f"All {len(checks)} checks passed on {count:,} requests."
    else:
        blamed = [_named(check) for check in checks if check.outcome is worst]
        reason = " ".join(blamed) or "Nothing was checked, and no data never passes."
    return Verdict(
        release=release.tag,
        digest=release.digest,
        outcome=worst,
        reason=reason,
        samples=count,
        profile=profile_name,
        at=at,
        checks=tuple(checks),
    )


def _named(check: Check) -> str:
    return f"{check.model}: {check.reason}" if check.model else check.reason


def _too_few(samples: Samples, profile: LoadProfile) -> str:
    """Why there is too little data to say anything good; empty where there is enough."""
    count, answered = len(samples.ok), int(samples.ok.sum())
    if count == 0:
        return "no request was sent, and no data never passes"
    odd = int(np.isnan(samples.latency_s[samples.ok]).sum() + np.isnan(samples.sent_s).sum())
    if odd:
        return f"{odd} of the recorded times are not numbers"
    if answered < profile.min_requests:
        return f"{answered} answers are fewer than the {profile.min_requests} that the profile asks for"
    return ""


def _generator_at_fault(samples: Samples, most_late_ms: float) -> str:
    """Why the samples say more of the load generator than of the release; empty where not."""
    late_ms = 1000 * quantile(samples.sent_s - samples.intended_s, 0.95)
    # Negated, so that NaN is a fault.
    if not late_ms <= most_late_ms:
        return f"the load generator itself was {_ms(late_ms)} late (P95; {most_late_ms:g} ms are allowed)"
    if not samples.generator_cpu <= BUSY:
        return (
            f"the load generator used {samples.generator_cpu:.0%} of its core "
            f"({BUSY:.0%} is allowed)"
        )
    return ""


def _p95(samples: Samples, slo: SloConfig, doubt: str) -> Check:
    """Bounds by order statistics; a request without a right answer takes for ever."""
    latency_ms = np.where(samples.ok, samples.latency_s * 1000, math.inf)
    # What is left without the generator's own lateness: a release does not fail by that.
    own_s = samples.latency_s - np.maximum(0.0, samples.sent_s - samples.intended_s)
    own_low, _ = quantile_interval(np.where(samples.ok, own_s * 1000, math.inf), 0.95)
    observed = quantile(latency_ms, 0.95)
    low, high = quantile_interval(latency_ms, 0.95)
    count, failed = len(samples.ok), int((~samples.ok).sum())
    limit = f"the limit of {slo.p95_ms:g} ms"
    if math.isinf(observed):
        numbers = f"{failed:,} of {count:,} requests had no right answer"
    else:
        upper = f"{_ms(low)} to {_ms(high)}" if math.isfinite(high) else f"{_ms(low)} upwards"
        numbers = f"95 % interval {upper}, {count:,} requests"
    p95 = f"P95 {_ms(observed)}" if math.isfinite(observed) else "P95"
    if doubt:
        outcome, reason = Outcome.INCONCLUSIVE, f"P95 is unknown: {doubt}."
    elif own_low > slo.p95_ms:
        outcome, reason = Outcome.FAIL, f"{p95} is over {limit} ({numbers})."
    elif high <= slo.p95_ms:
        outcome, reason = Outcome.PASS, f"{p95} is within {limit} ({numbers})."
    else:
        outcome = Outcome.INCONCLUSIVE
        reason = f"{p95} is too near to {limit} to tell ({numbers}): measure longer."
    bounded = math.isfinite(low) and math.isfinite(high)
    return Check(
        name="p95",
        model=samples.model,
        outcome=outcome,
        reason=reason,
        samples=count,
        unit="ms",
        observed=observed if math.isfinite(observed) else None,
        limit=slo.p95_ms,
        interval=(low, high) if bounded else None,
    )


def _throughput(samples: Samples, slo: SloConfig, doubt: str) -> Check:
    """Whether so high a rate was sustained: a queue that only grows leaves answers behind."""
    count = len(samples.ok)
    offered = count / samples.duration_s if samples.duration_s > 0 else 0.0
    # Answered within the measured part, or as soon after it as the promised P95.
    until_s = samples.duration_s + slo.p95_ms / 1000
    in_time = int((samples.ok & (samples.intended_s + samples.latency_s <= until_s)).sum())
    share = in_time / count if count else 0.0
    low, high = clopper_pearson(in_time, count)
    numbers = (
        f"{share * offered:.1f} requests/s were answered in time of {offered:.1f} offered "
        f"({_percent(share)} of {count:,} requests; {_percent(SUSTAINED)} must be)"
    )
    if doubt:
        outcome, reason = Outcome.INCONCLUSIVE, f"Throughput is unknown: {doubt}."
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


def _error_rate(samples: Samples, slo: SloConfig, few: str) -> Check:
    """Fails where the exact interval is beyond the limit, however many were answered."""
    count = len(samples.ok)
    failed = count - int(samples.ok.sum())
    low, high = clopper_pearson(failed, count)
    causes = _causes(samples.errors)
    numbers = (
        f"{failed:,} of {count:,} requests failed"
        + (f" ({causes})" if causes else "")
        + f"; at most {_percent(slo.max_error_rate)} may "
        + f"(95 % interval {_percent(low)} to {_percent(high)})"
    )
    if low > slo.max_error_rate:
        outcome, reason = Outcome.FAIL, f"{numbers}."
    elif few:
        outcome, reason = Outcome.INCONCLUSIVE, f"The error rate is unknown: {few}."
    elif failed / count <= slo.max_error_rate:
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
        limit=slo.max_error_rate,
        interval=(low, high),
    )


def _causes(errors: dict[str, int]) -> str:
    """The most frequent first."""
    ranked = sorted(errors.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{number:,} x {cause}" for cause, number in ranked[:NAMED]]
    if rest := ranked[NAMED:]:
        words.append(f"{sum(number for _, number in rest):,} of {len(rest):,} other kinds")
    return ", ".join(words)


def _load_time(samples: Samples, slo: SloConfig) -> Check:
    took_s = samples.load_time_s
    known = math.isfinite(took_s)
    if not known:
        outcome, reason = Outcome.INCONCLUSIVE, "How long it took to get ready is unknown."
    else:
        outcome = Outcome.PASS if took_s <= slo.max_load_s else Outcome.FAIL
        reason = f"Ready {took_s:.1f} s after its start; {slo.max_load_s:g} s are allowed."
    return Check(
        name="load_time",
        model=samples.model,
        outcome=outcome,
        reason=reason,
        samples=1 if known else 0,
        unit="s",
        observed=took_s if known else None,
        limit=slo.max_load_s,
    )


def _parity(samples: Samples, few: str) -> Check:
    """One wrong answer fails, be it the only one."""
    answered = int(samples.ok.sum())
    wrong = int((samples.ok & ~samples.matched).sum())
    if wrong:
        outcome = Outcome.FAIL
        reason = f"{wrong:,} of {answered:,} answers differ from the model as trained; none may."
    elif few:
        outcome = Outcome.INCONCLUSIVE
        reason = f"Whether its answers are those of the model as trained is unknown: {few}."
    else:
        outcome = Outcome.PASS
        reason = f"All {answered:,} answers are those of the model as trained."
    return Check(
        name="parity",
        model=samples.model,
        outcome=outcome,
        reason=reason,
        samples=answered,
        unit="answers",
        observed=float(wrong),
        limit=0.0,
    )


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
