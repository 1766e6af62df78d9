from __future__ import annotations

import datetime as dt
import re

import pytest
from gate.makers import judged, samples

from headgate.gate import conclude, markdown
from headgate.records import Check, Outcome, Release, Verdict

AT = dt.datetime(2026, 3, 1, 12, 5, tzinfo=dt.UTC)


def verdict(*checks: Check) -> Verdict:
    release = Release(tag="headgate:1", digest="sha256:abc", models=())
    return conclude(release, checks, "quick", AT)


def check(reason: str, model: str = "m") -> Check:
    return Check(name="p95", model=model, outcome=Outcome.FAIL, reason=reason, samples=7)


def cells(line: str) -> list[str]:
    """The cells of a table's row, as GitHub splits it: a backslash guards what follows."""
    inner = line.removeprefix("|").removesuffix("|")
    found = [""]
    for piece in re.findall(r"\\.|.", inner):
        if piece == "|":
            found.append("")
        else:
            found[-1] += piece.removeprefix("\\") if len(piece) > 1 else piece
    return [cell.strip() for cell in found]


def test_has_everything() -> None:
    checks = [*judged(samples()).values(), *judged(samples(wrong=1, model="n")).values()]
    lines = markdown(verdict(*checks)).splitlines()
    assert lines[:7] == [
        "## ❌ fail: headgate:1",
        "",
        "n: 1 of 1,000 answers differ from the model as trained; none may.",
        "",
        "| model | check | verdict | why |",
        "|---|---|---|---|",
        f"| m | p95 | ✅ pass | {checks[0].reason} |",
    ]
    rows = [cells(line) for line in lines[6:16]]
    assert [row[:2] for row in rows] == [[each.model, each.name] for each in checks]
    assert [row[3] for row in rows] == [each.reason for each in checks]
    assert {row[2] for row in rows} == {"✅ pass", "❌ fail"}
    assert lines[16:] == [
        "",
        "Profile `quick`, 2000 requests, 2026-03-01 12:05 UTC, digest `sha256:abc`.",
    ]


def test_nothing_checked() -> None:
    text = markdown(verdict())
    assert text.startswith("## ❔ inconclusive: headgate:1\n\nNothing was checked")
    assert text.endswith(".\n")


@pytest.mark.parametrize(
    "reason",
    [
        "a | b",
        "a || b |",
        r"a \| b",
        r"C:\models\|",
        "<b>bold</b>",
        "<class 'float'> | \\",
    ],
)
def test_a_reason_stays_in_its_cell_to_the_letter(reason: str) -> None:
    lines = markdown(verdict(check(reason, model="a|b"))).splitlines()
    assert cells(lines[6]) == ["a|b", "p95", "❌ fail", reason]
    assert "<" not in re.sub(r"\\.", "", "".join(lines))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\u2028", "\v"])
def test_a_reason_stays_on_its_line(end: str) -> None:
    text = markdown(verdict(check(f"first{end}## second")))
    plain = markdown(verdict(check("first ## second")))
    assert text == plain
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "## ❌ fail: headgate:1"
    ]
