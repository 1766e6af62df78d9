"""The adaptive batcher: every surface of one model in one worker goes through one of these.

A call of the engine takes one of three ways, by what calls were seen to cost:

- A call too cheap to be worth sharing (:data:`~headgate.serving.on_loop.MERGE_S`), or with nobody to
  share it, runs at once, on the event loop.
- A cheap one (:data:`~headgate.serving.on_loop.INLINE_S`) runs on the event loop too, at the end of
  the turn of the loop in which it came, merged with all that came in that turn.
- A dear one waits in a bounded queue for a thread. What gathers while the threads are busy goes
  together. When those just answered are likely to come back at once, and one call costs enough to
  make it pay, the next call waits for them; a request alone never does. Where thread and event loop
  are seen to fight for the interpreter, the call runs on the event loop instead.

Batches must be valid: one that was checked cannot fail others. Should a merged call fail all the
same, its members are run again, each apart.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from headgate.errors import HeadgateError, OverloadError, ServingError
from headgate.serving.cost import CallCost
from headgate.serving.job import Answer, Job, QueueFullError, late
from headgate.serving.lane import Lane, hand_over
from headgate.serving.launch.turns import TURNS
from headgate.serving.merging import AsyncPredict, Called, Part, Predict, call, call_async
from headgate.serving.on_loop import INLINE_S, BatchObserver, OnLoop, count_call, count_shed
from headgate.serving.outlook import Interference, Outlook

if TYPE_CHECKING:
    from headgate.predictor import Batch

__all__ = ["Batcher", "cause_of"]

_MERGE_GAIN = 4.0
"""Waiting for others pays where a call costs this many times one more row."""
_RESOLUTION_S = 5e-3
"""Deadlines are looked after this often at most."""
_SURE = 0.6
"""Share of the time left that an answer may be expected to take; the rest is for the unexpected."""


class _Running:
    """One call in a thread or in another process."""

    __slots__ = ("began", "expected_end", "jobs", "lane", "parts")

    def __init__(self, lane: Lane | None, taken: list[tuple[Job, Part]], began: float) -> None:
        self.lane = lane
        self.jobs = [job for job, _ in taken]
        self.parts = [part for _, part in taken]
        self.began = began
        self.expected_end = began


class Batcher:
    """One model's batches. Every method belongs to the event loop's thread."""

    def __init__(
        self,
        predict: Predict | AsyncPredict,
        *,
        name: str,
        observer: BatchObserver,
        max_batch_rows: int = 256,
        max_queue_rows: int = 32_768,
        target_s: float = math.inf,
        slots: int = 1,
        inline: bool = True,
        interpreted: bool = False,
        alone: bool = True,
    ) -> None:
        """A batcher of one engine; nothing runs yet.

        Args:
            predict: the engine; a coroutine function for one in another process.
            name: of the model, for messages.
            observer: is told of calls and of what was shed.
            max_batch_rows: rows in one call at most; larger requests take several.
            max_queue_rows: rows that may wait; more are refused.
            target_s: latency to keep to when waiting for others, seconds.
            slots: calls in threads, or in other processes, at a time.
            inline: whether cheap calls may run on the event loop.
            interpreted: whether the engine is Python for the most part, so that a thread of it and
                the event loop keep each other waiting for the interpreter.
            alone: whether nobody but those who ask this engine waits for the event loop.
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
        self._on_loop = OnLoop(cast("Predict", predict), self.cost, observer, max_batch_rows)
        self._outlook = Outlook(self.cost, max_rows=max_batch_rows, target_s=target_s, slots=slots)
        self._interference = Interference() if interpreted else None
        self._alone = alone
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
        self._usual_rows = 1.0
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

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer, or a call runs that everybody has given up."""
        return bool(self._live or self._running)

    def on_loop_s(self, rows: int) -> float:
        """What one more request of ``rows`` rows takes of the event loop in calls, seconds."""
        return self._on_loop.share_s(rows) if self._inline and self._on_loop.suits(rows) else 0.0

    def foresee(self, deadline: float, now: float, *, ahead: int = 0) -> OverloadError | None:
        """Why a request that is not parsed yet, of as many rows as most, would be refused, if so.

        ``ahead`` are requests that were let in before it and are not here yet.
        """
        return self._refusal(max(1, round(self._usual_rows * (ahead + 1))), deadline, now)

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
        if self._inline and not self._live and self._on_loop.suits(rows):
            return await self._on_loop.submit(batch, rows, deadline, alive)
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
        self._usual_rows += (rows - self._usual_rows) * 0.05
        refusal = self._refusal(rows, deadline, now)
        if refusal is not None:
            self._observer.shed(cause_of(refusal))
            raise refusal

    def _refusal(self, rows: int, deadline: float, now: float) -> OverloadError | None:
        if not self.busy:
            return None
        wait = self._expected_s(rows, now)
        if self._queued_rows and self._queued_rows + rows > self._max_queue:
            return QueueFullError(
                f"{self._queued_rows} rows wait already, {self._max_queue} may",
                where=self._name,
                remedy="try again later",
                retry_after_s=wait,
            )
        if wait > _SURE * (deadline - now):
            return _too_late(self._name, deadline - now, wait)
        return None

    def _expected_s(self, rows: int, now: float) -> float:
        """Seconds until ``rows`` more rows would be answered."""
        work = self._outlook.work_s(self._queued_rows + rows)
        if len(self._running) < self._slots:
            return work
        # One that is late by some time may well take as long again: it could have hung.
        soonest = min(abs(running.expected_end - now) for running in self._running)
        return soonest + work

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
            if not taken:
                continue
            if self._belongs_here(taken):
                # One for each turn of the loop: others want to be read and answered in between.
                self._run_here(taken, now)
                return
            self._start(taken, now)

    def _belongs_here(self, taken: list[tuple[Job, Part]]) -> bool:
        """Whether the event loop is the best place for a call although some had to wait for it."""
        if not self._inline or self._running or not self.cost.known:
            return False
        seconds = self.cost.predict(sum(part.stop - part.start for _, part in taken))
        if seconds <= INLINE_S:
            # Calls have become cheap, but while there is always somebody who waits, nobody sees.
            return True
        interference = self._interference
        return interference is not None and interference.is_worse(
            seconds, loaded=self._alone and bool(self._queue)
        )

    def _run_here(self, taken: list[tuple[Job, Part]], now: float) -> None:
        running = _Running(None, taken, now)
        called = call(cast("Predict", self._predict), running.parts)
        TURNS.called = time.monotonic()
        if self._interference is not None:
            self._interference.on_loop(failed=called.failed, loaded=bool(self._queue))
        self._finish(running, called)

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
        space = self._outlook.most_rows()
        seconds = self.cost.predict(min(space, self._queued_rows))
        for job in list(self._queue):
            if space == 0:
                break
            trouble = job.trouble(now)
            if trouble is None and job.taken == 0 and self._missed(job, now, seconds):
                trouble = _too_late(self._name, job.deadline - now, seconds)
            if trouble is not None:
                count_shed(self._observer, trouble)
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
            TURNS.threads += 1
            lane.put(partial(self._call_in_lane, running, loop))
        rows = sum(part.stop - part.start for part in running.parts)
        running.expected_end = now + self.cost.predict(rows)
        self._running.add(running)

    def _call_in_lane(self, running: _Running, loop: asyncio.AbstractEventLoop) -> None:
        begun = time.thread_time()
        called = call(cast("Predict", self._predict), running.parts)
        hand_over(loop, self._finish_lane, running, called, time.thread_time() - begun)

    def _finish_lane(self, running: _Running, called: Called, processor_s: float) -> None:
        TURNS.threads -= 1
        TURNS.woken()
        if not self._closed:
            self._lanes.append(cast("Lane", running.lane))
        own_s = called.seconds
        if self._interference is not None and not called.failed:
            expected_s = self.cost.predict(called.rows)
            own_s = self._interference.in_thread(called.seconds, processor_s, expected_s)
        self._finish(running, called, own_s)

    async def _call_remote(self, running: _Running) -> None:
        called = await call_async(cast("AsyncPredict", self._predict), running.parts)
        TURNS.woken()
        self._finish(running, called)

    def _finish(self, running: _Running, called: Called, own_s: float | None = None) -> None:
        self._running.discard(running)
        now = time.monotonic()
        more = self._queued_rows > 0
        self._outlook.ended(called.rows, now, failed=called.failed, more=more)
        count_call(self._observer, self.cost, called, own_s)
        self._crowd = len(running.jobs) + len(self._queue)
        self._finished_at = now
        for job, part, result in zip(running.jobs, running.parts, called.results, strict=True):
            if not job.over:
                outcome = job.deliver(part.start, result, called.seconds)
                if outcome is not None:
                    self._settle(job, outcome)
        if running.lane is None and not self._awaited:
            self._wake()
        else:
            self._dispatch()

    # Ends.

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
            count_shed(self._observer, error)
            self._settle(job, error)
        if self._live:
            soonest = min(job.deadline for job in self._live)
            self._look_after(max(soonest, now + _RESOLUTION_S))

    def _closing(self) -> ServingError:
        return ServingError("the model is being closed", where=self._name)


def cause_of(refusal: OverloadError) -> str:
    """What observers call it."""
    return "queue_full" if isinstance(refusal, QueueFullError) else "deadline"


def _too_late(name: str, left_s: float, needed_s: float) -> OverloadError:
    return OverloadError(
        f"an answer takes about {needed_s * 1000:.0f} ms, and {max(left_s, 0) * 1000:.0f} are left",
        where=name,
        remedy="try again later, or allow more time with the header X-Headgate-Deadline-Ms",
        retry_after_s=needed_s,
    )
