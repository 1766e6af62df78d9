"""The batcher with real threads on real event loops."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.simulated import Observer, outcomes
from serving.tiny import until

from headgate.errors import DeadlineExceededError, HeadgateError, OverloadError, ServingError
from headgate.serving.batcher import Batcher
from headgate.serving.job import Answer

loops = pytest.mark.parametrize(
    "run",
    [
        pytest.param(partial(asyncio.Runner, loop_factory=asyncio.new_event_loop), id="asyncio"),
        pytest.param(partial(asyncio.Runner, loop_factory=uvloop.new_event_loop), id="uvloop"),
    ],
)


class Engine:
    """Doubles its rows; waits for its gate, and for a while where the first row says so."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.called = threading.Event()
        self.threads = set()

    def __call__(self, batch):
        self.called.set()
        self.threads.add(threading.get_ident())
        rows = batch["x"]
        time.sleep(rows[0] % 4 * 1e-3)
        assert self.gate.wait(20)
        if (rows < 0).any():
            raise ValueError("poison")
        return {"y": 2 * rows}


def make(engine, **options):
    return Batcher(engine, name="m", observer=Observer(), **options)


def submit(batcher, *rows, within=10.0):
    return batcher.submit(
        {"x": np.array(rows)}, len(rows), deadline=time.monotonic() + within, alive=None
    )


@pytest.mark.no_cover  # thousands of requests, for what others cover
@loops
@settings(max_examples=25)
@given(
    requests=st.lists(
        st.tuples(
            st.integers(0, 30),  # when it comes, ms
            st.integers(1, 12),  # its rows
            st.sampled_from([2, 10, 5000]),  # its deadline, ms
            st.sampled_from([None, None, None, 0, 3]),  # when it is cancelled, ms after it came
            st.booleans().flatmap(lambda poison: st.booleans() if poison else st.just(False)),
        ),
        min_size=1,
        max_size=25,
    ),
    slots=st.integers(1, 3),
)
def test_everyone_gets_their_own_rows_or_one_error(run, requests, slots):
    async def ask(batcher, index, request):
        at, rows, within, cancelled, poison = request
        await asyncio.sleep(at / 1000)
        x = np.arange(100 * index, 100 * index + rows)
        if poison:
            x[-1] = -1
        if cancelled is not None:
            task = asyncio.current_task()
            asyncio.get_running_loop().call_later(cancelled / 1000, task.cancel)
        answer = await submit(batcher, *x, within=within / 1000)
        np.testing.assert_array_equal(answer.outputs["y"], 2 * x)
        return answer

    async def main():
        batcher = make(Engine(), slots=slots, max_batch_rows=8, max_queue_rows=20)
        results = await outcomes(
            [asyncio.create_task(ask(batcher, *each)) for each in enumerate(requests)]
        )
        for (*_, cancelled, poison), result in zip(requests, results, strict=True):
            if isinstance(result, asyncio.CancelledError):
                assert cancelled is not None
            elif type(result) is ServingError:
                assert poison
            else:
                assert isinstance(result, Answer | HeadgateError), repr(result)
                assert not (poison and isinstance(result, Answer))
        await submit(batcher, 1, 2, 3)
        assert batcher.queued_rows == 0
        assert not batcher._live
        await batcher.close()

    with run() as runner:
        runner.run(main())


@loops
def test_deadlines_that_have_passed_and_that_never_will(run):
    async def main():
        engine = Engine()
        batcher = make(engine, inline=False)
        late = [submit(batcher, 0, within=within) for within in (-1.0, 0.0, -5.0, 1e-5)]
        never = submit(batcher, 0, within=1e300)
        *failed, answered = await outcomes([*late, never])
        assert all(isinstance(each, DeadlineExceededError | OverloadError) for each in failed[:3])
        assert isinstance(answered, Answer)
        await batcher.close()

    with run() as runner:
        runner.run(main())


@loops
def test_a_call_that_hangs_is_given_up_at_the_deadline_and_taken_back_later(run):
    async def main():
        engine = Engine()
        batcher = make(engine, inline=False)
        await submit(batcher, 0)
        engine.gate.clear()
        begun = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            await submit(batcher, 0, within=0.05)
        assert time.monotonic() - begun >= 0.05
        assert batcher.busy_s > 0
        waiting = asyncio.create_task(submit(batcher, 4, within=15))
        await asyncio.sleep(0)
        assert batcher.queued_rows == 1
        engine.gate.set()
        assert (await waiting).outputs["y"].tolist() == [8]
        assert len(engine.threads) == 1
        await batcher.close()

    with run() as runner:
        runner.run(main())


