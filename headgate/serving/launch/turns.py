"""The turns of the event loop: how long a request may have waited before it was read, and what follows.

While the event loop is busy, what arrives waits in the kernel, which tells nobody for how long. But all
that is there is read in the next turn of the loop: it has waited for at most the turn before.

A client that asks one thing after the other is waited for awake, for a moment: going to sleep and being
woken up takes about as long as a small request does.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from time import monotonic

__all__ = ["ARRIVED", "TURNS", "Turns", "noticed"]

ARRIVED = "headgate.arrived"
"""Key of a request's scope: when it may have arrived, seconds of the monotonic clock."""
_GAP_S = 2e-3
"""A loop that did nothing for longer than this was at rest."""
_NOTICED_S = 2e-3
"""A shorter wait is none."""
_FOLLOWS_S = 150e-6
"""A request that usually comes within this after the last answer is waited for awake,"""
_AWAKE_S = 300e-6
"""for so long at most."""
_LONGEST_GAP_S = 1e-3
"""Longer gaps count as this: one shows for some ten requests."""
_LATEST = 0.1
"""Weight of the latest gap."""


class Turns:
    """The turns of the event loop in which bytes are read. Times are of the monotonic clock."""

    __slots__ = (
        "_ended",
        "_gap_s",
        "_loop",
        "_reading",
        "_until",
        "active",
        "began",
        "busy_since",
        "called",
        "count",
        "promised_s",
        "since",
        "threads",
    )

    def __init__(self) -> None:
        self._gap_s = _LONGEST_GAP_S
        self._loop: AbstractEventLoop | None = None
        self._ended = 0.0
        self._reading = False
        self._until = 0.0
        self.active = 0.0
        """When the loop was last seen at work."""
        self.began = 0.0
        """When the reading of this turn began."""
        self.busy_since = 0.0
        """When the loop was last at rest."""
        self.called = 0.0
        """When the last call of an engine on the loop was over."""
        self.count = 0
        """Turns so far."""
        self.promised_s = 0.0
        """What the requests that were let in during this turn will take of the loop, seconds."""
        self.since = 0.0
        """What is read now did not arrive before this."""
        self.threads = 0
        """Calls of engines that run in threads now."""

    def read(self, loop: AbstractEventLoop) -> None:
        """Bytes are about to be read."""
        if not self._reading:
            self._loop = loop
            self.begin(monotonic())
            # What is called soon is called when all that is there has been read.
            loop.call_soon(self.end)

    def begin(self, now: float) -> None:
        """The first bytes of a turn."""
        self._reading = True
        gap = now - self.active
        self._gap_s += (min(gap, _LONGEST_GAP_S) - self._gap_s) * _LATEST
        if gap < _GAP_S:
            self.since = self.began
        else:
            self.since = self.busy_since = now
        self.began = now
        self.count += 1
        self.promised_s = 0.0

    def woken(self) -> None:
        """A thread is done. If that woke the loop up, it has looked at its sockets too."""
        now = monotonic()
        # A loop that was at work looked at them before that work.
        if not self._reading and now - max(self._ended, self.active, self.called) > _GAP_S:
            self.began = now

    def end(self) -> None:
        """The last have been read; now the requests are answered."""
        self._reading = False
        self._ended = monotonic()

    def expect(self) -> None:
        """Who is answered now asks alone and on the loop: stay awake if the next usually comes at once."""
        # An engine in a thread wants the interpreter, and the core, more.
        if self._gap_s < _FOLLOWS_S and not self.threads and self._loop is not None:
            self._until = 0.0
            self._loop.call_soon(self._look, self._loop, self.count)

    def _look(self, loop: AbstractEventLoop, count: int) -> None:
        """Have the loop look at its sockets once more before it sleeps, unless something came."""
        if self.count != count:
            return
        now = monotonic()
        if self._until == 0.0:
            self._until = now + _AWAKE_S
        if now < self._until:
            loop.call_soon(self._look, loop, count)


TURNS = Turns()
"""Of this process, as the event loop is."""


def noticed(arrived: float, now: float) -> float:
    """``arrived``, or ``now`` where that is too little later to have been a wait."""
    return arrived if now - arrived > _NOTICED_S else now
