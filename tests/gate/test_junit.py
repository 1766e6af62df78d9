from __future__ import annotations

import junitparser
import pytest
from gate.evidence import check, verdict

from headgate.gate.report.junit import junit
from headgate.records import Verdict


def parsed(told: Verdict) -> junitparser.JUnitXml:
    return junitparser.JUnitXml.fromstring(junit(told))


def states(told: Verdict) -> dict[tuple[str, str], list[type]]:
    return {
        (case.classname, case.name): [type(result) for result in case.result]
        for suite in parsed(told)
        for case in suite
    }


def test_a_suite_for_each_model_and_a_case_for_each_check() -> None:
    told = verdict(
        check("p95", "fail", "Too slow."),
        check("parity", "inconclusive", "Too few."),
        check("p95", model="n"),
        check("load_time", model=""),
        outcome="fail",
    )
    document = parsed(told)
    assert [suite.name for suite in document] == ["m", "n", "headgate:1"]
    assert [(s.tests, s.failures, s.errors) for s in document] == [(2, 1, 1), (1, 0, 0), (1, 0, 0)]
    assert (document.tests, document.failures, document.errors) == (4, 1, 1)
    assert states(told) == {
        ("m", "p95"): [junitparser.Failure],
        ("m", "parity"): [junitparser.Error],
        ("n", "p95"): [],
        ("headgate:1", "load_time"): [],
    }


def test_says_why_and_what_it_rests_on() -> None:
    told = verdict(
        check(
            "p95",
            "fail",
            "Too <slow>.",
            observed=61.0,
            limit=50.0,
            unit="ms",
            interval=(55.0, 66.0),
        ),
        outcome="fail",
    )
    (suite,) = parsed(told)
    (case,) = suite
    (result,) = case.result
    assert (result.message, result.type) == ("Too <slow>.", "fail")
    assert "observed 61 ms, limit ≤ 50 ms, interval 55 to 66, 300 samples" in result.text
    assert {each.name: each.value for each in suite.properties()} == {
        "release": "headgate:1",
        "digest": "sha256:abc",
        "profile": "quick",
        "verdict": "fail",
    }


@pytest.mark.parametrize(
    ("outcome", "state"), [("inconclusive", junitparser.Error), ("fail", junitparser.Failure)]
)
def test_a_verdict_that_no_check_explains_is_not_green(outcome: str, state: type) -> None:
    told = verdict(check("p95"), outcome=outcome, reason="Locust was killed.")
    assert states(told) == {("headgate:1", "verdict"): [state], ("m", "p95"): []}


def test_no_checks_are_a_case_of_their_own() -> None:
    told = verdict(outcome="inconclusive", reason="Nothing was checked.")
    assert states(told) == {("headgate:1", "verdict"): [junitparser.Error]}


def test_equal_names_stay_apart() -> None:
    names = [name for _, name in states(verdict(check("quality"), check("quality")))]
    assert names == ["quality", "quality (2)"]


@pytest.mark.parametrize("odd", ["\x00", "\x1b[31m", "\x0b", "\ufffe", "\uffff"])
def test_what_xml_forbids_is_replaced(odd: str) -> None:
    told = verdict(check("p95", "fail", f"said {odd}!", model=f"m{odd}"), outcome="fail")
    (suite,) = parsed(told)
    (case,) = suite
    assert case.result[0].message.startswith("said \ufffd")
    assert suite.name.startswith("m\ufffd")
