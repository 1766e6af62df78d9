"""The verdict for people who were not there, and for the machines that show it to them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headgate.gate.report.junit import junit
from headgate.gate.report.markdown import markdown
from headgate.records import Evidence, Moment, Verdict

__all__ = ["Moment", "markdown", "reports"]


def reports(
    verdict: Verdict, evidence: Evidence | None, course: Sequence[Moment] = ()
) -> dict[str, bytes]:
    """Every form of the report, by file name.

    Args:
        verdict: What the gate said.
        evidence: What it rests on; None where nothing could be measured.
        course: The checks as they stood at each look, in the order of the looks.

    Returns:
        ``verdict.json``, ``report.md`` (a pull request's comment, a job's summary), ``junit.xml``
        and ``report.html``, one page that needs nothing else.
    """
    from headgate.gate.report.page import page

    verdict = _encodable(verdict)
    return {
        "verdict.json": msgspec.json.format(msgspec.json.encode(verdict)) + b"\n",
        "report.md": markdown(verdict).encode(),
        "junit.xml": junit(verdict),
        "report.html": page(verdict, evidence, course).encode(),
    }


def _encodable(verdict: Verdict) -> Verdict:
    """Without halves of UTF-16 pairs: JSON may bring them, in what a server said, and no file can."""
    replace = msgspec.structs.replace
    checks = (replace(check, reason=_whole(check.reason)) for check in verdict.checks)
    return replace(verdict, reason=_whole(verdict.reason), checks=tuple(checks))


def _whole(text: str) -> str:
    return text.encode(errors="replace").decode()
