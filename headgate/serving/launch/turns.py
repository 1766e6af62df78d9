"""How long a request may have waited before it was read.

While the event loop is busy, what arrives waits in the kernel, which tells nobody for how long. But all
that is there is read in the next turn of the loop: it has waited for at most the turn before.
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


class Turns:
    """The turns of the event loop in which bytes are read. Times are of the monotonic clock."""

    __slots__ = ("_reading", "active", "began", "busy_since", "count", "promised_s", "since")

    def __init__(self) -> None:
        self._reading = False
        self.active = 0.0
        """When the loop was last seen at work."""
        self.began = 0.0
        """When the reading of this turn began."""
        self.busy_since = 0.0
        """When the loop was last at rest."""
        self.count = 0
        """Turns so far."""
        self.promised_s = 0.0
        """What the requests that were let in during this turn will take of the loop, seconds."""
        self.since = 0.0
        """What is read now did not arrive before this."""

    def read(self, loop: AbstractEventLoop) -> None:
        """Bytes are about to be read."""
        if not self._reading:
            self.begin(monotonic())
            # What is called soon is called when all that is there has been read.
            loop.call_soon(self.end)

    def begin(self, now: float) -> None:
        """The first bytes of a turn."""
        self._reading = True
        if now - self.active < _GAP_S:
            self.since = self.began
        else:
            self.since = self.busy_since = now
        self.began = now
        self.count += 1
        self.promised_s = 0.0

    def end(self) -> None:
        """The last have been read; now the requests are answered."""
        self._reading = False


TURNS = Turns()
"""Of this process, as the event loop is."""


def noticed(arrived: float, now: float) -> float:
    """``arrived``, or ``now`` where that is too little later to have been a wait."""
    return arrived if now - arrived > _NOTICED_S else now