@loops
def test_a_loop_that_closes_while_a_call_hangs_is_not_disturbed(run):
    before = set(threading.enumerate())
    engine = Engine()

    async def main():
        engine.gate.clear()
        batcher = make(engine, inline=False)
        task = asyncio.create_task(submit(batcher, 0))
        assert await asyncio.to_thread(engine.called.wait, 5)
        await batcher.close()
        with pytest.raises(ServingError, match="being closed"):
            await task

    with run() as runner:
        runner.run(main())
    engine.gate.set()
    ours = [thread for thread in threading.enumerate() if thread not in before]
    assert [thread.daemon for thread in ours] == [True] * len(ours)
    until(lambda: not any(thread.is_alive() for thread in ours), 5)


@loops
def test_cheap_calls_stay_on_the_event_loop_and_need_no_thread(run):
    async def main():
        threads = set()

        def engine(batch):
            threads.add(threading.get_ident())
            return {"y": 2 * batch["x"]}

        batcher = make(engine)
        batcher.cost.learn(1, 100e-6)
        results = await outcomes([submit(batcher, index) for index in range(10)])
        assert [each.outputs["y"].tolist() for each in results] == [[2 * i] for i in range(10)]
        assert threads == {threading.get_ident()}
        assert batcher.busy_s == 0

    with run() as runner:
        runner.run(main())


def spin(seconds):
    """Keep the interpreter busy."""
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        pass


@pytest.fixture
def short_turns():
    """The interpreter changes hands as often as in a worker."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-3)
    yield
    sys.setswitchinterval(before)


@pytest.mark.no_cover  # a tracer takes the interpreter for most of the time
@pytest.mark.usefixtures("short_turns")
def test_it_notices_that_a_thread_and_the_event_loop_fight_for_the_interpreter():
    on_loop = set()

    def engine(batch):
        on_loop.add(threading.current_thread() is threading.main_thread())
        spin(3e-3)
        return {"y": 2 * batch["x"]}

    async def main():
        batcher = make(engine, interpreted=True)

        async def ask():
            with contextlib.suppress(OverloadError):
                await submit(batcher, 1)

        deadline = time.monotonic() + 20
        while True not in on_loop and time.monotonic() < deadline:
            asking = [asyncio.create_task(ask()) for _ in range(3)]
            while not all(task.done() for task in asking):
                spin(1e-3)
                await asyncio.sleep(0)
        await batcher.close()

    asyncio.run(main())
    assert on_loop == {True, False}


@pytest.mark.parametrize("alone", [True, False])
def test_a_long_call_holds_the_event_loop_only_where_no_other_model_waits_for_it(alone):
    on_loop = []

    def engine(batch):
        on_loop.append(threading.current_thread() is threading.main_thread())
        time.sleep(0.03)
        return {"y": 2 * batch["x"]}

    async def main():
        batcher = make(engine, interpreted=True, alone=alone, max_batch_rows=1)
        await submit(batcher, 1)  # what a call costs is known
        batcher._interference.stretch = 10.0
        await asyncio.gather(*(submit(batcher, 1) for _ in range(4)))
        await batcher.close()

    asyncio.run(main())
    assert (True in on_loop[1:4]) is alone


def test_a_call_that_everybody_has_given_up_still_counts_as_work():
    """Whoever comes next is told at once, instead of waiting for a deadline that cannot be kept."""
    hangs = threading.Event()
    begun = threading.Event()

    def engine(batch):
        begun.set()
        hangs.wait(30)
        return {"y": batch["x"]}

    async def main():
        batcher = make(engine)
        with pytest.raises(HeadgateError):
            await submit(batcher, 1, within=0.3)
        assert begun.is_set()
        assert batcher.busy
        began = time.monotonic()
        with pytest.raises(OverloadError):
            await submit(batcher, 2, within=0.4)
        assert time.monotonic() - began < 0.3
        hangs.set()
        await batcher.close()

    asyncio.run(main())
