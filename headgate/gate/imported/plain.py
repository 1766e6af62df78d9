"""CSV with columns by name: JMeter's JTL, request logs written from Locust, and everybody's own."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from headgate.errors import InputError
from headgate.gate.imported.cells import Wrong, bad_status, clock, moment, whole, word
from headgate.gate.imported.clock import seconds_of
from headgate.gate.imported.gathered import Requests

__all__ = ["PlainTable", "called"]

_LATENCIES = tuple(
    frozenset((each,)) for each in ("elapsed", "latency", "duration", "response_time")
)
"""JMeter's ``elapsed`` before its ``Latency``, which is the time to the first byte."""
_TIMES = frozenset(("sent", "timestamp", "time", "start", "start_time", "offset"))
_WORDS = ("ok", "success", "result")
_STATUS = ("status", "status_code", "responsecode", "code")
_TROUBLE = ("error", "exception", "failuremessage")
_NOTHING = frozenset(("", "none", "null", "nil", "nan", "-"))
_PARENT = "Number of samples in transaction"
"""JMeter's line for a group of requests, each of which has a line of its own."""


def called(header: Sequence[str]) -> list[str]:
    """The names of columns, however they are written: ``Response Time (ms)`` is response_time_ms."""
    return [re.sub(r"\W+", "_", name.strip().lower()).strip("_") for name in header]


class PlainTable:
    """A line for each request."""

    def __init__(self, path: Path, header: Sequence[str], found: Requests) -> None:
        self.path, self.header, self.found = path, list(header), found
        names = called(header)
        self.latency, self.unit_s, self.supposed = _latency(path, names)
        self.time, self.time_unit_s = _time(names)
        self.clock: Callable[[str], float] | None = None
        self.word, self.status, self.trouble, self.message, self.block = (
            next((names.index(name) for name in wanted if name in names), -1)
            for wanted in (_WORDS, _STATUS, _TROUBLE, ("responsemessage",), ("block",))
        )
        if self.block >= 0:
            found.block = array("q")

    def row(self, row: Sequence[str]) -> None:
        """One request."""
        if self.message >= 0 and row[self.message].startswith(_PARENT):
            return
        if row == self.header:
            return  # of the next of several files in one
        cause = self._cause(row)
        latency_s = math.inf if cause else self._latency_s(row[self.latency])
        if self.time >= 0:
            text, column = row[self.time], self.header[self.time]
            if self.clock is None:
                self.clock = clock(self.time_unit_s, text, column)
            self.found.at_s.append(moment(self.clock, text, column))
        if self.found.block is not None:
            self.found.block.append(whole(row[self.block], self.header[self.block]))
        self.found.add(latency_s, cause)

    def _latency_s(self, text: str) -> float:
        try:
            latency_s = float(text) * self.unit_s
        except ValueError:
            raise Wrong("is no number", text, self.header[self.latency]) from None
        if not 0 <= latency_s < math.inf:
            raise Wrong("is no latency", text, self.header[self.latency])
        return latency_s

    def _cause(self, row: Sequence[str]) -> str:
        """Why it failed; empty where it did not. A word decides, else the status and the error."""
        status = row[self.status].strip().removesuffix(".0") if self.status >= 0 else ""
        trouble = row[self.trouble].strip() if self.trouble >= 0 else ""
        if trouble.lower() in _NOTHING:
            trouble = ""
        numeric = status.isdecimal()
        if self.word >= 0:
            right = word(row[self.word], self.header[self.word])
        elif self.status >= 0 and not numeric and status:
            right = word(status, self.header[self.status]) and not trouble
        else:
            answered = self.status < 0 or not bad_status(status)
            right = answered and not trouble
        if right:
            return ""
        if numeric and status != "0" and bad_status(status):
            return f"HTTP {status}"
        return trouble or ("no answer" if numeric or not status else status)

    def end(self) -> None:
        """Refuse a unit that is more likely another one.

        Raises:
            InputError: a latency without a unit would be below a millisecond, half of the time.
        """
        if not self.supposed or not self.found.ok:
            return
        ok = np.frombuffer(self.found.ok, dtype=np.bool_)
        answered = np.frombuffer(self.found.latency_s)[ok]
        if not len(answered) or (middle := 1000 * float(np.median(answered))) >= 1:
            return
        name = self.header[self.latency]
        raise InputError(
            f"half of it is below {middle:.3g}: milliseconds, or seconds?",
            where=f"{self.path}, column {name}",
            remedy=f"name it {name}_ms or {name}_s",
        )


def _latency(path: Path, names: list[str]) -> tuple[int, float, bool]:
    """Which column, seconds in its unit, and whether that is only supposed."""
    for bases in _LATENCIES:
        for index, name in enumerate(names):
            unit_s = seconds_of(name, bases)
            if unit_s is not None:
                supposed = not unit_s and name in {"latency", "duration"}
                return index, unit_s or 1e-3, supposed
    raise InputError(
        f"no column holds a latency; there are: {', '.join(names)[:300]}",
        where=f"{path}, line 1",
        remedy="call one latency_ms or latency_s",
    )


def _time(names: list[str]) -> tuple[int, float]:
    for index, name in enumerate(names):
        unit_s = seconds_of(name, _TIMES)
        if unit_s is not None:
            return index, unit_s
    return -1, 0.0
