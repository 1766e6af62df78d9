"""One request inside the batcher."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from headgate.errors import DeadlineExceededError, HeadgateError, OverloadError, ServingError
from headgate.serving.merging import Part, Result, join

if TYPE_CHECKING:
    import asyncio

    from headgate.predictor import Batch, Outputs

__all__ = ["Answer", "ClientGoneError", "Job", "QueueFullError", "late"]


class Answer(NamedTuple):
    """The outputs of one request, and what they took."""

    outputs: Outputs
    queue_s: float
    """Seconds from its arrival to the engine."""
    inference_s: float
    """Seconds in the engine, those of the requests it was merged with included."""


class ClientGoneError(HeadgateError):
    """Nobody waits for the answer any more."""


class QueueFullError(OverloadError):
    """As many rows wait already as may."""


class Job:
    """Its rows, when it came, when it must be answered, and what is known so far."""

    __slots__ = (
        "_done",
        "_pieces",
        "alive",
        "arrived",
        "batch",
        "deadline",
        "future",
        "inference_s",
        "over",
        "queue_s",
        "rows",
        "taken",
    )

    def __init__(
        self,
        batch: Batch,
        rows: int,
        arrived: float,
        deadline: float,
        alive: Callable[[], bool] | None,
    ) -> None:
        """Times are of the monotonic clock, seconds."""
        self.batch = batch
        self.rows = rows
        self.arrived = arrived
        self.deadline = deadline
        self.alive = alive
        self.future: asyncio.Future[Answer] | None = None
        self.taken = 0
        """Rows given to the engine so far."""
        self.over = False
        """Answered, failed or given up: no more of its rows shall be run."""
        self.queue_s = self.inference_s = 0.0
        self._pieces: dict[int, Outputs] = {}
        self._done = 0

    @property
    def waiting(self) -> int:
        """Rows not yet given to the engine."""
        return self.rows - self.taken

    def take(self, rows: int, now: float) -> Part:
        """The next ``rows`` of it, for the engine."""
        if self.taken == 0:
            self.queue_s = now - self.arrived
        start = self.taken
        self.taken += rows
        return Part(self.batch, start, self.taken, self.wanted)

    def wanted(self) -> bool:
        """Whether its rows are still worth running."""
        return not self.over

    def trouble(self, now: float) -> HeadgateError | None:
        """Why it need not be run any more, if so."""
        if self.alive is not None and not self.alive():
            return ClientGoneError("the client is gone")
        if now >= self.deadline:
            return late(now - self.arrived)
        return None

    def deliver(self, start: int, result: Result, seconds: float) -> Answer | HeadgateError | None:
        """Take in what became of a part; what to answer, or None while rows are missing."""
        if result is None or isinstance(result, HeadgateError):
            return result
        self._pieces[start] = result
        self.inference_s += seconds
        self._done += len(next(iter(result.values())))
        if self._done < self.rows:
            return None
        try:
            outputs = join(self._pieces[start] for start in sorted(self._pieces))
        except ServingError as error:
            return error
        return Answer(outputs, self.queue_s, self.inference_s)


def late(waited_s: float) -> DeadlineExceededError:
    """The error of a request that was not answered in time, so long after it was read."""
    return DeadlineExceededError(
        f"its deadline passed, {waited_s * 1000:.0f} ms after it was read",
        remedy="send fewer rows, or allow more time with the header X-Headgate-Deadline-Ms",
    )
