from __future__ import annotations

from collections.abc import Generator

import pytest
from gate.makers import evidence, scattered

from headgate.gate import Trial
from headgate.records import Check, Evidence, Outcome

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def check(name: str, outcome: Outcome) -> Check:
    return Check(name=name, model="m", outcome=outcome, reason="", samples=1)


def test_saturation_goes_on_while_a_check_needs_it() -> None:
    trial = Trial()
    assert trial.saturates()
    trial.checks = (check("p95_ratio", INCONCLUSIVE), check("throughput_ratio", INCONCLUSIVE))
    assert trial.saturates()
    trial.checks = (check("p95_ratio", INCONCLUSIVE), check("throughput_ratio", PASS))
    assert not trial.saturates()
    trial.checks = (*trial.checks, check("cost", INCONCLUSIVE))
    assert trial.saturates()


@pytest.mark.parametrize(
    ("outcomes", "looks"),
    [([FAIL], 1), ([PASS], 1), ([INCONCLUSIVE, PASS], 2), (3 * [INCONCLUSIVE], 3)],
)
def test_it_ends_when_all_is_decided(outcomes: list[Outcome], looks: int) -> None:
    closed = []

    def seen() -> Generator[Evidence]:
        try:
            for _ in outcomes:
                yield evidence(scattered())
        finally:
            closed.append(True)

    trial = Trial()
    told = iter(outcomes)
    trial.follow(seen(), lambda _: (check("p95", next(told)),))
    assert len(trial.course) == looks
    assert trial.evidence is not None
    assert closed == [True]
