"""What the batcher refuses, when, and what the refused are told, in simulated time."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from serving.simulated import RESOLUTION_S, outcomes, queued, simulated, ways

from headgate.errors import DeadlineExceededError, OverloadError, ServingError
from headgate.serving.http import error_headers, meaning
from headgate.serving.job import QueueFullError


async def one_that_runs_and_two_that_wait(world):
    """Requests of 8 rows, 0.25 s after the first began to run."""
    tasks = [world.asking(8)]
    await asyncio.sleep(0.05)
    tasks += [world.asking(8), world.asking(8)]
    await asyncio.sleep(0.2)
    return tasks


@queued
@simulated
async def test_a_full_queue_refuses_with_429_and_the_time_it_needs(world, way):
    world.make(way, fixed=1.0, max_batch_rows=8, max_queue_rows=16)
    tasks = await one_that_runs_and_two_that_wait(world)
    assert world.batcher.queued_rows == 16
    with pytest.raises(QueueFullError, match="16 rows wait already, 16 may") as caught:
        await world.ask()
    assert world.now == 0.25
    # What runs, both that wait, and its own.
    assert caught.value.retry_after_s == pytest.approx(0.75 + 3 * 1.0)
    assert meaning(caught.value) == (429, "overload")
    assert error_headers(caught.value) == [(b"retry-after", b"4")]
    assert world.observer.sheds == {"queue_full": 1}
    await outcomes(tasks)
    assert sum(world.engine.sizes) == 24
    world.assert_idle()


@queued
@simulated
async def test_what_cannot_be_in_time_is_refused_with_503_at_once(world, way):
    world.make(way, fixed=1.0, max_batch_rows=8)
    tasks = await one_that_runs_and_two_that_wait(world)
    with pytest.raises(OverloadError, match="takes about 3750 ms, and 3000 are left") as caught:
        await world.ask(within=3.0)
    assert world.now == 0.25
    assert not isinstance(caught.value, QueueFullError)
    assert meaning(caught.value) == (503, "overload")
    assert error_headers(caught.value) == [(b"retry-after", b"4")]
    assert world.observer.sheds == {"deadline": 1}
    # And what would only just be: something always comes between.
    with pytest.raises(OverloadError):
        await world.ask(within=4.0)
    await world.ask(within=7.0)
    await outcomes(tasks)
    world.assert_idle()


@queued
@simulated
async def test_a_call_that_took_longer_than_expected_drops_those_who_would_be_late(world, way):
    world.make(way, fixed=1.0)
    world.engine.hang_s = 1.9
    first = world.asking()
    await asyncio.sleep(0.1)
    second = world.asking(within=3.4)
    with pytest.raises(OverloadError, match="an answer takes about"):
        await second
    assert world.now == pytest.approx(2.9), "before its deadline at 3.5"
    await first
    assert world.engine.sizes == [1]
    assert world.observer.sheds == {"deadline": 1}
    world.assert_idle()


@queued
@simulated
async def test_a_call_that_hangs_fails_its_requests_at_their_deadlines(world, way):
    world.make(way, fixed=0.1)
    world.engine.hang_s = 100.0
    short, long = world.asking(within=1.0), world.asking(within=2.0)
    with pytest.raises(DeadlineExceededError, match="1000 ms after it was read") as caught:
        await short
    assert 1.0 <= world.now <= 1.0 + RESOLUTION_S
    assert meaning(caught.value)[0] == 504
    assert error_headers(caught.value) == [(b"retry-after", b"1")]
    assert not long.done()
    with pytest.raises(DeadlineExceededError):
        await long
    assert 2.0 <= world.now <= 2.0 + RESOLUTION_S
    assert world.observer.sheds == {"deadline": 2}
    assert world.batcher.busy_s == pytest.approx(2.0, abs=RESOLUTION_S)


@queued
@simulated
async def test_while_a_call_hangs_whoever_comes_is_refused_at_once(world, way):
    world.make(way, fixed=0.1)
    world.engine.hang_s = 100.0
    with pytest.raises(DeadlineExceededError):
        await world.ask(within=7.0)
    begun = world.clock.now
    for _ in range(5):
        with pytest.raises(OverloadError):
            await world.ask(within=1.0)
    assert world.clock.now == begun
    world.engine.hang_s = 0.0
    await asyncio.sleep(100)
    await world.ask()
    world.assert_idle()


@ways
@simulated
async def test_a_deadline_that_has_passed_fails_at_once_and_runs_nothing(world, way):
    world.make(way)
    with pytest.raises(DeadlineExceededError, match="0 ms after it was read"):
        await world.ask(within=-1.0)
    assert world.now == 0
    assert world.engine.calls == []
    assert world.observer.sheds == {"deadline": 1}
    world.assert_idle()


@simulated
async def test_one_that_did_not_wait_is_run_whatever_is_expected(world):
    world.make(fixed=50e-3)
    for _ in range(20):
        world.batcher.cost.learn(1, 1.0)
    await world.ask(within=0.1)
    assert world.batcher.cost.predict(1) < 1.0


@queued
@simulated
async def test_one_larger_than_a_batch_takes_several_calls(world, way):
    world.make(way, max_batch_rows=8)
    answer = await world.ask(21)
    assert world.engine.sizes == [8, 8, 5]
    assert answer.inference_s == pytest.approx(3 * 5e-3)
    assert len(answer.outputs["y"]) == 21


@queued
@simulated
async def test_one_larger_than_the_queue_is_taken_when_nobody_waits(world, way):
    world.make(way, max_batch_rows=8, max_queue_rows=8)
    running = world.asking(8)
    await asyncio.sleep(1e-3)
    await world.ask(40)
    await running
    assert world.engine.sizes == [8] * 6


@queued
@simulated
async def test_it_holds_nobody_up(world, way):
    world.make(way, max_batch_rows=8)
    large = world.asking(64)
    await asyncio.sleep(1e-3)
    small = await world.ask(2)
    # The large one's first and second piece, then its own turn.
    assert world.now <= 3 * 5e-3 + 1e-9
    assert small.inference_s == pytest.approx(5e-3)
    assert not large.done()
    await large
    assert sum(world.engine.sizes) == 66
    assert max(world.engine.sizes) == 8


@queued
@simulated
async def test_its_parts_come_together_in_order_though_several_run_at_a_time(world, way):
    world.make(way, max_batch_rows=8, slots=3, per_row=1e-3)
    await world.ask(61)
    assert world.engine.most_at_a_time == (3 if way == "process" else 0)


@queued
@simulated
async def test_poison_in_one_part_fails_all_of_it_and_stops_the_rest(world, way):
    world.make(way, max_batch_rows=8)
    world.engine.behave = lambda rows: {} if rows[0] == 8 else 2 * rows
    with pytest.raises(ServingError, match="no outputs"):
        await world.ask(64)
    assert world.engine.sizes == [8, 8]
    world.assert_idle()


@queued
@simulated
async def test_parts_that_do_not_fit_together_are_an_error(world, way):
    world.make(way, max_batch_rows=8)
    world.engine.behave = lambda rows: {"y": np.zeros((len(rows), len(rows)))}
    with pytest.raises(ServingError, match="do not fit together"):
        await world.ask(9)
    await world.batcher.submit({"x": np.arange(3)}, 3, deadline=math.inf)
    world.assert_idle()


@queued
@simulated
async def test_cancelled_half_way_it_runs_no_further(world, way):
    world.make(way, max_batch_rows=8)
    large = world.asking(64)
    await asyncio.sleep(7e-3)
    large.cancel()
    await asyncio.sleep(1.0)
    assert large.cancelled()
    assert world.engine.sizes == [8, 8]
    world.assert_idle()
