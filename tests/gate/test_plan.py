from __future__ import annotations

import math
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headgate.gate.plan import Block, Seen, arrivals, merge, split

STAGES = st.lists(st.tuples(st.floats(0.5, 300), st.floats(0.01, 3)), min_size=1, max_size=5)


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("rate", "duration_s", "count"),
    # 0.07 * 100 is 7.000000000000001.
    [(50, 10, 500), (0.1, 30, 3), (0.07, 100, 7), (3, 0.5, 2), (100, 0, 0)],
)
def test_offers_the_rate_and_never_less(rate: float, duration_s: float, count: int) -> None:
    assert len(arrivals([(rate, duration_s)], draw(0))) == count


@given(STAGES, st.integers(0, 2**32))
def test_rises_and_every_stage_has_its_rate(stages: list[tuple[float, float]], seed: int) -> None:
    times = arrivals(stages, draw(seed))
    assert (np.diff(times) >= 0).all()
    begin = 0
    start_s = 0.0
    for rate, seconds in stages:
        count = math.ceil(rate * seconds - 1e-9)
        mine = times[begin : begin + count]
        assert (mine >= start_s).all()
        assert (mine <= start_s + seconds).all()
        assert count >= rate * seconds - 1e-9
        begin += count
        start_s += seconds
    assert begin == len(times)


def test_is_a_poisson_process() -> None:
    times = arrivals([(200, 20)], draw(3))
    gaps = np.diff(times)
    assert stats.kstest(gaps, stats.expon(scale=1 / 200).cdf).pvalue > 0.001
    # Counts in intervals vary as much as they are large; regular arrivals would not vary.
    counts, _ = np.histogram(times, bins=200, range=(0, 20))
    assert 0.6 < counts.var() / counts.mean() < 1.5


def test_the_seed_draws_it() -> None:
    assert (arrivals([(50, 2)], draw(1)) == arrivals([(50, 2)], draw(1))).all()
    assert (arrivals([(50, 2)], draw(1)) != arrivals([(50, 2)], draw(2))).any()


def test_no_stage_at_all() -> None:
    assert len(arrivals([], draw(0))) == 0


OPEN = st.lists(st.tuples(st.floats(0, 10), st.integers(0, 99)), max_size=60).map(
    lambda pairs: Block(
        target=1,
        order=tuple(ask for _, ask in pairs),
        at_s=tuple(sorted(at_s for at_s, _ in pairs)),
        seconds=10.0,
    )
)


def carried_out(block: Block, number: int) -> Seen:
    """As a generator would tell of it; every answer says who gave it."""
    answers = tuple(f"{number}:{ask}".encode() for ask in sorted(set(block.order)))
    at_s = block.at_s or ()
    return Seen(
        ask=block.order,
        at_s=at_s,
        sent_s=tuple(each + 0.001 for each in at_s),
        done_s=tuple(each + 0.1 + ask for each, ask in zip(at_s, block.order, strict=True)),
        status=tuple(200 + ask for ask in block.order),
        answer=tuple(answers.index(f"{number}:{ask}".encode()) for ask in block.order),
        answers=answers,
        cpu=0.1 * number,
    )


@given(OPEN, st.integers(1, 9))
def test_shares_of_a_block_add_up_to_it(block: Block, generators: int) -> None:
    shares = split(block, generators)
    assert len(shares) == generators
    sizes = [len(share.order) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    for share in shares:
        assert (share.target, share.seconds) == (1, 10.0)
        assert share.at_s is not None
        assert list(share.at_s) == sorted(share.at_s)
    seen = merge([carried_out(share, number) for number, share in enumerate(shares)])
    # Each request once, in order, with what came of it.
    assert seen.at_s == block.at_s
    assert Counter(zip(seen.ask, seen.at_s, strict=True)) == Counter(
        zip(block.order, block.at_s or (), strict=True)
    )
    for ask, at_s, sent_s, done_s, status, answer in zip(
        seen.ask, seen.at_s, seen.sent_s, seen.done_s, seen.status, seen.answer, strict=True
    ):
        assert sent_s == at_s + 0.001
        assert done_s == at_s + 0.1 + ask
        assert status == 200 + ask
        assert seen.answers[answer].endswith(f":{ask}".encode())
    assert seen.cpu == pytest.approx(0.1 * (generators - 1))


@given(
    st.integers(1, 50),
    st.integers(0, 40),
    st.integers(1, 9),
    st.lists(st.integers(0, 9)).map(tuple),
)
def test_connections_are_shared_and_nobody_begins_where_another_does(
    seconds: int, connections: int, generators: int, order: tuple[int, ...]
) -> None:
    block = Block(target=2, order=order, seconds=seconds, connections=connections)
    shares = split(block, generators)
    assert sum(share.connections for share in shares) == connections
    assert max(share.connections for share in shares) <= math.ceil(connections / generators)
    for share in shares:
        assert share.at_s is None
        assert (share.target, share.seconds) == (2, seconds)
        assert Counter(share.order) == Counter(order)
    if len(set(order)) == len(order) >= generators:
        assert len({share.order[0] for share in shares}) == generators


def test_what_one_generator_saw_is_what_was_seen() -> None:
    block = Block(target=0, order=(3, 1), at_s=(0.0, 0.5), seconds=1)
    seen = carried_out(block, 0)
    assert merge([seen]) is seen


def test_a_generator_that_had_nothing_to_send() -> None:
    block = Block(target=0, order=(3,), at_s=(0.5,), seconds=1)
    shares = [carried_out(share, number) for number, share in enumerate(split(block, 3))]
    seen = merge(shares)
    assert seen.ask == (3,)
    assert seen.at_s == (0.5,)


def test_a_message_comes_back_as_it_was() -> None:
    seen = Seen(
        ask=(0, 1),
        at_s=(0.0, 1 / 3),
        sent_s=(0.0, math.inf),
        done_s=(0.1, math.inf),
        status=(200, 0),
        answer=(0, 1),
        answers=(b"\xff\x00", b"no answer in time"),
        cpu=0.5,
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(seen), type=Seen) == seen
