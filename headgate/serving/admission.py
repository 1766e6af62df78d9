"""Who is let in when more is asked for than can be answered in time. One for each model and surface.

A refusal must cost next to nothing, or refusing takes the time that answers need. So most are given
when the header of a request is complete (``launch/connections.py``): by what waits for the engine, by what
this turn of the event loop has let in already, and by how long the request may have waited itself.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from headgate.errors import InputError, OverloadError
from headgate.serving.batcher import cause_of
from headgate.serving.http import DEADLINE, JSON, deadline_s, error_headers, meaning
from headgate.serving.job import QueueFullError
from headgate.serving.launch.turns import TURNS

if TYPE_CHECKING:
    from headgate.serving.http import Head, Headers
    from headgate.serving.metrics import SurfaceMetrics
    from headgate.serving.model import Model
    from headgate.serving.surface import Surface

__all__ = ["Admission"]

_SOON_S = 5e-3
"""What is done within this is done in time."""
_STALE = 0.25
"""Share of its time that a request may wait for the event loop: it waits again to be answered, and a
new connection twice before it is read."""
_MOST_REFUSALS = 100
_REFUSED = OverloadError(
    "more is asked for than can be answered in time",
    remedy="try again later, or allow more time with the header X-Headgate-Deadline-Ms",
)
_FULL = QueueFullError("as many rows wait already as may", remedy="try again later")


class _Refusal(NamedTuple):
    """What somebody was told, and who may be told the same."""

    turn: int
    """Of the event loop."""
    allowed_s: float
    since: float
    status: int
    told: bytes
    cause: str = ""


class Admission:
    """See :class:`headgate.serving.launch.refusing.Refusing` for its first three methods."""

    def __init__(
        self, model: Model, surface: Surface, counts: SurfaceMetrics, who: Headers
    ) -> None:
        """``who`` are the headers that say who refuses."""
        self._model = model
        self._surface = surface
        self._counts = counts
        self._who = who
        self._refusals: dict[tuple[int, bytes], bytes] = {}
        self._last = _Refusal(turn=-1, allowed_s=0.0, since=0.0, status=0, told=b"")
        self._loop_s = 0.0
        """What one request takes of the event loop, seconds."""
        self._turn = 0.0
        self._let_in = 0
        """Requests of that turn of the event loop that were let in."""

    def pressed(self) -> bool:
        """Whether there may be a reason to refuse anybody."""
        return (
            self._model.batcher.busy
            or TURNS.promised_s > _SOON_S
            or monotonic() - TURNS.since > _SOON_S
        )

    def refusal(self, head: Head, since: float) -> tuple[int, bytes] | None:
        """The answer to a request that cannot be answered in time; it is counted."""
        now = monotonic()
        TURNS.active = now
        try:
            allowed = self.allowed_s(head)
        except InputError:
            return None
        last = self._last
        # Within one turn no call ends: who has no more time than one refused before is refused too.
        if last.turn != TURNS.count or allowed > last.allowed_s or since > last.since:
            refusal = self._foresee(allowed, since, now)
            if refusal is None:
                return None
            last = self._last = self._made(refusal, allowed, since)
        self._model.counts.shed(last.cause)
        self._counts.failed("overload", now - since)
        return last.status, last.told

    def _foresee(self, allowed: float, since: float, now: float) -> OverloadError | None:
        """Why a request cannot be answered in time, if so."""
        waits = now - since + TURNS.promised_s
        if waits > _SOON_S and waits > _STALE * allowed:
            return _REFUSED
        ahead = self._let_in if self._turn == TURNS.began else 0
        return self._model.batcher.foresee(since + allowed, now, ahead=ahead)

    def let_in(self) -> None:
        """One more in this turn."""
        if self._turn != TURNS.began:
            self._turn, self._let_in = TURNS.began, 0
        self._let_in += 1
        TURNS.promised_s += self._loop_s

    def hold(self, deadline: float, now: float) -> None:
        """Look again before the body is parsed, which takes longer than anything before it.

        Raises:
            OverloadError: it cannot be answered by ``deadline``, on the monotonic clock.
        """
        batcher = self._model.batcher
        if batcher.busy and (refusal := batcher.foresee(deadline, now)) is not None:
            self._model.counts.shed(cause_of(refusal))
            raise refusal

    def took(self, loop_s: float) -> None:
        """Learn what a request took of the event loop, seconds."""
        self._loop_s += (loop_s - self._loop_s) * 0.05

    def allowed_s(self, head: Head) -> float:
        """Seconds that a request has.

        Raises:
            InputError: its header says no time.
        """
        allowed = self._model.deadline_s
        return allowed if DEADLINE not in head else deadline_s(head, allowed)

    def _made(self, refusal: OverloadError, allowed: float, since: float) -> _Refusal:
        status, _ = meaning(refusal)
        return _Refusal(
            turn=TURNS.count,
            allowed_s=allowed,
            since=since,
            status=status,
            told=self._told(status, refusal),
            cause=cause_of(refusal),
        )

    def _told(self, status: int, refusal: OverloadError) -> bytes:
        """The answer, after the server's own headers; the same for all that may return then."""
        headers = error_headers(refusal)
        key = (status, headers[0][1])
        told = self._refusals.get(key)
        if told is None:
            # Protocols name the status in the body too, so it tells what the status does.
            body = self._surface.problem(_FULL if isinstance(refusal, QueueFullError) else _REFUSED)
            headers = [JSON, *self._who, *headers, (b"content-length", b"%d" % len(body))]
            told = b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n" + body
            if len(self._refusals) < _MOST_REFUSALS:
                self._refusals[key] = told
        return told
