"""The search for the capacity, against systems that are simulated: some noisy, some hopeless."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headgate.config import SloConfig
from headgate.gate.capacity import GRID, LEAST_RPS, Search
from headgate.gate.step import after, judge_step
from headgate.records import Capacity, Samples, Step, StepOutcome

HELD, FAILED, LIMITED = StepOutcome.HELD, StepOutcome.FAILED, StepOutcome.LIMITED
PATIENCE = 400
"""Steps after which a search is taken for endless."""


def told(rate: float, outcome: StepOutcome, why: str = "") -> Step:
    return Step(rate=rate, outcome=outcome, requests=100, why=why)


def searched(
    system: Callable[[float], Step], start: float, *, steps: int = PATIENCE, **limits: float
) -> Capacity:
    """What a search finds, at most so many steps on."""
    search = Search(start, **limits)
    for _ in range(steps):
        rate = search.next()
        if rate is None:
            assert search.found().settled
            return search.found()
        search.tell(system(rate))
    assert steps < PATIENCE, "it does not come to an end"
    return search.found()


def cliff(capacity: float, misleads: float = 0.0, seed: int = 0) -> Callable[[float], Step]:
    """Holds up to its capacity and nothing beyond; some of its steps show the opposite."""
    random = np.random.default_rng(seed)

    def step(rate: float) -> Step:
        holds = (rate <= capacity) != (random.random() < misleads)
        return told(rate, HELD) if holds else told(rate, FAILED, "too slow")

    return step


def queue(served_rps: float, seed: int) -> Callable[[float], Step]:
    """M/M/1 for four seconds after one of warm-up, judged as what was measured is."""
    random = np.random.default_rng(seed)

    def step(rate: float) -> Step:
        count = math.ceil(5 * rate)
        at_s = np.sort(random.uniform(0, 5, count))
        work_s = random.exponential(1 / served_rps, count)
        # D. V. Lindley (1952), unrolled: a request is done when the last idle period is worked off.
        total = np.cumsum(work_s)
        done_s = total + np.maximum.accumulate(at_s - total + work_s)
        right = np.ones(count, dtype=bool)
        seen = Samples(
            model="m",
            release="r:1",
            block=np.zeros(count, dtype=np.int64),
            intended_s=at_s,
            sent_s=at_s,
            latency_s=done_s - at_s,
            ok=right,
            matched=right,
            rows=np.ones(count, dtype=np.int64),
            duration_s=5.0,
        )
        slos = {"m": SloConfig(p95_ms=50, min_rps=1)}
        return judge_step(
            [after(seen, 1.0)], slos, rate=rate, ends_s=5.0, cpu=0.1, max_lateness_ms=20
        )

    return step


@given(
    capacity=st.floats(LEAST_RPS, 50_000),
    guess=st.floats(0.05, 20),
)
@example(capacity=100.0, guess=1.0)
def test_a_cliff_is_found_to_a_point_of_the_grid(capacity: float, guess: float) -> None:
    found = searched(cliff(capacity), guess * capacity)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= capacity < found.high
    assert found.high / found.low == pytest.approx(GRID)
    assert found.low_held == found.high_failed == (3, 3)
    assert found.why == "too slow"
    assert len(found.steps) < 40


def test_one_bad_step_in_twenty_leads_nobody_astray() -> None:
    for seed in range(40):
        found = searched(cliff(440, misleads=0.05, seed=seed), 300)
        assert found.low is not None
        assert 440 / GRID**6 <= found.low <= 440 * GRID**6


def test_many_flaky_steps_rarely_do() -> None:
    off = 0
    for seed in range(100):
        found = searched(cliff(440, misleads=0.15, seed=seed), 300)
        off += not (found.low and 440 / GRID**2 <= found.low <= 440 * GRID)
    assert off <= 15


def test_a_single_bad_step_is_repeated() -> None:
    """At each rate that holds the very first step is a bad one."""
    seen: set[float] = set()

    def system(rate: float) -> Step:
        first = rate not in seen
        seen.add(rate)
        return told(rate, FAILED if first or rate > 300 else HELD, "a hiccup")

    found = searched(system, 250)
    assert found.low is not None
    assert found.low <= 300 < found.low * GRID
    assert found.low_held[0] - 1 == found.low_held[1] - 2 >= 3


@pytest.mark.parametrize("seed", range(10))
def test_a_noisy_queue(seed: int) -> None:
    """The P95 of an M/M/1 queue is ln(20) / (μ - λ): 50 ms at 440 of 500 requests/s."""
    found = searched(queue(500, seed), 350)
    assert found.low is not None
    assert found.high is not None
    # The bound of a percentile is beyond it, so what holds surely is somewhat less.
    assert 0.8 * 440 <= found.low < found.high <= 1.1 * 440


def test_what_does_not_hold_at_the_lowest_rate() -> None:
    found = searched(cliff(0), 500)
    assert (found.low, found.high) == (None, LEAST_RPS)
    assert found.settled
    assert found.why == "too slow"
    assert len(found.steps) < 30


@given(most=st.floats(LEAST_RPS, 10_000), guess=st.floats(0.01, 10))
def test_nothing_beyond_the_generator_is_asked(most: float, guess: float) -> None:
    found = searched(cliff(1e9), guess * most, most=most)
    assert max(step.rate for step in found.steps) <= most * (1 + 1e-9)
    assert found.low is not None
    assert most / GRID <= found.low * (1 + 1e-9)
    assert found.high is None
    assert "asks for no more than" in found.limited


def test_a_generator_that_gives_up_earlier() -> None:
    def system(rate: float) -> Step:
        return told(rate, HELD) if rate < 900 else told(rate, LIMITED, "it used 97% of its core")

    found = searched(system, 500, most=2_000)
    assert found.low is not None
    assert found.low < 900 < found.low * GRID
    assert (found.high, found.limited) == (None, "it used 97% of its core")


def test_a_generator_that_hiccups_once_limits_nothing() -> None:
    rates: list[float] = []

    def system(rate: float) -> Step:
        rates.append(rate)
        if len(rates) % 4 == 1:
            return told(rate, LIMITED, "it was late")
        return cliff(440)(rate)

    found = searched(system, 300)
    assert found.low is not None
    assert found.low <= 440 < found.low * GRID
    assert found.limited == ""


@given(
    answers=st.lists(st.sampled_from([HELD, FAILED, LIMITED]), min_size=1, max_size=60),
    start=st.floats(0.1, 1e6),
    most=st.sampled_from([LEAST_RPS, 50.0, 1e4, math.inf]),
)
def test_whatever_comes_the_answer_is_in_order(
    answers: list[StepOutcome], start: float, most: float
) -> None:
    queue = iter(answers)
    found = searched(lambda rate: told(rate, next(queue)), start, most=most, steps=len(answers))
    if found.low is not None and found.high is not None:
        assert found.low < found.high
    held, of = found.low_held
    assert (2 * held > of) == (found.low is not None)
    failed, of = found.high_failed
    assert (2 * failed > of) == (found.high is not None)
    assert not (found.limited and found.high is not None)


def test_a_budget_that_ends_early_is_told() -> None:
    found = searched(cliff(440), 300, steps=2)
    assert not found.settled
    assert found.low is not None
    assert found.low_held == (1, 1)
    assert found.high is None
    assert found.limited == ""


@pytest.mark.parametrize(("least", "most"), [(0, 10), (5, 4), (-1, 10)])
def test_no_rates(least: float, most: float) -> None:
    with pytest.raises(ValueError, match="no rates"):
        Search(5, least=least, most=most)
