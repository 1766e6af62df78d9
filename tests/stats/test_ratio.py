from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from headgate.stats import LEAST_PAIRS, Blocks, log_ratio, quantile_ratio
from headgate.stats.ratio import harrell_davis

SIZE = 60
Noise = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


def lognormal(random: np.random.Generator, pairs: int) -> npt.NDArray[np.float64]:
    return random.lognormal(0, 0.3, (2, pairs, SIZE))


def heavy(random: np.random.Generator, pairs: int) -> npt.NDArray[np.float64]:
    """Pareto's, of which not even the variance is finite."""
    return 1 + random.pareto(1.5, (2, pairs, SIZE))


def correlated(random: np.random.Generator, pairs: int) -> npt.NDArray[np.float64]:
    smooth = lfilter([0.6], [1.0, -0.8], random.normal(0, 0.3, (2, pairs, SIZE)), axis=2)
    return np.exp(smooth)


def switched(random: np.random.Generator, pairs: int) -> npt.NDArray[np.float64]:
    """Another process doubles all times of whole rounds, and of a tenth of the blocks alone."""
    level = 1 + (random.random(pairs) < 0.4) + (random.random((2, pairs)) < 0.1)
    return lognormal(random, pairs) * level[..., None]


def stalled(random: np.random.Generator, pairs: int) -> npt.NDArray[np.float64]:
    """A fifth of the requests of a tenth of the blocks take far longer."""
    found = lognormal(random, pairs)
    hit = random.random((2, pairs)) < 0.1
    found[..., : SIZE // 5] += 20 * hit[..., None]
    return found


def unanswered(random: np.random.Generator, pairs: int) -> npt.NDArray[np.float64]:
    """A tenth of the requests of a tenth of the blocks are never answered, and some anywhere."""
    found = lognormal(random, pairs)
    hit = random.random((2, pairs)) < 0.1
    found[..., : SIZE // 10][hit] = np.inf
    found[random.random(found.shape) < 0.002] = np.inf
    return found


def blocks(values: npt.NDArray[np.float64]) -> Blocks:
    return Blocks(values.ravel(), np.repeat(np.arange(len(values)), values.shape[1]))


@pytest.mark.parametrize("pairs", [LEAST_PAIRS, 12, 40])
@pytest.mark.parametrize("noise", [lognormal, heavy, correlated, switched, stalled, unanswered])
def test_covers(noise: Noise, pairs: int) -> None:
    """The true ratio is beyond an end that allows for 2.5 % no more often than that."""
    random = np.random.default_rng(1)
    runs, below, above = 400, 0, 0
    for _ in range(runs):
        first, second = noise(random, pairs)
        found = quantile_ratio(blocks(first * 1.1), blocks(second), 0.95, below=0.025, above=0.025)
        below += found.low > 1.1
        above += found.high < 1.1
    # 2.5 % and three standard errors.
    assert max(below, above) / runs <= 0.025 + 3 * math.sqrt(0.025 / runs)


def test_the_machines_noise_that_a_pair_shares_costs_no_width() -> None:
    random = np.random.default_rng(2)
    first, second = lognormal(random, 20)
    level = random.lognormal(0, 1, (20, 1))
    quiet, noisy = (
        quantile_ratio(blocks(first * each), blocks(second * each), 0.95, below=0.01, above=0.01)
        for each in (np.ones((20, 1)), level)
    )
    assert (noisy.value, noisy.low, noisy.high) == pytest.approx(
        (quiet.value, quiet.low, quiet.high)
    )


def test_stalls_cost_little_width() -> None:
    random = np.random.default_rng(3)
    first, second = lognormal(random, 40)
    clean = quantile_ratio(blocks(first), blocks(second), 0.95, below=0.01, above=0.01)
    first[3, :20] += 30
    second[[5, 9], :20] += 30
    hit = quantile_ratio(blocks(first), blocks(second), 0.95, below=0.01, above=0.01)
    assert hit.high - hit.low < 1.5 * (clean.high - clean.low)


def test_only_blocks_that_both_have_are_pairs() -> None:
    values = np.random.default_rng(4).lognormal(0, 0.2, 400)
    first = Blocks(values, np.repeat(np.arange(10), 40))
    second = Blocks(values[:320], np.repeat(np.arange(2, 10), 40))
    assert quantile_ratio(first, second, 0.95, below=0.01, above=0.01).pairs == 8


class TestUnpaired:
    def test_covers(self) -> None:
        random = np.random.default_rng(5)
        runs, missed = 400, 0
        for _ in range(runs):
            first, second = lognormal(random, 15) * random.lognormal(0, 0.1, (2, 15, 1))
            found = quantile_ratio(
                blocks(first[:10]), blocks(second), 0.95, below=0.025, above=0.025, paired=False
            )
            missed += not found.low <= 1 <= found.high
            assert found.pairs == 10
        assert missed / runs <= 0.05 + 3 * math.sqrt(0.05 / runs)

    def test_what_pairs_share_is_noise_here(self) -> None:
        random = np.random.default_rng(6)
        first, second = lognormal(random, 20) * random.lognormal(0, 0.5, (20, 1))
        paired, unpaired = (
            quantile_ratio(
                blocks(first), blocks(second), 0.95, below=0.01, above=0.01, paired=paired
            )
            for paired in (True, False)
        )
        assert unpaired.high - unpaired.low > 2 * (paired.high - paired.low)

    def test_equal_values(self) -> None:
        same = blocks(np.full((8, 5), 3.0))
        found = quantile_ratio(same, same, 0.95, below=0.01, above=0.01, paired=False)
        assert (found.value, found.low, found.high) == (1, 1, 1)


class TestLogRatio:
    def test_is_the_geometric_mean_without_the_outermost_fifths(self) -> None:
        found = log_ratio(np.array([1e9, 2, 2, 3, 3, 4, 4, 5, 5, 1e-9]), np.ones(10), 0.01, 0.01)
        assert found.value == pytest.approx((3 * 3 * 4 * 4 * 2 * 5) ** (1 / 6), rel=0.2)
        assert found.low < found.value < found.high

    def test_is_that_of_tukey_and_mclaughlin(self) -> None:
        logs = np.random.default_rng(7).normal(0, 1, 20)
        found = log_ratio(np.exp(logs), np.ones(20), 0.025, 0.025)
        assert math.log(found.value) == pytest.approx(stats.trim_mean(logs, 0.2))
        error = stats.mstats.winsorize(logs, (0.2, 0.2)).std(ddof=1) / (0.6 * math.sqrt(20))
        reach = stats.t(0.77 * 11).ppf(0.975)
        assert math.log(found.high / found.value) == pytest.approx(reach * error)

    @pytest.mark.parametrize("pairs", [6, 7, 10, 15, 30])
    @pytest.mark.parametrize("tail", [0.001, 0.025])
    def test_small_chances_are_kept_too(self, pairs: int, tail: float) -> None:
        """On normal data: what alpha spending leaves for an early look is far out."""
        random = np.random.default_rng(8)
        runs = 8_000
        logs = random.normal(0, 1, (runs, pairs))
        missed = sum(log_ratio(np.exp(each), np.ones(pairs), tail, 0.4).low > 1 for each in logs)
        assert missed / runs <= 1.1 * tail + 3 * math.sqrt(tail / runs)

    @pytest.mark.parametrize("count", range(LEAST_PAIRS))
    def test_few_pairs_say_nothing(self, count: int) -> None:
        found = log_ratio(np.ones(count), np.ones(count), 0.025, 0.025)
        assert math.isnan(found.value)
        assert (found.low, found.high, found.pairs) == (0, math.inf, count)

    def test_nan_says_nothing(self) -> None:
        values = np.array([math.nan, *np.ones(9)])
        assert math.isnan(log_ratio(values, np.ones(10), 0.025, 0.025).value)
        assert math.isnan(log_ratio(np.ones(10), values, 0.025, 0.025).value)

    def test_always_infinite_is_infinite(self) -> None:
        found = log_ratio(np.full(8, math.inf), np.ones(8), 0.005, 0.025)
        assert found.value == math.inf
        assert found.low == math.inf
        assert log_ratio(np.zeros(8), np.ones(8), 0.005, 0.025).value == 0

    def test_two_infinities_have_no_ratio(self) -> None:
        first = np.array([math.inf, *np.full(8, 2.0)])
        second = np.array([math.inf, *np.ones(8)])
        found = log_ratio(first, second, 0.025, 0.025)
        assert (found.value, found.pairs) == (2, 8)

    def test_no_chance_left_is_no_end(self) -> None:
        values = np.arange(1.0, 9.0)
        found = log_ratio(values, np.ones(8), 0, 0)
        assert (found.low, found.high) == (0, math.inf)

    @given(
        st.lists(st.tuples(st.floats(0, 1e9) | st.just(math.inf), st.floats(0, 1e9)), max_size=30)
    )
    def test_is_in_order_and_turns_round(self, pairs: list[tuple[float, float]]) -> None:
        first, second = np.array(pairs, dtype=float).reshape(-1, 2).T
        found = log_ratio(first, second, 0.005, 0.025)
        turned = log_ratio(second, first, 0.025, 0.005)
        if not math.isnan(found.value):
            assert found.low <= found.value <= found.high
            if 1e-6 < found.value < 1e6:
                assert turned.value == pytest.approx(1 / found.value)


class TestHarrellDavis:
    @pytest.mark.parametrize("count", [2, 5, 20, 100, 200, 1_000])
    def test_agrees_with_scipy(self, count: int) -> None:
        sample = np.random.default_rng(9).lognormal(0, 1, count)
        theirs = stats.mstats.hdquantiles(sample, [0.95])[0]
        assert harrell_davis(sample, 0.95) == pytest.approx(theirs, rel=1e-4)

    def test_one_value_is_its_own_quantile(self) -> None:
        assert harrell_davis([3.0], 0.95) == 3
        assert math.isnan(harrell_davis([], 0.95))
        assert math.isnan(harrell_davis([1.0, math.nan], 0.95))

    def test_what_is_never_answered_counts_by_its_rank(self) -> None:
        sample = np.arange(1.0, 201.0)
        plain = harrell_davis(sample, 0.95)
        sample[-3:] = math.inf
        assert harrell_davis(sample, 0.95) == pytest.approx(plain, rel=0.01)
        sample[-11:] = math.inf
        assert harrell_davis(sample, 0.95) == math.inf
