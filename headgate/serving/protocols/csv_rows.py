"""Rows in CSV: MLflow's, with a header, and SageMaker's, without one.

With a header the columns may come in any order; without, in the order of the model's inputs. A row
of a model of one tensor is its numbers. CSV has no null: a cell is one that pandas, and with it
MLflow, takes for a missing value: empty, ``NA``, ``nan``, ``None``, ``null`` and the like, quoted or not.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from math import isnan, prod
from typing import Any

from headgate.errors import InputError
from headgate.predictor import Batch, Field, Signature, columns_to_batch
from headgate.serving.http import TooLargeError

__all__ = ["MISSING", "csv_to_batch", "flat", "rows_to_csv"]

# It is the process's. How long a body may be is `server.max_body_mb`, whatever its cells.
csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))

_BOOLEANS = {"true": True, "false": False}
MISSING = frozenset(
    {
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    }
)
"""``na_values`` of https://pandas.pydata.org/docs/reference/api/pandas.read_csv.html by default"""


def csv_to_batch(
    signature: Signature, body: bytes, max_rows: int, *, header: bool | None = None
) -> Batch:
    """A batch of the rows in ``body``; ``header`` says whether there is one, None to look.

    Raises:
        InputError: it is no CSV, or not what the model takes.
    """
    names = _names(signature)
    lines: Iterator[list[str]] = _lines(_text(body), max_rows)
    first = next(lines, None)
    if first is None:
        raise InputError("no rows", where="body", remedy="send at least one line")
    order: Sequence[int] = range(len(names))
    width = len(names)
    rows: list[list[str]] = []
    if _is_header(signature, first, names) if header is None else header:
        if signature.is_table:
            order, width = [_find(first, name) for name in names], len(first)
    else:
        lines = chain([first], lines)
    for row in lines:
        if len(rows) == max_rows:
            raise TooLargeError(
                f"more than {max_rows} rows",
                where="body",
                remedy=f"send at most {max_rows} rows at a time",
            )
        if len(row) != width:
            raise InputError(
                f"{len(row)} cells where {width} belong",
                where=f"csv[{len(rows)}]",
                remedy=f"send one for each of: {_some(names)}",
            )
        rows.append(row)
    if not rows:
        raise InputError("no rows", where="csv", remedy="send at least one below the header")
    return _batch(signature, rows, order)


def rows_to_csv(values: list[Any]) -> bytes:
    """A line for each value: itself, or what the lists and objects in it hold; null is empty."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([*flat(value)] for value in values)
    return buffer.getvalue().encode()


def _batch(signature: Signature, rows: list[list[str]], order: Sequence[int]) -> Batch:
    """``order`` says where the cells of each column are."""
    if signature.is_table:
        cells = list(zip(*rows, strict=True))
        columns = {
            field.name: [
                _value(field, cell, f"csv.{field.name}[{index}]")
                for index, cell in enumerate(cells[at])
            ]
            for field, at in zip(signature.inputs, order, strict=True)
        }
        return columns_to_batch(signature, columns, where="csv")
    (field,) = signature.inputs
    values = [
        [
            _value(field, cell, f"csv.{field.name}[{index}][{place}]")
            for place, cell in enumerate(row)
        ]
        for index, row in enumerate(rows)
    ]
    return columns_to_batch(signature, {field.name: _nested(values, field.shape)}, where="csv")


def _names(signature: Signature) -> list[str]:
    """What the cells of a line stand for."""
    if signature.is_table:
        return [field.name for field in signature.inputs]
    if len(signature.inputs) > 1:
        raise InputError(
            "CSV cannot say which cells belong to which of several tensors",
            where="body",
            remedy="send JSON",
        )
    field = signature.inputs[0]
    return [f"{field.name}[{index}]" for index in range(prod(field.shape))]


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"no UTF-8: {error.reason} at byte {error.start}", where="body", remedy="send UTF-8"
        ) from None


def _lines(text: str, most_empty: int) -> Iterator[list[str]]:
    """The lines that are not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    empty = 0
    try:
        for line in reader:
            if line:
                yield line
            elif empty == most_empty:
                raise InputError(
                    f"more than {most_empty} empty lines", where="body", remedy="leave them out"
                )
            else:
                empty += 1
    except csv.Error as error:
        raise InputError(
            f"no CSV: {error} in line {reader.line_num}",
            where="body",
            remedy="separate cells by commas, and quote those with commas or quotes in them",
        ) from None


def _is_header(signature: Signature, first: list[str], names: list[str]) -> bool:
    """Whether a line is a header: one that names the columns, or that holds no numbers."""
    if signature.is_table:
        return not set(names).isdisjoint(first) and not _fits(signature, first)
    if signature.inputs[0].dtype == "string" or MISSING.issuperset(first):
        return False
    return not any(map(_is_number, first))


def _fits(signature: Signature, cells: list[str]) -> bool:
    """Whether a line could be a row: numbers where the model takes numbers."""
    numbers = [
        cell
        for field, cell in zip(signature.inputs, cells, strict=False)
        if field.dtype != "string" and cell
    ]
    return bool(numbers) and all(
        cell in MISSING or _is_number(cell) or cell.lower() in _BOOLEANS for cell in numbers
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _find(header: list[str], name: str) -> int:
    if header.count(name) == 1:
        return header.index(name)
    what = "is missing" if name not in header else "is there twice"
    raise InputError(
        f"column {name[:60]!r} {what}", where="the header of the CSV", remedy="name it once"
    )


def _value(field: Field, cell: str, where: str) -> Any:
    """What a cell says; what it may say is checked with the batch."""
    if cell in MISSING:
        if field.dtype == "string" and not field.nullable:
            raise InputError(
                f"{cell!r} is a missing value in CSV, and null is not allowed",
                where=where,
                remedy="send a text; one that reads like this as JSON",
            )
        return None
    if field.dtype == "string":
        return cell
    if field.dtype == "bool":
        value: Any = _BOOLEANS.get(cell.lower())
    else:
        value = _number(cell)
    if value is None:
        raise InputError(
            f"{cell[:60]!r} is no {field.dtype}",
            where=where,
            remedy="send true or false" if field.dtype == "bool" else "send a number",
        )
    return value


def _number(cell: str) -> int | float | None:
    """The number in a cell, by the rules of CSV rather than Python's: ``1_000`` is none."""
    if "_" in cell or not cell.isascii():
        return None
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        value = float(cell)
    except ValueError:
        return None
    # What is missing is told by now: the other ways to write NaN are none of CSV's.
    return None if isnan(value) else value


def _nested(rows: list[list[Any]], shape: tuple[int, ...]) -> list[Any]:
    """Flat rows as nested lists of ``shape``."""
    for size in reversed(shape[1:]):
        rows = [[row[at : at + size] for at in range(0, len(row), size)] for row in rows]
    return rows


def flat(value: Any) -> Iterator[Any]:
    """The cells of a value: itself, or what the lists and objects in it hold."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        yield value
        return
    for each in value:
        yield from flat(each)


def _some(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
