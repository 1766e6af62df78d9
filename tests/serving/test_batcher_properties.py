"""Whatever comes in whatever order, the batcher answers each request once, with its own rows.

In simulated time, so that every interleaving is exact and can be had again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from serving.simulated import RESOLUTION_S, outcomes, simulate

from headgate.errors import DeadlineExceededError, OverloadError, ServingError
from headgate.serving.job import Answer, ClientGoneError, QueueFullError

pytestmark = pytest.mark.no_cover  # tens of thousands of requests, for what others cover


@dataclass(frozen=True)
class Request:
    """Times are in milliseconds; those of leaving are after ``at``."""

    at: int
    rows: int
    within: int
    poison: bool
    leaves: int | None
    cancelled: int | None


@dataclass(frozen=True)
class Limits:
    max_batch_rows: int
    max_queue_rows: int
    slots: int
    target_s: float
    inline: bool


@dataclass(frozen=True)
class Costs:
    """Of a call, seconds; the second ones hold from call ``turn`` on."""

    fixed: tuple[float, float]
    per_row: tuple[float, float]
    turn: int
    known: bool


def rarely(values):
    return st.integers(0, 9).flatmap(lambda i: values if i == 0 else st.none())


requests = st.builds(
    Request,
    at=st.integers(0, 60),
    rows=st.integers(1, 12),
    within=st.integers(1, 400),
    poison=st.integers(0, 9).map(lambda i: i == 0),
    leaves=rarely(st.integers(0, 50)),
    cancelled=rarely(st.integers(0, 50)),
)
limits = st.builds(
    Limits,
    max_batch_rows=st.integers(1, 16),
    max_queue_rows=st.integers(1, 40),
    slots=st.integers(1, 3),
    target_s=st.sampled_from([1e-3, 20e-3, 1.0]),
    inline=st.booleans(),
)
costs = st.builds(
    Costs,
    fixed=st.tuples(*[st.sampled_from([5e-6, 100e-6, 2e-3, 20e-3])] * 2),
    per_row=st.tuples(*[st.sampled_from([0.0, 1e-6, 100e-6, 2e-3])] * 2),
    turn=st.integers(0, 10),
    known=st.booleans(),
)
MISBEHAVIOUR = {
    "raises": lambda rows: 1 / 0,
    "cancelled": lambda rows: (_ for _ in ()).throw(asyncio.CancelledError()),
    "too few": lambda rows: rows[1:],
    "too many": lambda rows: np.append(rows, 0),
    "nothing": lambda rows: {},
    "no array": lambda rows: np.int64(1),
}
misbehaviour = st.dictionaries(
    st.integers(0, 12), st.sampled_from(["hangs", *MISBEHAVIOUR]), max_size=4
)


class Play:
    """Requests to one batcher, and what became of them."""

    def __init__(self, world, way, costs, limits, bad=None):
        self.world = world
        self.engine = world.engine
        self.bad = bad or {}
        self.costs = costs
        self.ended = {}
        self.rows = {}
        self.batcher = world.make(
            "process" if way == "process" else "thread",
            fixed=costs.fixed[0],
            per_row=costs.per_row[0],
            known=costs.known,
            max_batch_rows=limits.max_batch_rows,
            max_queue_rows=limits.max_queue_rows,
            slots=limits.slots,
            target_s=limits.target_s,
            inline=limits.inline,
        )
        begin = self.engine.begin
        self.engine.begin = lambda batch: self._before_call() or begin(batch)

    def _before_call(self):
        number = len(self.engine.calls)
        after = number >= self.costs.turn
        self.engine.fixed, self.engine.per_row = (
            self.costs.fixed[after],
            self.costs.per_row[after],
        )
        how = self.bad.get(number)
        self.engine.hang_s = 1.0 if how == "hangs" else 0.0
        self.engine.behave = MISBEHAVIOUR.get(how, lambda rows: 2 * rows)

    async def ask(self, index, request):
        clock = self.world.clock
        await asyncio.sleep(request.at / 1000)
        begun = clock.now
        rows = np.arange(100 * index, 100 * index + request.rows)
        self.rows[index] = rows
        if request.poison:
            rows[request.rows // 2] = -1
        alive = None
        if request.leaves is not None:
            left = begun + request.leaves / 1000

            def alive():
                return clock.now < left

        if request.cancelled is not None:
            task = asyncio.current_task()
            asyncio.get_running_loop().call_later(request.cancelled / 1000, task.cancel)
        try:
            return await self.batcher.submit(
                {"x": rows},
                request.rows,
                deadline=begun + request.within / 1000,
                alive=alive,
            )
        finally:
            self.ended[index] = begun, clock.now

    async def all(self, requests):
        tasks = [asyncio.create_task(self.ask(*each)) for each in enumerate(requests)]
        results = await outcomes(tasks)
        await asyncio.sleep(100)
        return results

    def check(self, requests, results):
        """What holds whatever happened."""
        self.world.assert_idle()
        assert not self.batcher._tasks
        ran = Counter(self.engine.good)
        for index, (request, result) in enumerate(zip(requests, results, strict=True)):
            event(type(result).__name__)
            if isinstance(result, Answer):
                assert list(result.outputs) == ["y"]
                np.testing.assert_array_equal(result.outputs["y"], 2 * self.rows[index])
                assert not request.poison
                assert all(ran[row] == 1 for row in self.rows[index].tolist())
                begun, ended = self.ended[index]
                assert 0 <= result.queue_s <= ended - begun + 1e-9
                assert result.inference_s > 0
            else:
                self.check_error(request, result)
        kinds = Counter(type(result) for result in results)
        sheds = self.world.observer.sheds
        expected = {
            "queue_full": kinds[QueueFullError],
            "deadline": kinds[OverloadError] + kinds[DeadlineExceededError],
            "gone": kinds[ClientGoneError],
        }
        if not kinds[asyncio.CancelledError]:
            assert sheds == Counter(expected)
        assert all(sheds[cause] >= count for cause, count in expected.items())

    def check_error(self, request, error):
        assert isinstance(error, ServingError | ClientGoneError | asyncio.CancelledError), repr(
            error
        )
        if isinstance(error, asyncio.CancelledError):
            assert request.cancelled is not None
        elif isinstance(error, ClientGoneError):
            assert request.leaves is not None
        elif isinstance(error, OverloadError):
            assert 0 <= error.retry_after_s < 60
        elif type(error) is ServingError:
            assert request.poison or self.bad


def in_time(play, requests, results):
    """Nobody is left without a word when their time is over."""
    for index, request in enumerate(requests):
        if index in play.ended:
            begun, ended = play.ended[index]
            # What runs on the event loop holds timers up.
            held = sum(seconds for at, seconds in play.engine.held if begun - seconds <= at < ended)
            assert ended - begun <= request.within / 1000 + RESOLUTION_S + held, results[index]


@pytest.mark.parametrize("way", ["thread", "process"])
@settings(max_examples=150)
@given(requests=st.lists(requests, min_size=1, max_size=30), limits=limits, costs=costs)
def test_with_a_healthy_engine(way, requests, limits, costs):
    async def main(world):
        play = Play(world, way, costs, limits)
        results = await play.all(requests)
        play.check(requests, results)
        in_time(play, requests, results)
        for request, result in zip(requests, results, strict=True):
            if type(result) is ServingError:
                assert request.poison
        for _, rows in play.engine.calls:
            assert len(rows) <= limits.max_batch_rows
        assert play.engine.most_at_a_time <= limits.slots
        await play.ask(99, Request(0, 3, 400, False, None, None))

    simulate(main)


@pytest.mark.parametrize("way", ["thread", "process"])
@settings(max_examples=150)
@given(
    requests=st.lists(requests, min_size=1, max_size=30),
    limits=limits,
    costs=costs,
    bad=misbehaviour,
)
def test_with_an_engine_that_misbehaves(way, requests, limits, costs, bad):
    async def main(world):
        play = Play(world, way, costs, limits, bad)
        results = await play.all(requests)
        play.check(requests, results)
        if way == "process":
            in_time(play, requests, results)

    simulate(main)


@pytest.mark.parametrize("way", ["thread", "process"])
@settings(max_examples=100)
@given(
    requests=st.lists(requests, min_size=1, max_size=20),
    limits=limits,
    costs=costs,
    bad=misbehaviour,
    at=st.integers(0, 80),
)
def test_closed_meanwhile(way, *, requests, limits, costs, bad, at):
    async def main(world):
        play = Play(world, way, costs, limits, bad)

        async def close():
            await asyncio.sleep(at / 1000)
            await play.batcher.close()
            # What came in the same turn of the event loop is still run.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return len(play.engine.calls)

        closing = asyncio.create_task(close())
        results = await play.all(requests)
        world.assert_idle()
        for index, (request, result) in enumerate(zip(requests, results, strict=True)):
            if isinstance(result, Answer):
                np.testing.assert_array_equal(result.outputs["y"], 2 * play.rows[index])
            elif not (type(result) is ServingError and "being closed" in str(result)):
                play.check_error(request, result)
        assert all(lane.closed for lane in world.lanes)
        assert len(play.engine.calls) == await closing

    simulate(main)
