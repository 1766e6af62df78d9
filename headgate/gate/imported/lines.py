"""A JSON document in each line: whose they are, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TextIO

import msgspec

from headgate.errors import InputError
from headgate.gate.imported.cells import Wrong
from headgate.gate.imported.gathered import Requests
from headgate.gate.imported.k6 import K6Lines
from headgate.gate.imported.vegeta import VegetaLines

__all__ = ["read_lines"]


class _Lines(Protocol):
    def line(self, text: str) -> None: ...


def read_lines(path: Path, stream: TextIO) -> Requests:
    """Every request of a file of JSON lines; raises :class:`InputError`."""
    found = Requests()
    lines: _Lines | None = None
    for count, text in enumerate(stream, 1):
        if not text.strip():
            continue
        try:
            if lines is None:
                lines = _lines(path, text, found)
            lines.line(text)
        except Wrong as wrong:
            raise wrong.at(path, count) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise Wrong(f"cannot be read: {error}").at(path, count) from None
    if not found.ok and isinstance(lines, K6Lines):
        raise InputError(
            "has no http_req_duration",
            where=str(path),
            remedy="give what a k6 test that sends HTTP requests has written",
        )
    return found


def _lines(path: Path, first: str, found: Requests) -> _Lines:
    document = msgspec.json.decode(first)
    if isinstance(document, dict):
        if {"type", "metric", "data"} <= set(document):
            return K6Lines(found)
        if {"timestamp", "latency", "code"} <= set(document):
            return VegetaLines(found)
    known = ", ".join(sorted(document))[:300] if isinstance(document, dict) else "no object"
    raise InputError(
        f"is JSON of neither k6 nor vegeta; its first line has: {known}",
        where=str(path),
        remedy="give it as CSV, with a column latency_ms",
    )
