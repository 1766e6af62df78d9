"""What ``vegeta encode`` writes, ``--to csv`` and ``--to json``: times and latencies in nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headgate.gate.imported.cells import bad_status, clock, moment, number
from headgate.gate.imported.gathered import Requests

__all__ = ["VegetaLines", "VegetaTable", "is_vegeta"]


def is_vegeta(row: Sequence[str]) -> bool:
    """Whether this is a line of its CSV, which has no header."""
    return len(row) in {9, 12} and all(cell.isdecimal() for cell in row[:5])


def _cause(status: str, error: str) -> str:
    """Why it failed; empty where it did not."""
    if status in {"", "0"}:
        return error or "no answer"
    return f"HTTP {status}" if bad_status(status) else error


class VegetaTable:
    """The CSV: time, status, latency, bytes out, bytes in, error, and what is of no use here."""

    def __init__(self, found: Requests) -> None:
        self.found = found

    def row(self, row: Sequence[str]) -> None:
        """One request."""
        at_s = number(row[0], "1, the time") * 1e-9
        latency_s = number(row[2], "3, the latency") * 1e-9
        self.found.at_s.append(at_s)
        self.found.add(latency_s, _cause(row[1], row[5]))

    def end(self) -> None:
        """Nothing more."""


class _Hit(msgspec.Struct):
    timestamp: str
    latency: int
    code: int
    error: str = ""


class VegetaLines:
    """The JSON."""

    def __init__(self, found: Requests) -> None:
        self.found = found
        self.hit_of = msgspec.json.Decoder(_Hit)

    def line(self, text: str) -> None:
        """One request; raises msgspec.DecodeError."""
        hit = self.hit_of.decode(text)
        read = clock(0.0, hit.timestamp, "timestamp")
        self.found.at_s.append(moment(read, hit.timestamp, "timestamp"))
        self.found.add(number(str(hit.latency), "latency") * 1e-9, _cause(str(hit.code), hit.error))
