"""Checks → verdict: what several looks decided together, and what that adds up to. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from headgate.records import Check, Outcome, Release, Verdict

__all__ = ["conclude", "settle"]

BY_INTERVAL = frozenset({"p95", "p99", "p95_ratio", "throughput_ratio", "cost"})
"""Checks that pass only where the whole interval is within the limit."""


def settle(earlier: Sequence[Check], now: Sequence[Check]) -> tuple[Check, ...]:
    """What all looks so far have decided.

    A fail stays one. A pass by an interval stays one unless the check fails now: the intervals of
    all looks hold the truth together, as often as is said (repeated confidence intervals: C. Jennison
    and B. W. Turnbull, "Interim analyses: the repeated confidence interval approach", J. R. Stat.
    Soc. B 51 (1989), 305-361), and the next one may happen to be wider. Other checks pass by
    what was observed, and the last look has observed most.
    """
    decided = {(check.name, check.model): check for check in earlier}
    merged = []
    for check in now:
        before = decided.pop((check.name, check.model), None)
        holds = before is not None and (
            before.outcome is Outcome.FAIL
            or (
                check.name in BY_INTERVAL
                and before.outcome is Outcome.PASS
                and check.outcome is Outcome.INCONCLUSIVE
            )
        )
        merged.append(before if before is not None and holds else check)
    return (*merged, *decided.values())


def conclude(
    release: Release, checks: Sequence[Check], profile_name: str, at: dt.datetime, note: str = ""
) -> Verdict:
    """One verdict: fail if any check fails, else inconclusive if any is or there is none.

    ``note`` is a sentence on how it was reached; it ends the reason.
    """
    outcomes = {check.outcome for check in checks}
    if Outcome.FAIL in outcomes:
        worst = Outcome.FAIL
    elif Outcome.INCONCLUSIVE in outcomes or not checks:
        worst = Outcome.INCONCLUSIVE
    else:
        worst = Outcome.PASS
    # The checks of one model saw the same requests; those of the release saw no others.
    named = [check for check in checks if check.model] or checks
    requests = {check.model: 0 for check in named}
    for check in named:
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
        reason=f"{reason} {note}".rstrip(),
        samples=count,
        profile=profile_name,
        at=at,
        checks=tuple(checks),
    )


def _named(check: Check) -> str:
    return f"{check.model}: {check.reason}" if check.model else check.reason
