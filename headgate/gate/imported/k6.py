"""What k6 writes with ``--out csv`` and ``--out json``: a line for each metric of each request.

Of its metrics, ``http_req_duration`` is the latency: sending, waiting, receiving, and not
connecting. Its time is when the request ended; in CSV that is in whole seconds, unless
``K6_CSV_TIME_FORMAT`` says otherwise. Requests of ``setup()`` and ``teardown()`` do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from headgate.gate.imported.cells import bad_status, clock, moment, number
from headgate.gate.imported.gathered import Requests

__all__ = ["MARKS", "K6Lines", "K6Table"]

MARKS = frozenset(("metric_name", "metric_value", "timestamp"))
"""Columns by which its CSV is known."""
_OUTSIDE = ("::setup", "::teardown")


class _Metrics:
    """The metrics of requests, in the order in which k6 writes them: those of one together."""

    def __init__(self, found: Requests) -> None:
        self.found = found
        self.clock: Callable[[str], float] | None = None
        self.counts = False

    def duration(self, value_ms: float, ended: str, group: str, why: tuple[str, str, str]) -> None:
        """A request: ``why`` is what k6 expected, the status, the error."""
        self.counts = not group.startswith(_OUTSIDE)
        if not self.counts:
            return
        if self.clock is None:
            self.clock = clock(0.0, ended, "timestamp")
        latency_s = value_ms / 1000
        self.found.at_s.append(moment(self.clock, ended, "timestamp") - latency_s)
        self.found.add(latency_s, _cause(*why))

    def failed(self, value: float) -> None:
        """What came of the request before, where its own line does not say."""
        if value and self.counts:
            self.found.fail_last("failed")
        self.counts = False


def _cause(expected: str, status: str, error: str) -> str:
    """Why it failed; empty where it did not. ``expected_response`` is k6's own judgement."""
    if expected == "true" or not (expected or error or (status and bad_status(status))):
        return ""
    return error or (f"HTTP {status}" if status not in {"", "0"} else "no answer")


class K6Table:
    """The CSV."""

    def __init__(self, header: Sequence[str], found: Requests) -> None:
        self.metrics = _Metrics(found)
        self.metric, self.value, self.time, self.expected, self.status, self.error, self.group = (
            header.index(name) if name in header else -1
            for name in (
                "metric_name",
                "metric_value",
                "timestamp",
                "expected_response",
                "status",
                "error",
                "group",
            )
        )

    def row(self, row: Sequence[str]) -> None:
        """One metric of one request."""
        metric = row[self.metric]
        if metric == "http_req_duration":
            why = tuple(
                row[place] if place >= 0 else ""
                for place in (self.expected, self.status, self.error)
            )
            group = row[self.group] if self.group >= 0 else ""
            value_ms = number(row[self.value], "metric_value")
            self.metrics.duration(value_ms, row[self.time], group, (why[0], why[1], why[2]))
        elif metric == "http_req_failed":
            self.metrics.failed(number(row[self.value], "metric_value"))

    def end(self) -> None:
        """Nothing more."""


class _Tags(msgspec.Struct):
    expected_response: str = ""
    status: str = ""
    error: str = ""
    group: str = ""


class _Point(msgspec.Struct):
    time: str
    value: float
    tags: _Tags | None = None


class _Line(msgspec.Struct):
    type: str
    metric: str
    data: msgspec.Raw


class K6Lines:
    """The JSON: a line is a point of a metric, or what is to be known of one."""

    def __init__(self, found: Requests) -> None:
        self.metrics = _Metrics(found)
        self.line_of = msgspec.json.Decoder(_Line)
        self.point_of = msgspec.json.Decoder(_Point)

    def line(self, text: str) -> None:
        """One line; raises msgspec.DecodeError."""
        if "http_req_duration" not in text and "http_req_failed" not in text:
            return
        line = self.line_of.decode(text)
        if line.type != "Point":
            return
        if line.metric == "http_req_duration":
            point = self.point_of.decode(line.data)
            tags = point.tags or _Tags()
            why = (tags.expected_response, tags.status, tags.error)
            value_ms = number(repr(point.value), "data.value")
            self.metrics.duration(value_ms, point.time, tags.group, why)
        elif line.metric == "http_req_failed":
            self.metrics.failed(self.point_of.decode(line.data).value)
