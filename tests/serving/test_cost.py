"""What a call costs, learned from calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.serving.cost import CallCost


def learned(calls):
    cost = CallCost()
    for rows, seconds in calls:
        cost.learn(rows, seconds)
    return cost


def test_nothing_is_known_at_first():
    cost = CallCost()
    assert not cost.known
    assert cost.predict(1000) == 0


@pytest.mark.parametrize(("fixed", "per_row"), [(5e-3, 1e-5), (0, 1e-4), (20e-6, 0), (1e-3, 1e-3)])
def test_fixed_and_per_row_are_told_apart(fixed, per_row):
    generator = np.random.default_rng(1)
    sizes = generator.integers(1, 65, 100).tolist()
    cost = learned((rows, fixed + per_row * rows) for rows in sizes)
    assert cost.known
    assert cost.fixed_s == pytest.approx(fixed, rel=0.02, abs=1e-7)
    assert cost.per_row_s == pytest.approx(per_row, rel=0.02, abs=1e-7)


def test_noise_averages_out():
    generator = np.random.default_rng(1)
    cost = learned(
        (rows, (1e-3 + 1e-4 * rows) * generator.uniform(0.8, 1.2))
        for rows in generator.choice([1, 16, 64], 300).tolist()
    )
    for rows in (1, 16, 64):
        assert cost.predict(rows) == pytest.approx(1e-3 + 1e-4 * rows, rel=0.3)


def test_calls_of_one_size_cost_by_the_row_until_more_is_known():
    cost = learned([(8, 8e-3)] * 20)
    assert cost.fixed_s == 0
    assert cost.predict(16) == pytest.approx(16e-3)


def test_calls_of_one_size_keep_the_ratio_that_was_learned():
    cost = learned([(1, 6e-3), (64, 69e-3)] * 50)
    ratio = cost.fixed_s / cost.per_row_s
    assert ratio == pytest.approx(5, rel=0.05)
    for seconds in [21e-3] * 200 + [2 * 21e-3] * 200:
        cost.learn(16, seconds)
    assert cost.fixed_s / cost.per_row_s == pytest.approx(ratio, rel=0.05)
    assert cost.predict(16) == pytest.approx(2 * 21e-3, rel=0.02)


@pytest.mark.parametrize("factor", [0.1, 5, 50, 10_000])
def test_an_engine_that_changed_shows_within_a_few_calls(factor):
    cost = learned([(1, 1e-4)] * 100)
    calls = 0
    while not 0.5 < cost.predict(1) / (1e-4 * factor) < 2:
        cost.learn(1, 1e-4 * factor)
        calls += 1
    assert calls < 50
    if factor > 10:
        assert calls < 25


def test_calls_that_stall_now_and_then_hardly_count():
    cost = learned([(1, 1e-4)] * 100)
    for _ in range(10):
        cost.learn(1, 10.0)
        assert cost.predict(1) < 2e-4
        for _ in range(50):
            cost.learn(1, 1e-4)


def test_a_call_that_took_no_time_is_no_dead_end():
    cost = learned([(1, 0.0)])
    for _ in range(200):
        cost.learn(1, 1e-3)
    assert cost.predict(1) == pytest.approx(1e-3, rel=0.01)


@given(
    st.lists(
        st.tuples(st.integers(1, 10_000), st.floats(0, 100, allow_subnormal=False)), min_size=1
    )
)
def test_whatever_it_learned_costs_are_costs(calls):
    cost = learned(calls)
    assert cost.fixed_s >= 0
    assert cost.per_row_s >= 0
    assert cost.predict(1) <= cost.predict(100) < float("inf")
    most = max(seconds / rows for rows, seconds in calls)
    assert cost.per_row_s <= most * 1.001 + 1e-12
