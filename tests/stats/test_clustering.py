from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from headgate.stats import (
    clopper_pearson,
    clustered_quantile_interval,
    clustered_share,
    clusters,
    quantile_interval,
)

P95 = 1.6448536


def correlated(
    random: np.random.Generator, blocks: int, size: int, likeness: float
) -> npt.NDArray[np.float64]:
    """Blocks of an autoregressive process of variance 1."""
    pushes = random.normal(0, math.sqrt(1 - likeness**2), (blocks, size))
    pushes[:, 0] = random.normal(0, 1, blocks)
    smooth: npt.NDArray[np.float64] = lfilter([1.0], [1.0, -likeness], pushes, axis=1)
    return smooth.ravel()


class TestClusters:
    def test_many_blocks_are_the_clusters(self) -> None:
        block = np.repeat([3, 4, 7, *range(10, 20)], 50)
        assert clusters(block).tolist() == np.repeat(np.arange(13), 50).tolist()

    def test_few_blocks_are_cut_up(self) -> None:
        found = clusters(np.repeat([0, 1, 2], [100, 101, 30]))
        assert found[[0, 99, 100, 200, 201]].tolist() == [0, 3, 4, 7, 8]
        assert np.bincount(found).tolist() == [25, 25, 25, 25, 26, 25, 25, 25, 10, 10, 10]

    def test_small_blocks_stay_whole(self) -> None:
        assert clusters(np.array([5, 5, 6])).tolist() == [0, 0, 1]
        assert clusters(np.zeros(0, dtype=np.int64)).tolist() == []


class TestShare:
    @pytest.mark.parametrize(("count", "every"), [(1_000, 50), (240, 10)])
    def test_evenly_spread_it_is_nearly_clopper_and_pearson(self, count: int, every: int) -> None:
        hits = np.arange(count) % every == 0
        found = clustered_share(hits, np.arange(count) // 20, 0.025, 0.025)
        exact = clopper_pearson(int(hits.sum()), count)
        assert found == pytest.approx(exact, rel=0.1)

    def test_in_one_cluster_it_says_little(self) -> None:
        hits = np.arange(1_000) < 20
        low, high = clustered_share(hits, np.arange(1_000) // 20, 0.025, 0.025)
        assert low < 0.002
        assert high > 0.1

    def test_none_and_all(self) -> None:
        none, group = np.zeros(100, dtype=bool), np.arange(100) // 5
        assert clustered_share(none, group, 0.025, 0.025) == pytest.approx(clopper_pearson(0, 100))
        assert clustered_share(~none, group, 0.025, 0.025) == pytest.approx(
            clopper_pearson(100, 100)
        )
        assert clustered_share(none[:0], group[:0], 0.025, 0.025) == (0, 1)
        assert clustered_share(none, group, 0, 0) == (0, 1)

    def test_covers_what_comes_in_bursts(self) -> None:
        """Every hit comes as one of ten neighbours."""
        random = np.random.default_rng(6)
        runs, missed, naive = 150, 0, 0
        for _ in range(runs):
            hits = np.repeat(random.random(300) < 0.05, 10)
            low, high = clustered_share(hits, np.arange(3_000) // 100, 0.025, 0.025)
            missed += not low <= 0.05 <= high
            low, high = clopper_pearson(int(hits.sum()), 3_000)
            naive += not low <= 0.05 <= high
        assert missed / runs < 0.1
        assert naive / runs > 0.3


class TestQuantileInterval:
    @pytest.mark.parametrize(
        ("blocks", "size", "likeness", "above"),
        [
            (1, 500, 0.0, 0.035),
            (3, 100, 0.5, 0.035),
            (6, 200, 0.8, 0.05),
            (24, 200, 0.9, 0.05),
            (40, 200, 0.97, 0.06),
        ],
    )
    def test_covers(self, blocks: int, size: int, likeness: float, above: float) -> None:
        """Asked for 0.5 % below and 2.5 % above; a few slow spells are a skewed sample."""
        random = np.random.default_rng(7)
        runs, missed_low, missed_high = 400, 0, 0
        group = clusters(np.repeat(np.arange(blocks), size))
        for _ in range(runs):
            sample = correlated(random, blocks, size, likeness)
            low, high = clustered_quantile_interval(sample, group, 0.95, 0.005, 0.025)
            missed_low += low > P95
            missed_high += high < P95
        assert missed_low / runs < 0.016
        assert missed_high / runs < above

    def test_independent_ones_would_not_cover(self) -> None:
        random = np.random.default_rng(8)
        missed = 0
        for _ in range(200):
            low, high = quantile_interval(correlated(random, 6, 200, 0.95), 0.95)
            missed += not low <= P95 <= high
        assert missed / 200 > 0.3

    @pytest.mark.parametrize("count", [200, 2_000])
    def test_is_little_wider_than_for_independent_ones(self, count: int) -> None:
        sample = np.random.default_rng(9).normal(0, 1, count)
        group = clusters(np.arange(count) // 50)
        low, high = clustered_quantile_interval(sample, group, 0.95, 0.025, 0.025)
        plain_low, plain_high = quantile_interval(sample, 0.95)
        assert high - low < 1.6 * (plain_high - plain_low)

    def test_slow_spells_below_the_quantile_widen_nothing_above(self) -> None:
        """All slow requests in one block, but far from the upper tail."""
        sample = np.ones(2_000)
        sample[:60] = 2.0
        group = clusters(np.arange(2_000) // 100)
        assert clustered_quantile_interval(sample, group, 0.95, 0.005, 0.025) == (1.0, 2.0)

    def test_equal_values(self) -> None:
        group = clusters(np.arange(500) // 50)
        assert clustered_quantile_interval([7.0] * 500, group, 0.95, 0.005, 0.025) == (7, 7)

    def test_open_ends(self) -> None:
        group = clusters(np.arange(50) // 10)
        sample = np.arange(50.0)
        assert clustered_quantile_interval(sample, group, 0.95, 0.025, 0.025)[1] == math.inf
        assert clustered_quantile_interval(sample, group, 0.5, 0, 0) == (-math.inf, math.inf)
        assert clustered_quantile_interval([], group[:0], 0.5, 0.1, 0.1) == (-math.inf, math.inf)
        assert clustered_quantile_interval([math.nan], group[:1], 0.5, 0.1, 0.1) == (
            -math.inf,
            math.inf,
        )

    def test_infinities_are_values(self) -> None:
        sample = np.array([1.0, math.inf] * 200)
        group = clusters(np.arange(400) // 40)
        assert clustered_quantile_interval(sample, group, 0.95, 0.025, 0.025) == (
            math.inf,
            math.inf,
        )

    @given(
        st.lists(st.floats(0, 10) | st.just(math.inf), min_size=1, max_size=80),
        st.integers(1, 9),
        st.floats(0.01, 0.99),
    )
    def test_is_in_order_and_of_the_sample(self, values: list[float], size: int, q: float) -> None:
        group = clusters(np.arange(len(values)) // size)
        low, high = clustered_quantile_interval(values, group, q, 0.005, 0.025)
        assert low <= high
        assert {low, high} <= {*values, -math.inf, math.inf}
