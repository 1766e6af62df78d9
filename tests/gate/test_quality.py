from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gate.makers import COMPARE, evidence, judged, scattered

from headgate.config import DemandConfig, LoadProfile
from headgate.gate.quality import quality
from headgate.records import Outcome, Quality

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def accuracy(right: int, lost: int, won: int, count: int = 300) -> Quality:
    """The candidate right in so many rows; ``lost`` are the champion's alone, ``won`` its own."""
    mine, theirs = np.zeros(count), np.zeros(count)
    mine[:right] = 1
    theirs[won:right] = 1
    theirs[right : right + lost] = 1
    return Quality(model="m", metric="accuracy", candidate=mine, champion=theirs)


def errors(shift: float, scatter: float = 0.1, **other: Any) -> Quality:
    """Absolute errors around 1, the candidate's more by ``shift``."""
    random = np.random.default_rng(1)
    theirs = random.gamma(2, 0.5, 300)
    mine = np.maximum(0, theirs + shift + scatter * random.normal(0, 1, 300))
    return Quality(
        **{
            "model": "m",
            "metric": "mean absolute error",
            "candidate": mine,
            "champion": theirs,
            **other,
        }
    )


class TestAccuracy:
    def test_as_good(self) -> None:
        check = quality(accuracy(240, 6, 6), 0.02)
        assert check.outcome is PASS
        assert check.reason == (
            "Accuracy 80 % on 300 rows, the champion's 80 %: 0 % apart "
            "(97 % interval of the loss -3.19 % to 2.43 %); up to 2 % may be lost."
        )
        assert (check.name, check.unit, check.samples, check.limit) == (
            "quality",
            "accuracy",
            300,
            0.02,
        )
        assert check.observed == pytest.approx(0.8)
        assert check.interval == pytest.approx((-0.0319, 0.0243), abs=1e-4)

    def test_clearly_worse(self) -> None:
        check = quality(accuracy(200, 40, 5), 0.02)
        assert check.outcome is FAIL
        assert "11.7 % worse" in check.reason
        assert check.reason.endswith("; at most 2 % may be lost.")

    def test_better(self) -> None:
        check = quality(accuracy(250, 5, 30), 0.0)
        assert check.outcome is PASS
        assert "8.33 % better" in check.reason

    def test_a_little_worse_that_chance_explains(self) -> None:
        """Eight rows lost and five won: within the limit, and nobody can tell more of 300."""
        assert quality(accuracy(240, 8, 5), 0.02).outcome is PASS

    def test_a_little_worse_for_sure_is_open(self) -> None:
        """One per cent was lost, and not by chance; the limit may or may not be passed."""
        check = quality(accuracy(240, 9, 0), 0.03)
        assert check.outcome is INCONCLUSIVE
        assert check.reason.endswith("; too near to 3 % to tell: label more rows.")

    def test_a_loss_that_is_allowed_is_allowed(self) -> None:
        assert quality(accuracy(1_600, 40, 10, count=2_000), 0.05).outcome is PASS

    def test_beyond_the_limit_but_not_for_sure_is_open(self) -> None:
        assert quality(accuracy(230, 20, 10), 0.02).outcome is INCONCLUSIVE


class TestError:
    def test_as_good(self) -> None:
        check = quality(errors(0.0), 0.05)
        assert check.outcome is PASS
        assert check.reason == (
            "Mean absolute error 0.9608 on 300 rows, the champion's 0.9686: 0.007795 better "
            "(97 % interval of the loss -0.02336 to 0.004022); up to 0.05 may be lost."
        )

    def test_clearly_worse(self) -> None:
        check = quality(errors(0.2), 0.05)
        assert check.outcome is FAIL
        assert "0.1" in check.reason
        assert "worse" in check.reason

    def test_better(self) -> None:
        assert quality(errors(-0.2), 0.0).outcome is PASS

    def test_within_the_limit_for_sure(self) -> None:
        """Significantly worse, and allowed."""
        assert quality(errors(0.03), 0.1).outcome is PASS

    def test_too_near(self) -> None:
        assert quality(errors(0.06, scatter=0.3), 0.05).outcome is INCONCLUSIVE


def test_without_a_limit_it_is_only_said() -> None:
    check = quality(accuracy(200, 40, 5), None)
    assert check.outcome is PASS
    assert check.reason.endswith("; no limit is set, so it is only said.")
    assert check.limit is None


def test_alone() -> None:
    check = quality(Quality(model="m", metric="accuracy", candidate=np.ones(20)), 0.01)
    assert check.outcome is PASS
    assert check.reason == ("Accuracy 100 % on 20 rows; there is no champion's to compare it with.")


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ([], [], "there are no labelled rows"),
        ([1, math.nan], [1, 1], "some scores are not numbers"),
        ([1, 1], [1, math.nan], "its scores are not of the same rows"),
        ([1, 1], [1], "its scores are not of the same rows"),
    ],
)
@pytest.mark.parametrize("limit", [None, 0.01])
def test_bad_scores_are_open(
    mine: list[float], theirs: list[float], words: str, limit: float | None
) -> None:
    check = quality(
        Quality(model="m", metric="accuracy", candidate=np.array(mine), champion=np.array(theirs)),
        limit,
    )
    assert check.outcome is INCONCLUSIVE
    assert words in check.reason


def test_one_row_fails_and_passes_nothing_by_chance() -> None:
    assert quality(accuracy(0, 1, 0, count=1), 0.0).outcome is INCONCLUSIVE
    assert quality(errors(1.0, candidate=np.ones(1), champion=np.zeros(1)), 0.0).outcome is (
        INCONCLUSIVE
    )


class TestInTheGate:
    DEMAND = DemandConfig(max_quality_loss=0.02)

    def test_is_judged_beside_the_champion(self) -> None:
        seen = evidence(scattered(), scattered(), quality=(accuracy(200, 40, 5),))
        assert judged(seen, profile=COMPARE, demand=self.DEMAND)["quality"].outcome is FAIL

    def test_looking_often_costs_nothing_as_the_rows_stay_the_same(self) -> None:
        seen = evidence(scattered(), scattered(), quality=(accuracy(200, 40, 5),), looks=(0.001,))
        assert judged(seen, profile=COMPARE, demand=self.DEMAND)["quality"].outcome is FAIL

    @pytest.mark.parametrize("compares", [True, False])
    def test_alone_only_its_own_figure_is_said(self, compares: bool) -> None:
        seen = evidence(
            scattered(), None if compares else scattered(), quality=(accuracy(200, 40, 5),)
        )
        profile = COMPARE if compares else LoadProfile()
        check = judged(seen, profile=profile, demand=self.DEMAND)["quality"]
        assert check.outcome is PASS
        assert "no champion's to compare it with" in check.reason

    def test_of_another_model_is_not_asked(self) -> None:
        other = Quality(model="other", metric="accuracy", candidate=np.ones(20))
        assert "quality" not in judged(evidence(quality=(other,)))
