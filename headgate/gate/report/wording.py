"""How every form of the report puts a number, a check and an order."""

from __future__ import annotations

import math
import re

from headgate.records import Check, Outcome, Verdict

__all__ = [
    "MARK",
    "RANK",
    "TITLE",
    "asked",
    "beside",
    "blamed",
    "by_urgency",
    "interval",
    "limit",
    "observed",
    "plain",
    "quantity",
    "title",
    "what_now",
]

RANK = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASS: 2}
MARK = {Outcome.PASS: "✅ pass", Outcome.FAIL: "❌ fail", Outcome.INCONCLUSIVE: "❔ inconclusive"}
TITLE = {
    "p95": "P95 latency",
    "p99": "P99 latency",
    "throughput": "Throughput",
    "error_rate": "Error rate",
    "load_time": "Time to ready",
    "memory": "Memory",
    "parity": "Wrong answers",
    "p95_ratio": "P95 ratio",
    "throughput_ratio": "Throughput ratio",
    "quality": "Quality",
    "recovery": "Recovery from the spike",
    "ramp": "Ramp",
    "drift_over_time": "Drift over time",
    "measurement": "Measurement",
    "serving": "Serving",
    "cost": "Cost",
}
"""What a check is called, by its name; a name that is not here speaks for itself."""
_AT_MOST = {
    "p95",
    "p99",
    "error_rate",
    "load_time",
    "memory",
    "parity",
    "p95_ratio",
    "recovery",
    "drift_over_time",
    "cost",
    "quality",
}
_AT_LEAST = {"throughput", "throughput_ratio", "ramp"}
_SHARES = {"share", "accuracy"}
_UNSAID = {"mean absolute error", "ratio"}
"""Units that a number goes without: the reason says what it is."""
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 does not allow in any document (section 2.2)."""


def plain(text: str) -> str:
    """Without what XML forbids: control characters, lone surrogates; a reason may quote a server."""
    return _FORBIDDEN.sub("\ufffd", text)


def asked(name: str) -> str:
    """What a check asks: its name without the profile that may come before it (``spike/p95``)."""
    return name.rpartition("/")[2]


def title(name: str) -> str:
    """What people call the check of this name."""
    profile, _, bare = name.rpartition("/")
    said = TITLE.get(bare) or plain(bare).replace("_", " ")
    return f"{said} ({plain(profile)})" if profile else said


def quantity(value: float | None, unit: str, decimals: int | None = None) -> str:
    """A number as a person reads it; a dash where there is none.

    Args:
        value: In the unit; of a share, from 0 to 1.
        unit: ``ms``, ``share`` and the like; empty for a bare number.
        decimals: After the point; None for three digits that count.
    """
    if value is None or math.isnan(value):
        return "–"  # noqa: RUF001
    if math.isinf(value):
        return "endless" if unit in {"ms", "s"} else "unbounded"
    shown = _scale(unit) * value
    if decimals is None:
        decimals = 0 if shown == round(shown) else _decimals(shown)
    if shown == 0:
        decimals = 0
    return f"{shown:,.{decimals}f}{_suffix(unit)}"


def observed(check: Check) -> str:
    """What was seen."""
    return quantity(check.observed, check.unit, _of_check(check))


def limit(check: Check) -> str:
    """What is allowed, with a sign for most and least where the check's name tells."""
    if check.limit is None:
        return quantity(None, "")
    name = asked(check.name)
    sign = "≤ " if name in _AT_MOST else "≥ " if name in _AT_LEAST else ""
    shown = f"{_scale(check.unit) * check.limit:,.10g}"
    return f"{_of_what(check)}{sign}{shown}{_suffix(check.unit)}"


def interval(check: Check) -> str:
    """Its confidence interval; a dash where there is none. Without the unit that stands beside it."""
    if check.interval is None:
        return quantity(None, "")
    unit, decimals, what = check.unit, _of_check(check), _of_what(check)
    low, high = (
        quantity(end, unit, decimals).removesuffix(_suffix(unit)) for end in check.interval
    )
    suffix = _suffix(unit) if what or check.observed is None else ""
    if math.isinf(check.interval[1]):
        return f"{what}{low}{suffix} upwards"
    return f"{what}{low} to {high}{suffix}"


def _of_what(check: Check) -> str:
    """The limit and the interval of quality are those of the loss, not of what was observed."""
    return "loss " if asked(check.name) == "quality" else ""


def by_urgency(checks: tuple[Check, ...]) -> list[Check]:
    """The failed first, then the inconclusive, then the passed; each in the order given."""
    return sorted(checks, key=lambda check: RANK[check.outcome])


def blamed(verdict: Verdict) -> tuple[list[Check], str]:
    """The checks whose reasons make the verdict's, if there are several, and what it says more.

    They read better one below the other than as the paragraph that they are.
    """
    found = [check for check in verdict.checks if check.outcome is verdict.outcome]
    told = " ".join(f"{each.model}: {each.reason}" if each.model else each.reason for each in found)
    if len(found) > 1 and verdict.reason.startswith(told):
        return found, verdict.reason[len(told) :].strip()
    return [], verdict.reason


def beside(verdict: Verdict) -> str:
    """What the other side is called: only what has a digest is a release, and may be a champion."""
    return "champion" if verdict.digest else "baseline"


def what_now(verdict: Verdict) -> str:
    """What the reader should do."""
    if verdict.outcome is Outcome.PASS:
        return "It may get traffic."
    if verdict.outcome is Outcome.FAIL:
        return "It must not get traffic: mend what failed, then gate it again."
    return (
        "Nothing is proven, so it gets no traffic: settle what is named above, then gate it again."
    )


def _scale(unit: str) -> float:
    return 100 if unit in _SHARES else 1


def _suffix(unit: str) -> str:
    if unit in _SHARES:
        return " %"
    return f" {plain(unit)}" if unit and unit not in _UNSAID else ""


def _of_check(check: Check) -> int:
    """Digits after the point, the same for all numbers of a check, so that they compare."""
    if check.name.endswith("_ratio"):
        return 3
    scale = _scale(check.unit)
    told = [check.observed, *(check.interval or ())]
    known = [scale * value for value in told if value is not None and math.isfinite(value)]
    if all(value == round(value) for value in known):
        return 0
    return _decimals(max(known, key=abs))


def _decimals(value: float) -> int:
    """For three digits that count."""
    return max(0, min(9, 2 - math.floor(math.log10(abs(value)))))
