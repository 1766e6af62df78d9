"""CSV: which kind it is, and its rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from headgate.errors import InputError
from headgate.gate.imported.cells import Wrong
from headgate.gate.imported.gathered import Requests
from headgate.gate.imported.k6 import MARKS, K6Table
from headgate.gate.imported.plain import PlainTable
from headgate.gate.imported.vegeta import VegetaTable, is_vegeta

__all__ = ["read_table"]

_CELL = 1 << 24
"""Characters of a cell at most: a body may be in it."""


class _Table(Protocol):
    def row(self, row: Sequence[str]) -> None: ...

    def end(self) -> None: ...


def read_table(path: Path, stream: TextIO) -> Requests:
    """Every request of a CSV file; raises :class:`InputError`."""
    found = Requests()
    before = 0
    start = ""
    while not start.strip():
        start = stream.readline()
        before += 1
    separator = max(",;\t", key=start.count)
    with _long_cells():
        rows = csv.reader(stream, delimiter=separator)
        try:
            header = next(csv.reader([start], delimiter=separator))
            table = _table(path, header, found)
            for row in filter(None, rows):
                _hold_columns(row, header)
                table.row(row)
        except csv.Error as error:
            raise Wrong(str(error)).at(path, before + rows.line_num) from None
        except Wrong as wrong:
            raise wrong.at(path, before + rows.line_num) from None
    table.end()
    if not found.ok and isinstance(table, K6Table):
        raise InputError(
            "has no http_req_duration",
            where=str(path),
            remedy="give what a k6 test that sends HTTP requests has written",
        )
    return found


def _hold_columns(row: Sequence[str], header: Sequence[str]) -> None:
    if len(row) != len(header):
        raise Wrong(f"has {len(row)} columns, and the first line {len(header)}")


def _table(path: Path, header: list[str], found: Requests) -> _Table:
    if set(header) >= MARKS:
        return K6Table(header, found)
    if is_vegeta(header):
        vegeta = VegetaTable(found)
        vegeta.row(header)
        return vegeta
    return PlainTable(path, header, found)


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)
