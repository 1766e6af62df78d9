from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config import LoadProfile
from headgate.gate.schedule import (
    LEAST_ROUNDS,
    Schedule,
    Turns,
    closed_block,
    looks,
    open_block,
    peak,
    rates,
)


def profile(**how: Any) -> LoadProfile:
    return LoadProfile(**{"rate": 50, "duration_s": 12, "block_s": 2, "warmup_s": 0, **how})


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.floats(0.1, 1e5), st.floats(0.1, 1e5), st.integers(1, 2))
def test_blocks_are_equal_and_fill_the_duration(
    duration_s: float, block_s: float, sides: int
) -> None:
    schedule = Schedule(profile(duration_s=duration_s, block_s=block_s), sides)
    blocks = round(duration_s / schedule.block_s)
    assert blocks * schedule.block_s == pytest.approx(duration_s)
    assert schedule.block_s <= block_s * (1 + 1e-6)
    assert schedule.least == (blocks if sides == 1 else max(blocks, LEAST_ROUNDS))


def test_a_comparison_has_rounds_enough_for_an_interval() -> None:
    assert Schedule(profile(duration_s=4), 1).least == 2
    assert Schedule(profile(duration_s=4), 2).least == LEAST_ROUNDS
    assert Schedule(profile(duration_s=40), 2).least == 20


def test_rounds_that_there_is_budget_for() -> None:
    schedule = Schedule(profile(budget_s=300, saturate_s=1), 2)
    assert 2 * 2 < schedule.round_s < 2 * 2 + 1
    assert LEAST_ROUNDS * 2 * (2 + 1) < schedule.least_s < LEAST_ROUNDS * (2 * (2 + 1) + 1)
    more = schedule.most(20) - LEAST_ROUNDS
    left_s = 280 - schedule.least_s
    assert more * schedule.round_s <= left_s < (more + 1) * schedule.round_s
    # What is asked for at least is measured, whatever the budget.
    assert schedule.most(299) == schedule.most(1e9) == schedule.least == LEAST_ROUNDS
    assert Schedule(profile(budget_s=0), 1).most(0) == 6


@given(st.integers(1, 500), st.integers(0, 5_000))
def test_the_judge_is_asked_first_and_last_and_in_between(least: int, more: int) -> None:
    most = least + more
    asked = list(looks(least, most))
    assert asked[0] == least
    assert asked[-1] == most
    assert all(one < other for one, other in itertools.pairwise(asked))
    # Every look is paid for, so there are few: one in eight per cent more data.
    for one, other in itertools.pairwise(asked):
        assert other <= max(one + 1, one * 1.08 + 1)
    assert len(asked) <= 15 + 30 * np.log(most / least + 1) + 12


@pytest.mark.parametrize("shape", ["steady", "soak", "ramp", "spike"])
@given(duration_s=st.floats(1, 1e4), rate=st.floats(0.1, 1e4), top=st.floats(1.01, 100))
def test_every_shape_lasts_as_long_as_it_should(
    shape: str, duration_s: float, rate: float, top: float
) -> None:
    how = profile(shape=shape, duration_s=duration_s, peak=top)
    stages = rates(how, rate)
    assert sum(seconds for _, seconds in stages) == pytest.approx(duration_s)
    assert stages[0][0] == pytest.approx(rate)
    highest = {"ramp": top, "spike": top}.get(shape, 1)
    assert max(each for each, _ in stages) == pytest.approx(highest * rate)
    assert min(each for each, _ in stages) == pytest.approx(rate)


def test_a_ramp_rises_in_even_steps() -> None:
    stages = rates(profile(shape="ramp", duration_s=64, peak=8), 50)
    assert [seconds for _, seconds in stages] == [8] * 8
    assert [rate for rate, _ in stages] == pytest.approx([50 * step for step in range(1, 9)])


