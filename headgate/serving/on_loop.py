"""Calls of an engine on the event loop: too cheap for a thread.

A call too cheap to be worth sharing runs at once, and so does one with nobody to share it: while each
request was alone in its turn of the loop. Another runs at the end of the turn in which it came, merged
with all that came in that turn. Nobody waits for anybody.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol, cast

from headgate.errors import HeadgateError
from headgate.serving.cost import CallCost
from headgate.serving.job import Answer, ClientGoneError, Job, late
from headgate.serving.launch.turns import TURNS
from headgate.serving.merging import Called, Part, Predict, call

if TYPE_CHECKING:
    from headgate.predictor import Batch

__all__ = ["INLINE_S", "MERGE_S", "BatchObserver", "OnLoop", "count_call", "count_shed"]

INLINE_S = 1e-3
"""The longest call, seconds, that may hold the event loop."""
MERGE_S = 15e-6
"""Fixed cost of a call, seconds, above which sharing one pays: what merging costs a request."""
_LEARN_EVERY = 16
"""Of calls that run at once, every so many is learned from."""
_TRIES = 16
_TRY_MERGING = 512
"""So many of so many requests are merged although calls seem too cheap: calls that all have as many rows
do not say what of their cost is fixed."""
_ALONE = 8
"""Turns of the loop in a row with one request each, after which the next is taken to be alone too."""


class BatchObserver(Protocol):
    """Whoever counts."""

    def batch(self, rows: int, seconds: float) -> None:
        """The engine was called."""

    def shed(self, cause: str) -> None:
        """A request was refused or dropped: ``queue_full``, ``deadline`` or ``gone``."""


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


class OnLoop:
    """The calls of one engine that run on the event loop."""

    def __init__(
        self, predict: Predict, cost: CallCost, observer: BatchObserver, max_rows: int
    ) -> None:
        """``max_rows`` may be merged into one call."""
        self._predict = predict
        self._cost = cost
        self._observer = observer
        self._max_rows = max_rows
        self._asked = 0
        self._unlearned = 0
        self._turn: _Turn | None = None
        self._turns = TURNS.count
        """Number of the turn in which the last request came."""
        self._alone = 0
        """Turns in a row with one request each."""

    def suits(self, rows: int) -> bool:
        """Whether a request of ``rows`` rows is cheap enough."""
        cost = self._cost
        return (
            cost.known
            and cost.fixed_s + cost.per_row_s * rows <= INLINE_S
            and rows <= self._max_rows
        )

    def share_s(self, rows: int) -> float:
        """What one more such request takes of the event loop, seconds."""
        cost = self._cost
        # What is merged shares the fixed cost.
        return cost.per_row_s * rows + (cost.fixed_s if cost.fixed_s < MERGE_S else 0.0)

    async def submit(
        self, batch: Batch, rows: int, deadline: float, alive: Callable[[], bool] | None
    ) -> Answer:
        """See :meth:`headgate.serving.batcher.Batcher.submit`."""
        self._asked += 1
        if TURNS.count == self._turns:
            self._alone = 0
        else:
            self._turns = TURNS.count
            self._alone += 1
        cheap = self._cost.fixed_s < MERGE_S and self._asked % _TRY_MERGING > _TRIES
        alone = self._alone > _ALONE
        if alone:
            TURNS.expect()
        if cheap or alone:
            return self._at_once(batch, rows, deadline)
        return await self._this_turn(batch, rows, deadline, alive)

    def _at_once(self, batch: Batch, rows: int, deadline: float) -> Answer:
        if time.monotonic() >= deadline:
            self._observer.shed("deadline")
            raise late(0.0)
        called = call(self._predict, [Part(batch, 0, rows, _always)])
        self._unlearned += 1
        if self._unlearned == _LEARN_EVERY or called.seconds > INLINE_S:
            self._unlearned = 0
            if not called.failed or called.seconds > INLINE_S:
                self._cost.learn(rows, called.seconds)
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
            or turn.rows + rows > self._max_rows
            or self._cost.predict(turn.rows + rows) > INLINE_S
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
                count_shed(self._observer, trouble)
                turn.outcomes[job] = trouble
        if not jobs:
            return
        called = call(self._predict, [job.take(job.rows, now) for job in jobs])
        count_call(self._observer, self._cost, called)
        for job, result in zip(jobs, called.results, strict=True):
            outcome = job.deliver(0, result, called.seconds)
            turn.outcomes[job] = cast("Answer | HeadgateError", outcome)


def count_call(
    observer: BatchObserver, cost: CallCost, called: Called, own_s: float | None = None
) -> None:
    """Tell the observer, and learn what calls cost: ``own_s`` where others have made it longer."""
    seconds = called.seconds if own_s is None else own_s
    # One that failed may not have done all its work, but took no less time than this.
    if not called.failed or seconds > cost.predict(called.rows):
        cost.learn(called.rows, seconds)
    observer.batch(called.rows, called.seconds)


def count_shed(observer: BatchObserver, trouble: HeadgateError) -> None:
    """Tell the observer of a request that was dropped."""
    observer.shed("gone" if isinstance(trouble, ClientGoneError) else "deadline")


def _always() -> bool:
    return True
