"""What is to be expected of the calls to come, beyond what one of them costs."""

from __future__ import annotations

import math

from headgate.serving.cost import CallCost

__all__ = ["Interference", "Outlook"]

_HOLD_S = 20e-3
"""The longest call, seconds, that may hold the event loop because it would do so from a thread too."""
_HOLD_LOADED_S = 0.1
"""The same while more wait than one call takes: then everybody waits for it anyway."""
_STRETCHED = 1.3
"""A call that takes this many times its processor time in a thread waits for the interpreter."""
_GROWS = 1.1
"""Times what was expected that a call in a thread counts as at most, unless the processor was busy for longer."""
_FORGET = 0.99
"""How much of that is still believed after a call on the event loop, which says nothing of it."""
_CALL_SHARE = 0.5
"""Of the latency to keep to, what one call may take: a request may have to wait for another's."""
_WORTH = 2.0
"""Times its fixed cost that a call may take at least: shorter ones do little else than begin and end."""
_FEW_ROWS = 64
"""So many may always go together."""
_LATEST = 0.2
"""Weight of the latest observation."""
_SLOWEST = 10.0
"""A longer gap between two calls says nothing of those to come."""


class Outlook:
    """How many rows go together, and how long those who wait will wait."""

    def __init__(self, cost: CallCost, *, max_rows: int, target_s: float, slots: int) -> None:
        """See :class:`headgate.serving.batcher.Batcher`."""
        self._cost = cost
        self._max_rows = max_rows
        self._target_s = target_s
        self._slots = slots
        self._pace = 1.0
        """Time from one call's end to the next one's, while more wait, in expected calls. The event
        loop has other things to do in between."""
        self._backlog = False
        self._ended = -math.inf

    def most_rows(self) -> int:
        """Rows that may go together for the call to be no longer than it may be."""
        cost = self._cost
        if cost.per_row_s == 0.0 or math.isinf(self._target_s):
            return self._max_rows
        longest_s = max(self._target_s * _CALL_SHARE, _WORTH * cost.fixed_s)
        fit = int((longest_s - cost.fixed_s) / cost.per_row_s)
        return min(self._max_rows, max(_FEW_ROWS, fit))

    def work_s(self, rows: int) -> float:
        """Seconds until ``rows`` rows are done from when a call can begin."""
        calls = -(-rows // self.most_rows())
        return (self._cost.fixed_s * calls + self._cost.per_row_s * rows) * self._pace / self._slots

    def ended(self, rows: int, now: float, *, failed: bool, more: bool) -> None:
        """A call of ``rows`` rows ended; ``more`` wait. Before its cost is learned."""
        expected = self._cost.predict(rows)
        if self._backlog and not failed and expected > 0.0:
            took = (now - self._ended) * self._slots / expected
            self._pace += (min(max(took, 1.0), _SLOWEST) - self._pace) * _LATEST
        self._backlog = more
        self._ended = now


class Interference:
    """Whether a thread of an engine and the event loop keep each other waiting for the interpreter.

    Each releases it only at certain points, and the other then has it for up to a millisecond. Where
    that happens, calls on the event loop are over sooner, and so is everything else.
    """

    def __init__(self) -> None:
        self.stretch = 1.0
        """Time of a call in a thread over its processor time."""

    def is_worse(self, seconds: float, *, loaded: bool) -> bool:
        """Than a call of so many seconds on the event loop; ``loaded`` where more wait."""
        return self.stretch > _STRETCHED and seconds < (_HOLD_LOADED_S if loaded else _HOLD_S)

    def in_thread(self, seconds: float, processor_s: float, expected_s: float) -> float:
        """A call in a thread took that; returns what it would have taken undisturbed.

        It may have waited for something else than the interpreter, for threads of its own say: so that
        is no less than was ``expected_s``, where anything was, and grows with every such call.
        """
        if processor_s <= 0.0:
            return seconds
        self.stretch = (self.stretch + seconds / processor_s) / 2
        if expected_s <= 0.0:
            return seconds
        return min(seconds, _GROWS * max(processor_s, expected_s))

    def on_loop(self, *, failed: bool, loaded: bool) -> None:
        """A call was made on the event loop, which says nothing of threads."""
        # After a failure each request is run by itself: too long for the event loop.
        if failed:
            self.stretch = 1.0
        elif not loaded:  # to try a thread would be dear now
            self.stretch = 1.0 + (self.stretch - 1.0) * _FORGET
