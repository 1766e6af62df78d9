"""The batcher in simulated time: engines take the seconds they are told, to the last bit, and a
test of hours is over in milliseconds."""

from __future__ import annotations

import asyncio
import inspect
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import TypeVar

import numpy as np
import pytest

from headgate.serving import batcher, merging, on_loop

T = TypeVar("T")

RESOLUTION_S = 5e-3
"""How far beyond a deadline an error may come, seconds."""

ways = pytest.mark.parametrize("way", ["at once", "turn", "thread", "process"])
"""How calls are made; see :meth:`World.make`."""
queued = pytest.mark.parametrize("way", ["thread", "process"])
"""Those of them that requests may wait for."""


class Clock:
    """Stands for the module ``time``."""

    def __init__(self):
        self.now = 1000.0
        self.holds_loop = True
        """Whether what takes time holds the event loop, as opposed to a thread."""

    def thread_time(self):
        return self.now

    def monotonic(self):
        return self.now


class _Selector(selectors.DefaultSelector):
    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def select(self, timeout=None):
        assert timeout is not None, "something waits for what will never happen"
        self.clock.now += max(timeout, 0.0)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """Where there is nothing to do, the next timer's moment has come."""

    def __init__(self, clock):
        self.clock = clock
        super().__init__(_Selector(clock))

    def time(self):
        return self.clock.now

    def call_soon_threadsafe(self, callback, *args, context=None):
        # A lane says so at the moment at which its job ends, which is not here yet.
        return self.call_at(self.clock.now, callback, *args, context=context)


class Lane:
    """A thread: what runs in it takes time that passes for everybody else as well."""

    def __init__(self, clock, lanes, name):
        self.clock = clock
        self.name = name
        self.jobs = 0
        self.closed = False
        lanes.append(self)

    def put(self, job):
        assert not self.closed
        self.jobs += 1
        begun, self.clock.holds_loop = self.clock.now, False
        job()
        self.clock.now, self.clock.holds_loop = begun, True

    def close(self):
        self.closed = True


class Observer:
    """What the batcher told."""

    def __init__(self):
        self.batches = []
        self.sheds = Counter()

    def batch(self, rows, seconds):
        self.batches.append((rows, seconds))

    def shed(self, cause):
        self.sheds[cause] += 1


class Engine:
    """Doubles its rows, in ``fixed + per_row * rows`` seconds. Negative rows are poison.

    ``calls`` has of each call when it began and its rows; ``good`` the rows of those that succeeded;
    ``held`` of each call on the event loop when it began and its seconds.
    """

    def __init__(self, clock, fixed=5e-3, per_row=0.0):
        self.clock = clock
        self.fixed = fixed
        self.per_row = per_row
        self.calls = []
        self.good = []
        self.held = []
        self.at_a_time = self.most_at_a_time = 0
        self.behave = lambda rows: 2 * rows
        """Outputs of rows, or raises."""
        self.hang_s = 0.0

    def __call__(self, batch):
        """In a thread, or on the event loop."""
        rows = self.begin(batch)
        seconds = self._seconds(rows)
        if self.clock.holds_loop:
            self.held.append((self.clock.now, seconds))
        self.clock.now += seconds
        return self._end(rows)

    async def awaited(self, batch):
        """In another process."""
        rows = self.begin(batch)
        self.at_a_time += 1
        self.most_at_a_time = max(self.at_a_time, self.most_at_a_time)
        try:
            await asyncio.sleep(self._seconds(rows))
        finally:
            self.at_a_time -= 1
        return self._end(rows)

    @property
    def sizes(self):
        return [len(rows) for _, rows in self.calls]

    def begin(self, batch):
        rows = batch["x"]
        self.calls.append((self.clock.now, rows.tolist()))
        return rows

    def _seconds(self, rows):
        return self.fixed + self.per_row * len(rows) + self.hang_s

    def _end(self, rows):
        if (rows < 0).any():
            raise ValueError("poison")
        outputs = self.behave(rows)
        if not isinstance(outputs, dict):
            outputs = {"y": outputs}
        if all(np.shape(array)[:1] == (len(rows),) for array in outputs.values()) and outputs:
            self.good += rows.tolist()
        return outputs


class World:
    """A clock, an engine, a batcher, and requests to it."""

    def __init__(self, clock, lanes):
        self.clock = clock
        self.lanes = lanes
        self.start = clock.now
        self.engine = Engine(clock)
        self.observer = Observer()
        self.batcher = None
        self._rows = 0

    @property
    def now(self):
        """Seconds since it began, rounded to the nanosecond."""
        return round(self.clock.now - self.start, 9)

    def make(self, way="process", *, fixed=5e-3, per_row=0.0, known=True, **options):
        """Make the batcher, whose engine is in a ``thread``, in another ``process``, or runs at the
        end of a ``turn`` or ``at once``, with its cost known already."""
        fixed = {"turn": 100e-6, "at once": 5e-6}.get(way, fixed)
        self.engine.fixed, self.engine.per_row = fixed, per_row
        self.batcher = batcher.Batcher(
            self.engine.awaited if way == "process" else self.engine,
            name="m",
            observer=self.observer,
            **options,
        )
        if known:
            for rows in (1, 64):
                self.batcher.cost.learn(rows, fixed + per_row * rows)
        return self.batcher

    async def ask(self, rows=1, within=10.0, *, poison=False, alive=None):
        """Ask for rows that nobody else has; returns the answer, checked to be theirs."""
        x = np.arange(self._rows, self._rows + rows)
        self._rows += rows
        if poison:
            x[-1] = -1
        answer = await self.batcher.submit(
            {"x": x}, rows, deadline=self.clock.now + within, alive=alive
        )
        np.testing.assert_array_equal(answer.outputs["y"], 2 * x)
        return answer

    def asking(self, *args, **options):
        """The same, on its way."""
        return asyncio.create_task(self.ask(*args, **options))

    async def clients(self, number, asks, **options):
        """So many that ask again a moment after they were answered, each after its own."""

        async def client(index):
            await asyncio.sleep(index * 1e-3)
            for _ in range(asks):
                await self.ask(**options)
                await asyncio.sleep(50e-6 + index * 10e-6)

        await asyncio.gather(*(client(index) for index in range(number)))

    def assert_idle(self):
        """Nothing is left of anybody."""
        assert self.batcher.queued_rows == 0
        assert self.batcher.busy_s == 0
        for name in ("_live", "_queue", "_running"):
            assert not getattr(self.batcher, name), name


def simulate(main: Callable[[World], Awaitable[T]]) -> T:
    """Run ``main`` in a world of its own, in which no callback raises and no error goes unheard."""
    clock = Clock()
    lanes = []
    trouble = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batcher, "time", clock)
        patch.setattr(merging, "time", clock)
        patch.setattr(on_loop, "time", clock)
        patch.setattr(batcher, "Lane", partial(Lane, clock, lanes))
        with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: trouble.append(context))
            result = runner.run(main(World(clock, lanes)))
    assert trouble == []
    return result


def simulated(test):
    """A test that is a coroutine function of a world, and of fixtures."""

    @wraps(test)
    def run(**fixtures):
        simulate(partial(test, **fixtures))

    del run.__wrapped__
    signature = inspect.signature(test)
    world, *others = signature.parameters.values()
    assert world.name == "world"
    run.__signature__ = signature.replace(parameters=others)
    return run


async def outcomes(tasks):
    """Of each its answer or its error."""
    return await asyncio.gather(*tasks, return_exceptions=True)
