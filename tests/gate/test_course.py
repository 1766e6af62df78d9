"""The course of a load test, without servers and without Locust: the clock is the test's."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from gate.loads import asked, subject
from gate.server import right

from headgate.config import LoadProfile
from headgate.errors import GateError
from headgate.gate.measure import _Run, measure
from headgate.gate.plan import Block, Seen
from headgate.gate.schedule import LEAST_ROUNDS
from headgate.records import Evidence

MODULE = sys.modules[measure.__module__]
"""The package has the function under the name of the module."""


class Rehearsal:
    """In place of generators: answers at once, and the clock moves on by what it would take."""

    def __init__(self, slowness: float = 1.0) -> None:
        self.now_s = 1000.0
        self.slowness = slowness
        self.blocks: list[Block] = []

    def monotonic(self) -> float:
        return self.now_s

    def send(self, block: Block, each_moment: Callable[[], None] = lambda: None) -> Seen:
        self.blocks.append(block)
        self.now_s += block.seconds * self.slowness + 0.1
        each_moment()
        at_s = block.at_s or tuple(np.arange(0, block.seconds, 0.05).tolist())
        asks = tuple(itertools.islice(itertools.cycle(block.order), len(at_s)))
        answers = tuple(right([row])[1] for row in sent_rows())
        return Seen(
            ask=asks,
            at_s=at_s,
            sent_s=at_s,
            done_s=tuple(each + 0.01 for each in at_s),
            status=(200,) * len(at_s),
            answer=asks,
            answers=answers,
            cpu=0.1 * len(self.blocks),
        )


def sent_rows() -> Iterator[dict[str, Any]]:
    for ask in asked().asks:
        yield from json.loads(ask.body)["instances"]


def rehearsed(
    monkeypatch: pytest.MonkeyPatch,
    profile: LoadProfile,
    *,
    sides: int = 2,
    slowness: float = 1.0,
    said: list[str] | None = None,
    saturates: Callable[[], bool] = lambda: True,
    seed: int = 0,
) -> tuple[Rehearsal, list[Evidence]]:
    load = Rehearsal(slowness)
    monkeypatch.setattr(MODULE, "time", SimpleNamespace(monotonic=load.monotonic))
    run = _Run(
        load,  # type: ignore[arg-type]
        [subject("http://127.0.0.1:1", asked(rate=profile.rate)) for _ in range(sides)],
        profile,
        np.random.default_rng(seed),
        [].append if said is None else said.append,
        saturates=saturates,
    )
    return load, list(run.steady() if profile.shape == "steady" else run.shaped())


COMPARE = LoadProfile(rate=40, duration_s=12, budget_s=120, warmup_s=4, saturate_s=1, compare=True)


def test_the_course_of_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    load, evidence = rehearsed(monkeypatch, COMPARE)
    # Calibrated first, against the third target, with both kinds of block; then warmed up.
    assert [block.target for block in load.blocks[:5]] == [2, 2, 2, 0, 1]
    assert [block.at_s is None for block in load.blocks[:5]] == [False, True, True, False, False]
    assert [block.seconds for block in load.blocks[3:5]] == [4, 4]
    rounds = [load.blocks[place : place + 4] for place in range(5, len(load.blocks), 4)]
    for one in rounds:
        assert [block.at_s is None for block in one] == [False, False, True, True]
        assert {block.target for block in one[:2]} == {block.target for block in one[2:]} == {0, 1}
        assert [block.seconds for block in one] == [2, 2, 1, 1]
    # Both sides are asked the same in the same order, and for each row before one is asked again.
    orders: dict[int, list[int]] = {0: [], 1: []}
    for one in rounds:
        for block in one[:2]:
            orders[block.target] += block.order
        assert orders[0] == orders[1]
    count = Counter(orders[0])
    assert set(count) == set(range(len(asked().asks)))
    assert max(count.values()) - min(count.values()) <= 1
    for part in (slice(0, 2), slice(2, 4)):
        assert 0.2 < np.mean([one[part][0].target for one in rounds]) < 0.8
    # It is asked after six rounds and then more seldom than after each, the last time at the end.
    assert len(evidence[0].candidate.samples[0].ok) == 6 * 80
    shares = evidence[-1].looks
    assert shares[-1] == len(rounds) / (len(rounds) + 4)  # saturation took the time of four
    assert len(shares) == len(evidence) < len(rounds)
    assert 100 < load.now_s - 1000 <= 120 + 6
    # The busiest block at a chosen rate counts, calibration and warm-up apart.
    opened = [place for place, block in enumerate(load.blocks, 1) if block.at_s is not None]
    assert evidence[-1].generator.cpu == pytest.approx(0.1 * opened[-1])


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("closed", [False, True])
def test_a_champion_that_is_gone_is_no_yardstick(
    side: int, closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidate's own end is for the judge."""
    send = Rehearsal.send

    def gone(self: Rehearsal, block: Block, each_moment: Callable[[], None] = lambda: None) -> Seen:
        seen = send(self, block, each_moment)
        if len(self.blocks) < 30 or block.target != side or (block.at_s is None) is not closed:
            return seen
        nobody = tuple(0 for _ in seen.status)
        return msgspec.structs.replace(seen, status=nobody, answer=nobody, answers=(b"refused",))

    monkeypatch.setattr(Rehearsal, "send", gone)
    if side:
        with pytest.raises(GateError, match="the champion answers no more: refused"):
            rehearsed(monkeypatch, COMPARE)
    else:
        _, evidence = rehearsed(monkeypatch, COMPARE)
        assert closed or not evidence[-1].candidate.samples[0].ok.all()


