"""For a pull request's comment and a CI job's summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headgate.gate.report.wording import (
    MARK,
    blamed,
    by_urgency,
    interval,
    limit,
    observed,
    plain,
    what_now,
)
from headgate.records import Check, Outcome, Verdict

__all__ = ["markdown"]

_LONGEST = 2_000
"""Characters of a reason that are shown: it may quote a server."""
_NAMED = 8
"""Checks whose reasons come before the table."""
_MOST = 60_000
"""GitHub refuses a comment of more than 65,536 characters."""
_HEAD = (
    "| model | check | verdict | observed | limit | interval | samples | why |",
    "|---|---|---|--:|--:|--:|--:|---|",
)


def markdown(verdict: Verdict) -> str:
    """The verdict, its reason, what is against it in a table, and the rest in one to unfold."""
    checks = by_urgency(verdict.checks)
    against = [check for check in checks if check.outcome is not Outcome.PASS]
    passed = [check for check in checks if check.outcome is Outcome.PASS]
    head = [
        f"## {MARK[verdict.outcome]}: {_cell(verdict.release)}",
        "",
        *_reason(verdict),
        "",
        f"**{what_now(verdict)}**",
        "",
    ]
    foot = [_rests_on(verdict), ""]
    room = _MOST - sum(len(line) + 1 for line in head + foot)
    first = _table(against, room)
    count = f"{len(passed)} check{'' if len(passed) == 1 else 's'} passed"
    rest = _table(passed, room - sum(len(line) + 1 for line in first))
    if rest:
        rest = [f"<details><summary>{count}</summary>", "", *rest, "</details>", ""]
    return "\n".join([*head, *first, *rest, *foot])


def _reason(verdict: Verdict) -> list[str]:
    several, more = blamed(verdict)
    lines = [f"- {_named(check)}" for check in several[:_NAMED]]
    if rest := len(several) - len(lines):
        lines.append(f"- and {rest} more")
    if more:
        lines += [*([""] if lines else []), _cell(more)]
    return lines


def _named(check: Check) -> str:
    return (
        f"**{_cell(check.model)}**: {_cell(check.reason)}" if check.model else _cell(check.reason)
    )


def _rests_on(verdict: Verdict) -> str:
    told = [f"{verdict.samples:,} requests", f"{verdict.at:%Y-%m-%d %H:%M} UTC"]
    if verdict.profile:
        told.insert(0, f"profile `{_code(verdict.profile)}`")
    if verdict.digest:
        told.append(f"digest `{_code(verdict.digest)}`")
    line = ", ".join(told)
    return f"{line[:1].upper()}{line[1:]}."


def _table(checks: Sequence[Check], room: int) -> list[str]:
    """As many rows as have room; nothing for no checks."""
    if not checks:
        return []
    lines = list(_HEAD)
    room -= sum(len(line) + 1 for line in lines) + 200  # what is said of those left out
    for number, row in enumerate(_rows(checks)):
        room -= len(row) + 1
        if room < 0:
            return [*lines, "", f"{len(checks) - number} more are in `report.html`.", ""]
        lines.append(row)
    return [*lines, ""]


def _rows(checks: Iterable[Check]) -> Iterable[str]:
    for check in checks:
        cells = (
            check.model,
            check.name,
            MARK[check.outcome],
            observed(check),
            limit(check),
            interval(check),
            f"{check.samples:,}",
            check.reason,
        )
        yield "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """On one line, with neither cells, links nor HTML of its own: it may quote a server."""
    text = " ".join(plain(text).split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} …"
    for special in "\\|<&[`*~":
        text = text.replace(special, f"\\{special}")
    return text


def _code(text: str) -> str:
    """Between backticks, where a backslash guards nothing."""
    return " ".join(plain(text).replace("`", "'").split())
