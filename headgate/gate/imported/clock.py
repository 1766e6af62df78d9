"""Times as files write them → seconds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

__all__ = ["clock_of", "seconds_of"]

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_EPOCHS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))
"""From this on, a bare number is a Unix time in that unit: in seconds it would be past the year 5000."""


def seconds_of(name: str, bases: frozenset[str]) -> float | None:
    """Seconds in the unit that a column's name ends with; 0 for none; None if it is no such column."""
    if name in bases:
        return 0.0
    base, _, unit = name.rpartition("_")
    return _UNITS.get(unit) if base in bases else None


def clock_of(unit_s: float, first: str) -> Callable[[str], float]:
    """How to read a column of times, from its unit (0 if unknown) and its first value.

    Raises:
        ValueError: the value is neither a number nor an ISO 8601 time.
    """
    try:
        value = abs(float(first))
    except ValueError:
        _iso(first)
        return _iso
    if not unit_s:
        unit_s = next((_UNITS[unit] for least, unit in _EPOCHS if value >= least), 1.0)
    scale = unit_s

    def read(text: str) -> float:
        return float(text) * scale

    return read


def _iso(text: str) -> float:
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp()
