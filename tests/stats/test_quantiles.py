from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headgate.stats import quantile, quantile_interval

FIVE = [15, 20, 35, 40, 50]
TEN = [3, 6, 7, 8, 8, 10, 13, 15, 16, 20]


@pytest.mark.parametrize(
    ("sample", "q", "expected"),
    [
        # The textbook examples of the nearest-rank method.
        *[(FIVE, 0.05, 15), (FIVE, 0.3, 20), (FIVE, 0.4, 20), (FIVE, 0.5, 35), (FIVE, 1, 50)],
        *[(TEN, 0.25, 7), (TEN, 0.5, 8), (TEN, 0.75, 15), (TEN, 1, 20)],
        (TEN, 0, 3),
        ([7], 0.95, 7),
        (range(1, 21), 0.95, 19),
        (range(1, 1001), 0.95, 950),
        # 0.55 * 100 is 55.00000000000001 and 0.07 * 100 is 7.000000000000001.
        (range(1, 101), 0.55, 55),
        (range(1, 101), 0.07, 7),
        ([3, 1, 2], 0.5, 2),
        ([1, math.inf], 0.5, 1),
        ([1, math.inf], 0.51, math.inf),
        ([-math.inf, 1], 0.5, -math.inf),
    ],
)
def test_quantile_is_the_nearest_rank(sample: list[float], q: float, expected: float) -> None:
    assert quantile(sample, q) == expected


@pytest.mark.parametrize("sample", [[], [math.nan], [1, math.nan, 2], [math.inf, math.nan]])
def test_no_sample_and_one_with_nan_have_no_quantile(sample: list[float]) -> None:
    assert math.isnan(quantile(sample, 0.95))
    assert quantile_interval(sample, 0.95) == (-math.inf, math.inf)


@pytest.mark.parametrize("q", [-0.1, 1.1, 95, math.nan])
def test_no_share_has_no_quantile(q: float) -> None:
    with pytest.raises(ValueError, match=f"q is {q}"):
        quantile([1, 2, 3], q)


@pytest.mark.parametrize(
    ("q", "confidence"), [(0, 0.95), (1, 0.95), (0.5, 0), (0.5, 1), (95, 0.95), (math.nan, 0.95)]
)
def test_no_share_has_no_interval(q: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_interval([1, 2, 3], q, confidence)


@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=60),
    st.integers(0, 1000).map(lambda thousandth: thousandth / 1000),
)
def test_quantile_is_the_smallest_with_that_share_at_or_below(
    sample: list[float], q: float
) -> None:
    found = quantile(sample, q)
    at_or_below = [sum(other <= value for other in sample) / len(sample) for value in sample]
    enough = [value for value, share in zip(sample, at_or_below, strict=True) if share >= q]
    assert found == min(enough)


@pytest.mark.parametrize(
    ("count", "q", "confidence", "ranks"),
    [
        # The intervals for the median that go with the sign test.
        (6, 0.5, 0.95, (1, 6)),
        (10, 0.5, 0.95, (2, 9)),
        (20, 0.5, 0.95, (6, 15)),
        (5, 0.5, 0.9, (1, 5)),
        # 0.95 ** 72 is the first below 2.5 %, 0.95 ** 59 the first below 5 %.
        (72, 0.95, 0.95, (64, 72)),
        (59, 0.95, 0.9, (53, 59)),
    ],
)
def test_interval_has_the_textbook_ranks(
    count: int, q: float, confidence: float, ranks: tuple[int, int]
) -> None:
    assert quantile_interval(range(1, count + 1), q, confidence) == ranks


def test_a_small_sample_leaves_an_end_open() -> None:
    assert quantile_interval([1.0], 0.5) == (-math.inf, math.inf)
    assert quantile_interval(range(5), 0.5) == (-math.inf, math.inf)
    assert quantile_interval(range(1, 72), 0.95) == (63, math.inf)
    assert quantile_interval(range(1, 72), 0.05) == (-math.inf, 9)


def test_infinities_are_values() -> None:
    sample = [1.0] * 90 + [math.inf] * 10
    assert quantile_interval(sample, 0.95) == (1.0, math.inf)
    assert quantile_interval([*sample, *[math.inf] * 20], 0.95) == (math.inf, math.inf)


@pytest.mark.parametrize("q", [0.01, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_ranks_are_those_of_the_binomial(q: float, confidence: float) -> None:
    tail = (1 - confidence) / 2
    for count in (1, 2, 17, 100, 1_000, 20_000):
        below = stats.binom(count, q).cdf(np.arange(count + 1))
        low = max((rank for rank in range(1, count + 1) if below[rank - 1] <= tail), default=None)
        high = min(
            (rank for rank in range(1, count + 1) if below[rank - 1] >= 1 - tail), default=None
        )
        assert quantile_interval(np.arange(1, count + 1), q, confidence) == (
            low or -math.inf,
            high or math.inf,
        )


@pytest.mark.parametrize(("count", "q"), [(80, 0.95), (300, 0.95), (300, 0.5), (2_000, 0.99)])
def test_interval_covers_as_often_as_it_says(count: int, q: float) -> None:
    random = np.random.default_rng(5)
    truth = float(stats.lognorm(1).ppf(q))
    runs = 1_500
    held = 0
    for _ in range(runs):
        low, high = quantile_interval(random.lognormal(0, 1, count), q)
        held += low <= truth <= high
    # Five standard errors below 95 %; order statistics are discrete, so it may be more often.
    assert 0.95 - 5 * math.sqrt(0.95 * 0.05 / runs) < held / runs < 0.999
