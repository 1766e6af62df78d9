from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from headgate.stats import clopper_pearson
from headgate.stats.proportions import beta_cdf

COUNTS = [1, 2, 10, 59, 200, 1_000, 100_000]


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "expected"),
    [
        # R's documentation of binom.test: 682 of 925 plants.
        (682, 925, 0.95, (0.7076683, 0.7654066)),
        (4, 20, 0.95, (0.0573340, 0.4366140)),
        # Closed forms: (tail ** (1 / n)) at the ends.
        (0, 10, 0.95, (0.0, 1 - 0.025 ** (1 / 10))),
        (10, 10, 0.95, (0.025 ** (1 / 10), 1.0)),
        (0, 1, 0.95, (0.0, 0.975)),
        (1, 1, 0.95, (0.025, 1.0)),
        # The rule of three: about 3 / n at most, at 95 % to one side.
        (0, 1_000, 0.90, (0.0, 0.0029912)),
    ],
)
def test_textbook_values(
    successes: int, trials: int, confidence: float, expected: tuple[float, float]
) -> None:
    assert clopper_pearson(successes, trials, confidence) == pytest.approx(expected, abs=5e-8)


def test_no_trials_say_nothing() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("trials", COUNTS)
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_agrees_with_scipy(trials: int, confidence: float) -> None:
    for successes in {0, 1, 2, trials // 100, trials // 3, trials - 1, trials} - {-1}:
        if successes > trials:
            continue
        theirs = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
        assert clopper_pearson(successes, trials, confidence) == pytest.approx(
            (theirs.low, theirs.high), rel=1e-5, abs=1e-12
        )


@pytest.mark.parametrize("trials", [1, 7, 30, 200])
def test_covers_at_least_as_often_as_it_says(trials: int) -> None:
    """Summed over every outcome, so exactly."""
    intervals = np.array([clopper_pearson(count, trials) for count in range(trials + 1)])
    for truth in np.linspace(0.001, 0.999, 97):
        holds = (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])
        assert stats.binom(trials, truth).pmf(np.arange(trials + 1))[holds].sum() >= 0.95 - 1e-9


def test_covers_what_is_drawn() -> None:
    random = np.random.default_rng(11)
    runs, trials, truth = 2_000, 400, 0.02
    counts = random.binomial(trials, truth, runs)
    intervals = {count: clopper_pearson(int(count), trials) for count in np.unique(counts)}
    held = np.mean([intervals[count][0] <= truth <= intervals[count][1] for count in counts])
    assert 0.93 < held < 0.999


@given(st.integers(0, 500), st.integers(0, 500))
def test_holds_the_observed_share_and_mirrors(successes: int, misses: int) -> None:
    trials = successes + misses
    low, high = clopper_pearson(successes, trials)
    assert 0 <= low <= high <= 1
    if trials:
        assert low <= successes / trials <= high
    mirrored = clopper_pearson(misses, trials)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (1, 0), (0, -1)])
def test_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes in {trials} trials"):
        clopper_pearson(successes, trials)


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5, math.nan, math.inf])
def test_impossible_confidence(confidence: float) -> None:
    with pytest.raises(ValueError, match=f"confidence {confidence} must lie between 0 and 1"):
        clopper_pearson(1, 2, confidence)


@given(st.floats(0, 1), st.integers(1, 20_000), st.integers(1, 20_000))
def test_beta_cdf_agrees_with_scipy(x: float, a: int, b: int) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), rel=1e-7, abs=1e-10)


@pytest.mark.parametrize(("x", "expected"), [(-1, 0), (0, 0), (1, 1), (2, 1), (0.25, 0.25)])
def test_beta_cdf_of_the_uniform(x: float, expected: float) -> None:
    assert beta_cdf(x, 1, 1) == pytest.approx(expected)
