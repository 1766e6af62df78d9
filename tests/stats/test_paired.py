from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headgate.stats import mcnemar, mean_difference, share_difference


class TestMeanDifference:
    def test_agrees_with_scipy(self) -> None:
        random = np.random.default_rng(3)
        first, second = random.normal(1, 1, 20), random.normal(0, 1, 20)
        theirs = stats.ttest_rel(first, second).confidence_interval(0.95)
        found = mean_difference(first, second, 0.025, 0.025)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
        assert found.value == pytest.approx(float((first - second).mean()))
        assert found.pairs == 20

    def test_ends_have_chances_of_their_own(self) -> None:
        first, second = np.array([1.0, 2, 4, 3]), np.zeros(4)
        wide, narrow = (
            mean_difference(first, second, 0.001, 0.025),
            mean_difference(first, second, 0.025, 0.025),
        )
        assert wide.low < narrow.low
        assert wide.high == narrow.high
        assert mean_difference(first, second, 0, 0).low == -math.inf

    @pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf, 2.0]])
    def test_unknown(self, values: list[float]) -> None:
        found = mean_difference(np.array(values), np.zeros(len(values)), 0.025, 0.025)
        assert math.isnan(found.value)
        assert (found.low, found.high) == (-math.inf, math.inf)

    def test_one_pair_has_no_interval(self) -> None:
        found = mean_difference(np.array([3.0]), np.array([1.0]), 0.025, 0.025)
        assert (found.value, found.low, found.high) == (2, -math.inf, math.inf)


class TestMcNemar:
    @pytest.mark.parametrize(("lost", "won"), [(0, 0), (5, 0), (12, 3), (3, 12), (40, 38)])
    def test_is_the_exact_mid_p(self, lost: int, won: int) -> None:
        chance = stats.binom(lost + won, 0.5)
        exact = chance.sf(lost - 1) - chance.pmf(lost) / 2
        assert mcnemar(lost, won) == pytest.approx(exact)

    def test_no_difference_is_even(self) -> None:
        assert mcnemar(0, 0) == pytest.approx(0.5)
        assert mcnemar(7, 7) == pytest.approx(0.5)

    @given(st.integers(0, 200), st.integers(0, 200))
    def test_the_two_sides_add_up(self, lost: int, won: int) -> None:
        assert mcnemar(lost, won) + mcnemar(won, lost) == pytest.approx(1)


class TestShareDifference:
    def test_bonett_and_price(self) -> None:
        """Written out: (lost + 1 - won - 1) / (n + 2) and its standard error."""
        found = share_difference(10, 3, 100, 0.025, 0.025)
        middle = 7 / 102
        error = math.sqrt((15 / 102 - middle**2) / 102)
        assert found.value == pytest.approx(0.07)
        assert (found.low, found.high) == pytest.approx(
            (middle - 1.959964 * error, middle + 1.959964 * error)
        )

    @pytest.mark.parametrize(("count", "down", "up"), [(100, 0.05, 0.05), (300, 0.1, 0.04)])
    def test_covers(self, count: int, down: float, up: float) -> None:
        random = np.random.default_rng(4)
        runs, held = 2_000, 0
        for lost, won, _ in random.multinomial(count, [down, up, 1 - down - up], runs):
            found = share_difference(int(lost), int(won), count, 0.025, 0.025)
            held += found.low <= down - up <= found.high
        assert 0.94 < held / runs < 0.98

    def test_no_pairs(self) -> None:
        found = share_difference(0, 0, 0, 0.025, 0.025)
        assert math.isnan(found.value)
        assert (found.low, found.high) == (-1, 1)

    @given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
    def test_stays_a_difference_of_shares(self, lost: int, won: int, same: int) -> None:
        found = share_difference(lost, won, lost + won + same, 0.005, 0.025)
        assert -1 <= found.low <= found.high <= 1
