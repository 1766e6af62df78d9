"""A thread that belongs to one engine."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
from serving.tiny import until

from headgate.serving.lane import Lane, hand_over


@pytest.fixture
def lane():
    lane = Lane("a lane of this test")
    yield lane
    lane.close()


def test_it_returns_and_raises_what_the_function_does(lane):
    async def main():
        assert await lane.run(lambda: threading.current_thread().name) == "a lane of this test"
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 / 0)
        with pytest.raises(RuntimeError, match="SystemExit: 3"):
            await asyncio.wait_for(lane.run(lambda: sys.exit(3)), 5)
        assert await lane.run(lambda: 3) == 3

    asyncio.run(main())


def test_one_after_the_other(lane):
    order = []
    gate = threading.Event()
    lane.put(lambda: gate.wait(5))
    for number in range(10):
        lane.put(lambda number=number: order.append(number))
    assert order == []
    gate.set()
    until(lambda: len(order) == 10, 5)
    assert order == list(range(10))


def test_nobody_listens_any_more(lane):
    gate, entered = threading.Event(), threading.Event()

    async def main():
        task = asyncio.create_task(lane.run(lambda: entered.set() or gate.wait(5)))
        assert await asyncio.to_thread(entered.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        assert await lane.run(lambda: "the next") == "the next"

    asyncio.run(main())


def test_the_loop_is_closed_before_the_function_returns(lane):
    gate, entered, ended = threading.Event(), threading.Event(), threading.Event()

    async def main():
        asyncio.create_task(lane.run(lambda: entered.set() or gate.wait(5)))  # noqa: RUF006
        assert await asyncio.to_thread(entered.wait, 5)

    asyncio.run(main())
    gate.set()
    lane.put(ended.set)
    assert ended.wait(5), "its thread died"


def test_hand_over_to_a_loop_that_is_there():
    async def main():
        told = asyncio.get_running_loop().create_future()
        threading.Thread(target=hand_over, args=(told.get_loop(), told.set_result, 3)).start()
        assert await asyncio.wait_for(told, 5) == 3

    asyncio.run(main())


def test_closing_ends_the_thread():
    lane = Lane("to be closed")
    done = []
    lane.put(lambda: done.append(1))
    lane.close()
    until(lambda: all(thread.name != "to be closed" for thread in threading.enumerate()), 5)
    assert done == [1]