def test_saturation_ends_when_it_tells_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = itertools.count()
    load, evidence = rehearsed(monkeypatch, COMPARE, saturates=lambda: next(rounds) < 6)
    closed = [block.at_s is None for block in load.blocks[5:]]
    assert closed[: 4 * 6] == 6 * [False, False, True, True]
    assert not any(closed[4 * 6 :])
    assert evidence[-1].looks[-1] == 1.0
    saturation = evidence[-1].candidate.saturation
    assert saturation is not None
    assert saturation.block.tolist() == list(range(6))
    assert max(evidence[-1].candidate.samples[0].block) == next(rounds) - 1 > 15


@pytest.mark.parametrize("slowness", [2.5, 3.0, 3.5])
def test_a_budget_holds_though_rounds_take_longer(
    slowness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the next look was planned for several rounds later."""
    profile = LoadProfile(
        rate=20, duration_s=3, block_s=0.5, budget_s=300, warmup_s=0, compare=True
    )
    load, evidence = rehearsed(monkeypatch, profile, slowness=slowness)
    round_s = 2 * (0.5 * slowness + 0.1)
    assert 300 <= load.now_s - 1000 <= 300 + round_s
    looks = evidence[-1].looks
    assert looks[-1] < 1
    assert list(looks) == sorted(set(looks))


def test_a_budget_that_is_gone_ends_it_with_too_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    load, (evidence,) = rehearsed(monkeypatch, COMPARE, slowness=20)
    assert len(set(evidence.candidate.samples[0].block.tolist())) < LEAST_ROUNDS
    assert evidence.looks[-1] < 1
    assert load.now_s - 1000 < 120 + 280  # which is one round


def test_seeds_draw_the_course(monkeypatch: pytest.MonkeyPatch) -> None:
    courses = [rehearsed(monkeypatch, COMPARE, seed=seed)[0].blocks for seed in (1, 1, 2)]
    assert courses[0] == courses[1]
    assert courses[0] != courses[2]


def test_without_a_warm_up_and_saturation(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = LoadProfile(rate=40, duration_s=5, warmup_s=0)
    load, (evidence,) = rehearsed(monkeypatch, profile, sides=1)
    assert [block.target for block in load.blocks] == [1, 0, 0, 0]
    assert evidence.generator.most_rps is None
    assert evidence.candidate.saturation is None
    assert evidence.candidate.samples[0].duration_s == pytest.approx(5)
    assert evidence.candidate.samples[0].ok.all()


@pytest.mark.parametrize("shape", ["ramp", "soak", "spike"])
def test_a_long_block_is_cut_into_equal_ones(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 s are no multiple of 2 s, and a rate is a number of requests by a length."""
    profile = LoadProfile(shape=shape, rate=300, duration_s=5, warmup_s=0, peak=2)  # type: ignore[arg-type]
    load, (evidence,) = rehearsed(monkeypatch, profile, sides=1)
    assert [block.target for block in load.blocks] == [1, 0]
    samples = evidence.candidate.samples[0]
    for number in range(3):
        mine = samples.intended_s[samples.block == number]
        assert 5 / 3 * number <= mine.min() < mine.max() <= 5 / 3 * (number + 1)
        assert mine.max() - mine.min() > 1.5
    assert samples.duration_s == 5


def test_time_left_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    rehearsed(monkeypatch, COMPARE, said=said)
    left = [int(line.split()[-3]) for line in said]
    assert 5 <= len(left) <= 120 / 5
    assert left == sorted(left, reverse=True)
    assert left[0] <= 120
    assert left[-1] < 20
