"""Files that people have, and from which no verdict can come: said with the reason."""

from __future__ import annotations

from pathlib import Path

from headgate.errors import InputError

__all__ = ["refuse"]

_LOCUST = (
    "write a line for each request from Locust's events.request: "
    "start_time, response_time, exception"
)
_OTHERS = "measure with k6, vegeta, JMeter or Locust, or with `headgate gate --url`"
_KNOWN = (
    (
        {"request count", "failure count"},
        "holds Locust's statistics, sums over all requests: there is no sample in it",
        _LOCUST,
    ),
    (
        {"user count", "total request count"},
        "holds the history of Locust's statistics, sums every few seconds: there is no sample in it",
        _LOCUST,
    ),
    (
        {"error", "occurrences"},
        "holds Locust's failures, counted: there is no sample in it",
        _LOCUST,
    ),
    ({"traceback", "nodes"}, "holds Locust's exceptions: there is no sample in it", _LOCUST),
    (
        {"response-time", "dns+dialup"},
        (
            "is from hey, which leaves out every request without an answer: "
            "what drops half of them would look well"
        ),
        _OTHERS,
    ),
    (
        {"request-start", "request-duration"},
        (
            "is from oha, which leaves out every request without an answer: "
            "what drops half of them would look well"
        ),
        _OTHERS,
    ),
)
"""Names in the header, what it is, what to give instead."""


def refuse(path: Path, first: str) -> None:
    """Raise InputError if the first line is that of a file that cannot serve."""
    names = {name.strip().strip('"').lower() for name in first.split(",")}
    for marks, what, remedy in _KNOWN:
        if marks <= names:
            raise InputError(what, where=str(path), remedy=remedy)
    if not first:
        raise InputError("is empty", where=str(path), remedy="give a file with samples")
    if first.startswith("<"):
        remedy = "let JMeter write CSV: jmeter.save.saveservice.output_format=csv"
        raise InputError("is XML", where=str(path), remedy=remedy)
    if first in {"{", "["}:
        remedy = "of k6, give what --out json or --out csv writes, not a summary"
        raise InputError("is one JSON document, no samples by line", where=str(path), remedy=remedy)
