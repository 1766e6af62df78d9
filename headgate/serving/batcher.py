"""The adaptive batcher: every surface of one model in one worker goes through one of these.

A call of the engine takes one of three ways, by what calls were seen to cost:

- A call too cheap to be worth sharing (:data:`MERGE_S`) runs at once, on the event loop.
- A cheap one (:data:`INLINE_S`) runs on the event loop too, at the end of the turn of the loop
  in which it came, merged with all that came in that turn. Nobody waits for anybody.
- A dear one waits in a bounded queue for a thread. What gathers while the threads are busy goes
  together. When those just answered are likely to come back at once, and one call costs enough to
  make it pay, the next call waits for them; a request alone never does.

Batches must be valid: one that was checked cannot fail others. Should a merged call fail all the
same, its members are run again, each apart.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
import types
from collections import OrderedDict
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from headgate.errors import HeadgateError, OverloadError, ServingError
from headgate.serving.cost import CallCost
from headgate.serving.job import Answer, ClientGoneError, Job, QueueFullError, late
from headgate.serving.lane import Lane, hand_over
from headgate.serving.merging import AsyncPredict, Called, Part, Predict, call, call_async

if TYPE_CHECKING:
    from headgate.predictor import Batch

__all__ = ["INLINE_S", "MERGE_S", "BatchObserver", "Batcher"]

INLINE_S = 1e-3
"""The longest call, seconds, that may hold the event loop."""
MERGE_S = 15e-6
"""Fixed cost of a call, seconds, above which sharing one pays: what merging costs a request."""
_LEARN_EVERY = 16
"""Of calls that run at once, every so many is learned from."""
_MERGE_GAIN = 4.0
"""Waiting for others pays where a call costs this many times one more row."""
_RESOLUTION_S = 5e-3
"""Deadlines are looked after this often at most."""


class BatchObserver(Protocol):
    """Whoever counts."""

    def batch(self, rows: int, seconds: float) -> None:
        """The engine was called."""

    def shed(self, cause: str) -> None:
        """A request was refused or dropped: ``queue_full``, ``deadline`` or ``gone``."""


class _Running:
    """One call in a thread or in another process."""

    __slots__ = ("began", "expected_end", "jobs", "lane", "parts")

    def __init__(self, lane: Lane | None, taken: list[tuple[Job, Part]], began: float) -> None:
        self.lane = lane
        self.jobs = [job for job, _ in taken]
        self.parts = [part for _, part in taken]
        self.began = began
        self.expected_end = began


class _Turn:
    """What came in one turn of the event loop."""

    __slots__ = ("jobs", "outcomes", "over", "rows")

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.rows = 0
        self.over = False
        self.outcomes: dict[Job, Answer | HeadgateError] = {}


@types.coroutine
def _next_turn() -> Generator[None, None, None]:
    """Let everything run that is ready, without a future or a timer."""
    yield


class Batcher:
    """One model's batches. Every method belongs to the event loop's thread."""

    def __init__(
        self,
        predict: Predict | AsyncPredict,
        *,
        name: str,
        observer: BatchObserver,
        max_batch_rows: int = 256,
        max_queue_rows: int = 4096,
        target_s: float = math.inf,
        slots: int = 1,
        inline: bool = True,
    ) -> None:
        """A batcher of one engine; nothing runs yet.

        Args:
            predict: the engine; a coroutine function for one in another process.
            name: of the model, for messages.
            observer: is told of calls and of what was shed.
            max_batch_rows: rows in one call; larger requests take several.
            max_queue_rows: rows that may wait; more are refused.
            target_s: latency to keep to when waiting for others, seconds.
            slots: calls in threads, or in other processes, at a time.
            inline: whether cheap calls may run on the event loop.
        """
        self._predict = predict
        self._awaited = inspect.iscoroutinefunction(predict)
        self._name = name
        self._observer = observer
        self._max_batch = max_batch_rows
        self._max_queue = max_queue_rows
        self._target_s = target_s
        self._slots = slots
        self._inline = inline and not self._awaited
        self.cost = CallCost()
        self._unlearned = 0
        self._turn: _Turn | None = None
        self._queue: OrderedDict[Job, None] = OrderedDict()
        self._queued_rows = 0
        self._live: set[Job] = set()
        self._running: set[_Running] = set()
        self._lanes: list[Lane] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = False
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweep_at = math.inf
        self._linger_timer: asyncio.TimerHandle | None = None
        self._arrivals = self._arrivals_seen = 0
        self._crowd = 1
        self._finished_at = -math.inf
        self._closed = False

    @property
    def queued_rows(self) -> int:
        """Rows that wait for the engine."""
        return self._queued_rows

    @property
    def busy_s(self) -> float:
        """How long the oldest unfinished call has been running, seconds."""
        now = time.monotonic()
        return max((now - running.began for running in self._running), default=0.0)

    async def submit(
        self,
        batch: Batch,
        rows: int,
        *,
        deadline: float,
        alive: Callable[[], bool] | None = None,
    ) -> Answer:
        """Predict the ``rows`` rows of a valid ``batch``.

        ``deadline`` is a time of the monotonic clock; ``alive`` says whether the client is there.

        Raises:
            QueueFullError: too many rows wait already.
            OverloadError: the deadline would be missed.
            DeadlineExceededError: it was missed.
            ClientGoneError: the client left before its rows were run.
            ServingError: the engine failed on these rows, or the batcher is closed.
        """
        cost = self.cost
        if (
            self._inline
            and not self._live
            and cost.known
            and cost.fixed_s + cost.per_row_s * rows <= INLINE_S
            and rows <= self._max_batch
        ):
            if cost.fixed_s < MERGE_S:
                return self._at_once(batch, rows, deadline)
            return await self._this_turn(batch, rows, deadline, alive)
        return await self._in_turn(batch, rows, deadline, alive)

    async def close(self) -> None:
        """Refuse what waits and what comes; let go of the threads."""
        self._closed = True
        self._inline = False
        for job in list(self._live):
            self._settle(job, self._closing())
        for timer in (self._sweep_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        busy = [running.lane for running in self._running if running.lane is not None]
        for lane in [*self._lanes, *busy]:
            lane.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._running = {running for running in self._running if running.lane is not None}

    # On the event loop.

    def _at_once(self, batch: Batch, rows: int, deadline: float) -> Answer:
        if time.monotonic() >= deadline:
            self._observer.shed("deadline")
            raise late(0.0)
        called = call(cast("Predict", self._predict), [Part(batch, 0, rows, _always)])
        self._unlearned += 1
        if self._unlearned == _LEARN_EVERY or called.seconds > INLINE_S:
            self._unlearned = 0
            if not called.failed or called.seconds > INLINE_S:
                self.cost.learn(rows, called.seconds)
        self._observer.batch(rows, called.seconds)
        result = called.results[0]
        if isinstance(result, HeadgateError):
            raise result
        return Answer(cast("dict[str, Any]", result), 0.0, called.seconds)

    async def _this_turn(
        self, batch: Batch, rows: int, deadline: float, alive: Callable[[], bool] | None
    ) -> Answer:
        turn = self._turn
        if (
            turn is None
            or turn.rows + rows > self._max_batch
            or self.cost.predict(turn.rows + rows) > INLINE_S
        ):
            turn = self._turn = _Turn()
        job = Job(batch, rows, time.monotonic(), deadline, alive)
        turn.jobs.append(job)
        turn.rows += rows
        try:
            await _next_turn()
        except asyncio.CancelledError:
            job.over = True
            raise
        if not turn.over:
            # The first to wake up runs it for all.
            self._run_turn(turn)
        outcome = turn.outcomes[job]
        if isinstance(outcome, HeadgateError):
            raise outcome
        return outcome

    def _run_turn(self, turn: _Turn) -> None:
        turn.over = True
        if self._turn is turn:
            self._turn = None
        now = time.monotonic()
        jobs = []
        for job in turn.jobs:
            if job.over:
                continue
            trouble = job.trouble(now)
            if trouble is None:
                jobs.append(job)
            else:
                self._count_shed(trouble)
                turn.outcomes[job] = trouble
        if not jobs:
            return
        called = call(cast("Predict", self._predict), [job.take(job.rows, now) for job in jobs])
        self._learn(called)
        for job, result in zip(jobs, called.results, strict=True):
            outcome = job.deliver(0, result, called.seconds)
            turn.outcomes[job] = cast("Answer | HeadgateError", outcome)

    # In the queue.

    async def _in_turn(
        self, batch: Batch, rows: int, deadline: float, alive: Callable[[], bool] | None
    ) -> Answer:
        if self._closed:
            raise self._closing()
        now = time.monotonic()
        self._admit(rows, deadline, now)
        job = Job(batch, rows, now, deadline, alive)
        loop = asyncio.get_running_loop()
        job.future = loop.create_future()
        self._queue[job] = None
        self._queued_rows += rows
        self._live.add(job)
        self._arrivals += 1
        if deadline < self._sweep_at:
            self._look_after(deadline)
        self._wake()
        try:
            return await job.future
        finally:
            self._drop(job)

    def _admit(self, rows: int, deadline: float, now: float) -> None:
        """Refuse at once what would be refused later anyway."""
        if not self._live:
            return
        wait = self._expected_s(rows, now)
        if self._queued_rows and self._queued_rows + rows > self._max_queue:
            self._observer.shed("queue_full")
            raise QueueFullError(
                f"{self._queued_rows} rows wait already, {self._max_queue} may",
                where=self._name,
                remedy="try again later",
                retry_after_s=wait,
            )
        if now + wait > deadline:
            self._observer.shed("deadline")
            raise _too_late(self._name, deadline - now, wait)

    def _expected_s(self, rows: int, now: float) -> float:
        """Seconds until ``rows`` more rows would be answered."""
        ahead = self._queued_rows + rows
        calls = -(-ahead // self._max_batch)
        work = self.cost.fixed_s * calls + self.cost.per_row_s * ahead
        if len(self._running) < self._slots:
            return work / self._slots
        # One that is late by some time may well take as long again: it could have hung.
        soonest = min(abs(running.expected_end - now) for running in self._running)
        return soonest + work / self._slots

    def _wake(self) -> None:
        """Look for work at the end of this turn of the loop, once all that came in it is here."""
        if not self._woken and len(self._running) < self._slots:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._woken = False
        while self._queue and len(self._running) < self._slots and not self._closed:
            now = time.monotonic()
            if self._lingers(now):
                return
            taken = self._assemble(now)
            if taken:
                self._start(taken, now)

    def _lingers(self, now: float) -> bool:
        """Whether to wait for those who were just answered: they may come back at once."""
        if self._crowd <= len(self._queue) or self._queued_rows >= self._max_batch:
            return False
        fixed = self.cost.fixed_s
        oldest = next(iter(self._queue))
        gap = min(max(fixed * 0.1, 1e-4), 1e-3)
        if (
            fixed < _MERGE_GAIN * self.cost.per_row_s
            or fixed < INLINE_S
            or now - self._finished_at > fixed
            or now + self._expected_s(0, now) + gap
            > min(oldest.deadline, oldest.arrived + self._target_s)
        ):
            return False
        if self._linger_timer is None:
            if self._arrivals == self._arrivals_seen:
                return False
            self._arrivals_seen = self._arrivals
            loop = asyncio.get_running_loop()
            self._linger_timer = loop.call_later(gap, self._after_turns, 3)
        return True

    def _after_turns(self, turns: int) -> None:
        """Dispatch after some turns of the loop: timers fire before sockets are read."""
        if turns:
            asyncio.get_running_loop().call_soon(self._after_turns, turns - 1)
        else:
            self._linger_timer = None
            self._dispatch()

    def _assemble(self, now: float) -> list[tuple[Job, Part]]:
        """Up to a batch of rows from the head of the queue.

        What remains of a request goes to the tail, so that a large one holds nobody up.
        """
        taken: list[tuple[Job, Part]] = []
        space = self._max_batch
        seconds = self.cost.predict(min(space, self._queued_rows))
        for job in list(self._queue):
            if space == 0:
                break
            trouble = job.trouble(now)
            if trouble is None and job.taken == 0 and self._missed(job, now, seconds):
                trouble = _too_late(self._name, job.deadline - now, seconds)
            if trouble is not None:
                self._count_shed(trouble)
                self._settle(job, trouble)
                continue
            rows = min(space, job.waiting)
            taken.append((job, job.take(rows, now)))
            space -= rows
            self._queued_rows -= rows
            if job.waiting:
                self._queue.move_to_end(job)
            else:
                del self._queue[job]
        return taken

    def _missed(self, job: Job, now: float, seconds: float) -> bool:
        # One that did not have to wait is run in any case: what is expected may be wrong, and
        # only running something can put it right.
        return now - job.arrived > _RESOLUTION_S and now + seconds > job.deadline

    def _start(self, taken: list[tuple[Job, Part]], now: float) -> None:
        loop = asyncio.get_running_loop()
        if self._awaited:
            running = _Running(None, taken, now)
            task = loop.create_task(self._call_remote(running))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            lane = self._lanes.pop() if self._lanes else Lane(f"engine {self._name}")
            running = _Running(lane, taken, now)
            lane.put(partial(self._call_in_lane, running, loop))
        rows = sum(part.stop - part.start for part in running.parts)
        running.expected_end = now + self.cost.predict(rows)
        self._running.add(running)

    def _call_in_lane(self, running: _Running, loop: asyncio.AbstractEventLoop) -> None:
        called = call(cast("Predict", self._predict), running.parts)
        hand_over(loop, self._finish, running, called)

    async def _call_remote(self, running: _Running) -> None:
        self._finish(running, await call_async(cast("AsyncPredict", self._predict), running.parts))

    def _finish(self, running: _Running, called: Called) -> None:
        self._running.discard(running)
        if running.lane is not None and not self._closed:
            self._lanes.append(running.lane)
        self._learn(called)
        self._crowd = len(running.jobs) + len(self._queue)
        self._finished_at = time.monotonic()
        for job, part, result in zip(running.jobs, running.parts, called.results, strict=True):
            if not job.over:
                outcome = job.deliver(part.start, result, called.seconds)
                if outcome is not None:
                    self._settle(job, outcome)
        self._dispatch()

    # Ends.

    def _learn(self, called: Called) -> None:
        # One that failed may not have done all its work, but took no less time than this.
        if not called.failed or called.seconds > self.cost.predict(called.rows):
            self.cost.learn(called.rows, called.seconds)
        self._observer.batch(called.rows, called.seconds)

    def _settle(self, job: Job, outcome: Answer | HeadgateError) -> None:
        self._drop(job)
        future = job.future
        if future is None or future.done():
            return
        if isinstance(outcome, HeadgateError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _drop(self, job: Job) -> None:
        """Forget a job, and its rows that nobody will run."""
        job.over = True
        self._live.discard(job)
        if job in self._queue:
            del self._queue[job]
            self._queued_rows -= job.waiting

    def _look_after(self, when: float) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._sweep_at = when
        # The loop's clock is the monotonic one.
        self._sweep_timer = asyncio.get_running_loop().call_at(when, self._sweep)

    def _sweep(self) -> None:
        """Fail what is past its deadline, be it waiting or running."""
        self._sweep_timer = None
        self._sweep_at = math.inf
        now = time.monotonic()
        for job in [job for job in self._live if job.deadline <= now]:
            error = late(now - job.arrived)
            self._count_shed(error)
            self._settle(job, error)
        if self._live:
            soonest = min(job.deadline for job in self._live)
            self._look_after(max(soonest, now + _RESOLUTION_S))

    def _closing(self) -> ServingError:
        return ServingError("the model is being closed", where=self._name)

    def _count_shed(self, trouble: HeadgateError) -> None:
        self._observer.shed("gone" if isinstance(trouble, ClientGoneError) else "deadline")


def _always() -> bool:
    return True


def _too_late(name: str, left_s: float, needed_s: float) -> OverloadError:
    return OverloadError(
        f"an answer takes about {needed_s * 1000:.0f} ms, and {max(left_s, 0) * 1000:.0f} are left",
        where=name,
        remedy="try again later, or allow more time with the header X-Headgate-Deadline-Ms",
        retry_after_s=needed_s,
    )