def test_a_spike_begins_and_ends_when_it_says() -> None:
    how = profile(shape="spike", duration_s=60, peak=4)
    stages = rates(how, 100)
    assert [rate for rate, _ in stages] == [100, 400, 100]
    begin, end = peak(how) or (0, 0)
    ends = np.cumsum([seconds for _, seconds in stages])
    assert (begin, end) == pytest.approx((ends[0], ends[1]))
    assert end - begin == pytest.approx(15)


@pytest.mark.parametrize("shape", ["steady", "soak", "ramp"])
def test_other_shapes_have_no_peak(shape: str) -> None:
    assert peak(profile(shape=shape)) is None


MODELS = st.lists(
    st.tuples(st.integers(1, 20), st.floats(1, 60), st.floats(0.1, 3)), min_size=1, max_size=4
)


@given(MODELS, st.integers(0, 2**32))
def test_an_open_block_asks_every_model_at_its_rate(
    models: list[tuple[int, float, float]], seed: int
) -> None:
    asks, first = [], 0
    for count, _, _ in models:
        asks.append(list(range(first, first + count)))
        first += count
    stages = [[(rate, seconds)] for _, rate, seconds in models]
    block = open_block(1, asks, stages, draw(seed))
    assert block.target == 1
    assert block.seconds == max(seconds for _, _, seconds in models)
    assert block.at_s is not None
    assert list(block.at_s) == sorted(block.at_s)
    assert len(block.at_s) == len(block.order)
    for mine, (_, rate, seconds) in zip(asks, models, strict=True):
        count = Counter(ask for ask in block.order if ask in mine)
        assert count.total() == np.ceil(rate * seconds - 1e-9)
        # All of them in turn, none for the third time while another waits for its second.
        every = [count[ask] for ask in mine]
        assert max(every) - min(every) <= 1


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 2**32))
def test_a_closed_block_asks_every_model_as_often(counts: list[int], seed: int) -> None:
    asks, first = [], 0
    for count in counts:
        asks.append(list(range(first, first + count)))
        first += count
    block = closed_block(0, asks, seconds=1.5, connections=7, random=draw(seed))
    assert (block.seconds, block.connections, block.at_s) == (1.5, 7, None)
    assert set(block.order) == set(range(first))
    models = [next(index for index, mine in enumerate(asks) if ask in mine) for ask in block.order]
    assert models == list(range(len(asks))) * max(counts)


@given(st.integers(1, 50), st.lists(st.integers(0, 120), max_size=8), st.integers(0, 2**32))
def test_everybody_has_had_a_turn_before_anybody_has_another(
    values: int, counts: list[int], seed: int
) -> None:
    """From one block to the next as well."""
    mine, same = Turns(range(100, 100 + values), draw(seed)), Turns(range(values), draw(seed))
    taken: list[int] = []
    for count in counts:
        some = mine.take(count).tolist()
        assert len(some) == count
        # Equal seeds draw equal orders, whatever the values are.
        assert some == [100 + value for value in same.take(count).tolist()]
        taken += some
    for start in range(0, len(taken), values):
        one_round = taken[start : start + values]
        assert len(set(one_round)) == len(one_round)
    assert set(taken) <= set(range(100, 100 + values))


def test_blocks_go_on_where_the_last_one_ended() -> None:
    turns = [Turns(range(10), draw(1)), Turns(range(10, 17), draw(2))]
    blocks = [open_block(0, turns, [[(6, 1)], [(5, 1)]], draw(seed)) for seed in range(4)]
    for mine, least in ((range(10), 24 // 10), (range(10, 17), 20 // 7)):
        count = Counter(ask for block in blocks for ask in block.order if ask in mine)
        assert set(count) == set(mine)
        assert set(count.values()) <= {least, least + 1}


def test_the_order_is_drawn() -> None:
    one, same, other = (
        open_block(0, [list(range(50))], [[(50, 1)]], draw(seed)) for seed in (1, 1, 2)
    )
    assert one == same
    assert one.order != other.order
    assert list(one.order) != sorted(one.order)
