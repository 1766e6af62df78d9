from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from headgate.stats import rise


def test_is_theil_and_sens_slope() -> None:
    random = np.random.default_rng(1)
    level = np.exp(random.normal(0, 0.1, 40) + 0.01 * np.arange(40))
    theirs = stats.theilslopes(np.log(level), alpha=0.95)
    found = rise(level, 0.025, 0.025)
    assert found.value == pytest.approx(math.expm1(39 * theirs.slope))
    assert found.low == pytest.approx(math.expm1(39 * theirs.low_slope), abs=0.04)
    assert found.high == pytest.approx(math.expm1(39 * theirs.high_slope), abs=0.04)


def test_a_clean_rise_is_found_to_the_digit() -> None:
    found = rise(np.exp(np.linspace(0, math.log(1.5), 60)), 0.005, 0.025)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_few_slow_blocks_are_no_rise() -> None:
    level = np.random.default_rng(2).lognormal(0, 0.02, 60)
    level[50:54] *= 5
    found = rise(level, 0.005, 0.025)
    assert abs(found.value) < 0.03
    assert found.low < 0 < found.high


@pytest.mark.parametrize("likeness", [0.0, 0.6])
def test_covers_where_neighbours_resemble_each_other(likeness: float) -> None:
    random = np.random.default_rng(3)
    runs, held = 500, 0
    for _ in range(runs):
        noise = lfilter([1.0], [1.0, -likeness], random.normal(0, 0.05, 110))[-100:]
        found = rise(np.exp(noise + np.linspace(0, 0.2, 100)), 0.025, 0.025)
        held += found.low <= math.expm1(0.2) <= found.high
    assert held / runs > 0.92


@pytest.mark.parametrize(
    "level", [[], [1.0, 2.0], [1.0, math.nan, 2.0], [1.0, math.inf, 2.0], [1.0, 0.0, 2.0]]
)
def test_unknown(level: list[float]) -> None:
    found = rise(np.array(level), 0.005, 0.025)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (-1, math.inf)


@given(st.lists(st.floats(1e-9, 1e9), min_size=3, max_size=40))
def test_the_interval_holds_the_estimate(level: list[float]) -> None:
    found = rise(np.array(level), 0.005, 0.025)
    assert -1 <= found.low <= found.value <= found.high
