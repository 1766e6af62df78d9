from __future__ import annotations

import re

import msgspec
import pytest
from gate.evidence import check, verdict

from headgate.gate.report import markdown, reports
from headgate.records import Check, Verdict


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


def failed(reason: str, model: str = "m") -> Check:
    return check("p95", "fail", reason, model=model)


def bare(text: str) -> str:
    """What is left of it without the report's own folding and what a backslash guards."""
    for own in ("<details><summary>1 check passed</summary>", "</details>"):
        text = text.replace(own, "")
    return re.sub(r"\\.", "", text)


def test_verdict_first_then_what_is_against_it_then_the_rest_folded() -> None:
    told = verdict(
        check(
            "p95",
            observed=21.34,
            limit=50.0,
            unit="ms",
            interval=(20.9, 22.0),
            model="a",
            samples=1234,
        ),
        check("parity", "inconclusive", "Too few.", unit="answers", observed=0.0, limit=0.0),
        check("p95_ratio", "fail", "Slower.", observed=1.1, limit=1.05, interval=(1.07, 1.13)),
        outcome="fail",
        reason="m: Slower.",
    )
    assert markdown(told).splitlines() == [
        "## ❌ fail: headgate:1",
        "",
        "m: Slower.",
        "",
        "**It must not get traffic: mend what failed, then gate it again.**",
        "",
        "| model | check | verdict | observed | limit | interval | samples | why |",
        "|---|---|---|--:|--:|--:|--:|---|",
        "| m | p95_ratio | ❌ fail | 1.100 | ≤ 1.05 | 1.070 to 1.130 | 300 | Slower. |",
        "| m | parity | ❔ inconclusive | 0 answers | ≤ 0 answers | – | 300 | Too few. |",  # noqa: RUF001
        "",
        "<details><summary>1 check passed</summary>",
        "",
        "| model | check | verdict | observed | limit | interval | samples | why |",
        "|---|---|---|--:|--:|--:|--:|---|",
        "| a | p95 | ✅ pass | 21.3 ms | ≤ 50 ms | 20.9 to 22.0 | 1,234 | As it should be. |",
        "",
        "</details>",
        "",
        "Profile `quick`, 2,000 requests, 2026-03-01 12:05 UTC, digest `sha256:abc`.",
    ]


def test_several_reasons_are_a_list_and_a_note_stays_behind_it() -> None:
    told = verdict(
        failed("Too slow."),
        check("load_time", "fail", "Too late.", model=""),
        outcome="fail",
        reason="m: Too slow. Too late. Judged absolutely only.",
    )
    lines = markdown(told).splitlines()
    assert lines[2:6] == ["- **m**: Too slow.", "- Too late.", "", "Judged absolutely only."]


def test_quality_says_that_its_interval_is_of_the_loss() -> None:
    told = check(
        "full/quality", unit="accuracy", observed=0.982, limit=0.01, interval=(-0.002, 0.0041)
    )
    row = next(line for line in markdown(verdict(told)).splitlines() if "full/quality" in line)
    assert cells(row)[3:6] == ["98.2 %", "loss ≤ 1 %", "loss -0.2 to 0.4 %"]


def test_what_is_unknown_of_an_endpoint_is_left_out() -> None:
    told = msgspec.structs.replace(verdict(), digest="", profile="")
    assert markdown(told).endswith("\n2,000 requests, 2026-03-01 12:05 UTC.\n")


def test_nothing_checked() -> None:
    told = verdict(outcome="inconclusive", reason="Nothing was checked, and no data never passes.")
    text = markdown(told)
    assert text.startswith("## ❔ inconclusive: headgate:1\n\nNothing was checked")
    assert "|" not in text


@pytest.mark.parametrize(
    "reason",
    [
        "a | b",
        "a || b |",
        r"a \| b",
        r"C:\models\|",
        "<b>bold</b>",
        "<class 'float'> | \\",
        "&lt;b&gt; `code` **loud**",
        "![](http://example.com/pixel.png)",
    ],
)
def test_a_reason_stays_in_its_cell_to_the_letter(reason: str) -> None:
    lines = markdown(verdict(failed(reason, model="a|b"))).splitlines()
    row = cells(lines[8])
    assert (row[0], row[1], row[-1]) == ("a|b", "p95", reason)
    assert not set("<`[*&") & set(bare(lines[8]))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\u2028", "\v"])
def test_a_reason_stays_on_its_line(end: str) -> None:
    text = markdown(verdict(failed(f"first{end}## second")))
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["## ✅ pass: headgate:1"]
    assert "| first" in text


def test_fits_into_a_comment() -> None:
    many = [failed("x" * 5_000, model=f"m{number}") for number in range(100)]
    reason = " ".join(f"{each.model}: {each.reason}" for each in many)
    text = markdown(verdict(*many, check("p99"), outcome="fail", reason=reason))
    assert "- and 92 more" in text
    assert len(text) < 65_536
    shown = len(re.findall(r"^\| m\d", text, re.MULTILINE))
    assert 5 < shown < 100
    assert "x" * 2_000 + " …" in text
    assert f"{100 - shown} more are in `report.html`." in text


def test_all_forms_tell_the_same_verdict() -> None:
    told = verdict(failed("Too slow."), check("p99"), outcome="fail", reason="m: Too slow.")
    made = reports(told, None)
    assert set(made) == {"verdict.json", "report.md", "junit.xml", "report.html"}
    assert msgspec.json.decode(made["verdict.json"], type=Verdict) == told
    for name, content in made.items():
        assert "Too slow." in content.decode(), name


def test_half_a_surrogate_pair_stops_no_report() -> None:
    odd = "said \ud800 \x00"
    made = reports(verdict(failed(odd), outcome="fail", reason=odd), None)
    assert msgspec.json.decode(made["verdict.json"], type=Verdict).reason == "said ? \x00"
    for name in ("report.md", "junit.xml", "report.html"):
        assert "said ? \ufffd" in made[name].decode(), name
