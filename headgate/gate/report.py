"""The verdict for people who were not there."""

from __future__ import annotations

from headgate.records import Outcome, Verdict

__all__ = ["markdown"]

_MARK = {Outcome.PASS: "✅ pass", Outcome.FAIL: "❌ fail", Outcome.INCONCLUSIVE: "❔ inconclusive"}


def markdown(verdict: Verdict) -> str:
    """For a pull request: the verdict, its reason, and a table of the checks."""
    footer = (
        f"Profile `{verdict.profile}`, {verdict.samples} requests, "
        f"{verdict.at:%Y-%m-%d %H:%M} UTC, digest `{verdict.digest}`."
    )
    lines = [
        f"## {_MARK[verdict.outcome]}: {verdict.release}",
        "",
        _cell(verdict.reason),
        "",
        "| model | check | verdict | why |",
        "|---|---|---|---|",
        *(
            f"| {_cell(check.model)} | {check.name} | {_MARK[check.outcome]} | {_cell(check.reason)} |"
            for check in verdict.checks
        ),
        "",
        footer,
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """On one line, with neither cells nor HTML of its own: it may quote a server."""
    for special in "\\|<":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.split())
