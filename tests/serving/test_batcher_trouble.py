"""One request's trouble in the batcher is nobody else's, in simulated time."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from serving.simulated import outcomes, queued, simulated, ways

from headgate.errors import ServingError
from headgate.serving.http import meaning
from headgate.serving.job import ClientGoneError


@queued
@simulated
async def test_a_client_that_left_is_not_run(world, way):
    world.make(way)
    first = world.asking()
    await asyncio.sleep(1e-3)
    left = world.now + 1e-3
    gone = world.asking(3, alive=lambda: world.now < left)
    there = world.asking(alive=lambda: True)
    with pytest.raises(ClientGoneError):
        await gone
    await outcomes([first, there])
    assert world.engine.sizes == [1, 1]
    assert world.observer.sheds == {"gone": 1}
    world.assert_idle()


@simulated
async def test_nor_in_a_turn(world):
    world.make("turn")
    gone, there = world.asking(alive=lambda: False), world.asking(alive=lambda: True)
    with pytest.raises(ClientGoneError):
        await gone
    await there
    assert world.engine.sizes == [1]


@queued
@simulated
async def test_cancelled_in_the_queue_it_takes_its_rows_along(world, way):
    world.make(way, max_queue_rows=4)
    first = world.asking()
    await asyncio.sleep(1e-3)
    waiting = world.asking(4)
    await asyncio.sleep(0)
    assert world.batcher.queued_rows == 4
    waiting.cancel()
    await asyncio.sleep(0)
    assert world.batcher.queued_rows == 0
    await outcomes([first, world.asking(4)])
    assert world.engine.sizes == [1, 4]
    assert len(world.engine.good) == 5


@queued
@simulated
async def test_cancelled_in_the_engine_it_disturbs_nobody(world, way):
    world.make(way)
    left, stays = world.asking(), world.asking()
    await asyncio.sleep(1e-3)
    left.cancel()
    await stays
    assert left.cancelled()
    world.assert_idle()


@simulated
async def test_cancelled_in_its_turn_it_is_not_run(world):
    world.make("turn")
    tasks = [world.asking() for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await outcomes(tasks)
    assert world.engine.sizes == [2]
    lonely = world.asking()
    await asyncio.sleep(0)
    lonely.cancel()
    await outcomes([lonely])
    await world.ask()
    assert world.engine.sizes == [2, 1]


class Panic(BaseException):
    """What Rust code raises when it panics is no Exception either."""


@ways
@simulated
async def test_poison_fails_alone(world, way):
    world.make(way)
    tasks = [world.asking(2, poison=index == 3) for index in range(6)]
    results = await outcomes(tasks)
    assert [type(result) is ServingError for result in results] == [
        index == 3 for index in range(6)
    ]
    assert "ValueError: poison" in str(results[3])
    assert meaning(results[3]) == (500, "engine")
    await world.ask()
    world.assert_idle()


@ways
@pytest.mark.parametrize(
    ("outputs", "what"),
    [
        (lambda rows: rows[1:], "rows of y for"),
        (lambda rows: np.append(rows, 0), "rows of y for"),
        (lambda rows: {"y": rows, "z": rows[:0]}, "0 rows of z for"),
        (lambda rows: {}, "no outputs"),
        (lambda rows: np.float64(1), "TypeError"),
    ],
    ids=["too few", "too many", "another output", "nothing", "no array"],
)
@simulated
async def test_answers_that_are_not_row_by_row_are_errors(world, way, outputs, what):
    world.make(way)
    world.engine.behave = outputs
    results = await outcomes([world.asking(rows) for rows in (1, 2, 3)])
    for result in results:
        assert type(result) is ServingError
        assert what in str(result)
    world.engine.behave = lambda rows: 2 * rows
    await world.ask()
    world.assert_idle()


@ways
@pytest.mark.parametrize(
    "raised", [Panic("a panic"), SystemExit(3), MemoryError("too much")], ids=repr
)
@simulated
async def test_whatever_the_engine_raises_fails_one_request(world, way, raised):
    world.make(way)

    def behave(rows):
        if 3 in rows:
            raise raised
        return 2 * rows

    world.engine.behave = behave
    results = await outcomes([world.asking(2) for _ in range(4)])
    assert [type(result) is ServingError for result in results] == [False, True, False, False]
    assert type(raised).__name__ in str(results[1])
    world.assert_idle()


@simulated
async def test_an_engine_that_is_cancelled_by_others_fails_one_request(world):
    world.make("process")

    def behave(rows):
        raise asyncio.CancelledError

    world.engine.behave = behave
    with pytest.raises(ServingError, match="CancelledError"):
        await world.ask()
    world.assert_idle()


@ways
@simulated
async def test_an_error_of_ours_is_passed_on(world, way):
    world.make(way)
    error = ServingError("no licence", where="m version 1")

    def behave(rows):
        raise error

    world.engine.behave = behave
    with pytest.raises(ServingError) as caught:
        await world.ask()
    assert caught.value is error


@queued
@simulated
async def test_those_who_left_are_not_run_again_after_a_call_failed(world, way):
    world.make(way)
    tasks = [world.asking(poison=index == 0) for index in range(3)]
    if way == "process":
        await asyncio.sleep(1e-3)
        tasks[1].cancel()
    await outcomes(tasks)
    assert world.engine.sizes == [3, 1, 1] if way == "process" else [3, 1, 1, 1]
    world.assert_idle()


@queued
@simulated
async def test_those_who_wait_and_those_who_come_are_refused(world, way):
    world.make(way)
    running = world.asking()
    await asyncio.sleep(1e-3)
    waiting = [world.asking() for _ in range(3)]
    await asyncio.sleep(0)
    await world.batcher.close()
    results = await outcomes([running, *waiting, world.asking()])
    assert all(type(result) is ServingError for result in results)
    assert all("m: the model is being closed" in str(result) for result in results)
    assert len({id(result) for result in results}) == 5
    await asyncio.sleep(1.0)
    assert world.engine.sizes == [1]
    assert all(lane.closed for lane in world.lanes)
    world.assert_idle()


@simulated
async def test_it_does_not_wait_for_a_call_that_hangs(world):
    world.make("process")
    world.engine.hang_s = 100.0
    hanging = world.asking()
    await asyncio.sleep(1.0)
    assert world.engine.at_a_time == 1
    await world.batcher.close()
    assert world.now == 1.0
    assert world.engine.at_a_time == 0
    with pytest.raises(ServingError, match="being closed"):
        await hanging
    world.assert_idle()


@ways
@simulated
async def test_it_answers_no_more(world, way):
    world.make(way)
    await world.ask()
    await world.batcher.close()
    with pytest.raises(ServingError, match="being closed"):
        await world.ask()
    await world.batcher.close()
    assert all(lane.closed for lane in world.lanes)


@simulated
async def test_while_it_waits_for_others(world):
    world.make()
    await world.clients(8, 5)
    waiting = world.asking()
    await asyncio.sleep(10e-6)
    assert world.batcher.queued_rows == 1
    await world.batcher.close()
    with pytest.raises(ServingError, match="being closed"):
        await waiting
    world.assert_idle()
    assert all(timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)
