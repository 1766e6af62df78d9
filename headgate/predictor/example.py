"""A row that a model takes, to show: a real one where any travels with it, else one made up."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from headgate.predictor.reference import Reference
from headgate.predictor.rows import batch_to_rows
from headgate.predictor.signature import Array, Batch, Field, Outputs, Signature

__all__ = ["Example", "example", "shortest"]

_LOOKED_AT = 1000
_MADE_UP: dict[str, Any] = {"bool": True, "string": "a", "float32": 0.5, "float64": 0.5}


class Example(NamedTuple):
    """One row."""

    batch: Batch
    row: Any
    """The same as V1 has it in JSON: an object of columns, or nested lists."""
    outputs: Outputs | None
    """What the model predicts for it; None where that is not known."""


def example(signature: Signature, reference: Reference | None) -> Example:
    """Of the first reference rows the one with the fewest missing values, else one made up."""
    if reference is None or reference.rows == 0:
        batch = {field.name: _made_up(field) for field in signature.inputs}
        return Example(batch, _row(signature, batch), None)
    head = reference.take(slice(0, _LOOKED_AT)).inputs
    missing = np.sum(
        [_missing(array).reshape(len(array), -1).sum(axis=1) for array in head.values()], axis=0
    )
    best = int(np.argmin(missing))
    found = reference.take(slice(best, best + 1))
    return Example(found.inputs, _row(signature, found.inputs), found.outputs)


def _row(signature: Signature, batch: Batch) -> Any:
    [row] = batch_to_rows(signature, batch)
    if type(row) is not dict:
        return shortest(row, signature.inputs[0])
    return {field.name: shortest(row[field.name], field) for field in signature.inputs}


def shortest(value: Any, field: Field) -> Any:
    """Numbers as a person would write them in JSON: the shortest that is the same float32."""
    if isinstance(value, list):
        return [shortest(each, field) for each in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        short = float(str(np.float32(value))) if field.dtype == "float32" else value
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    return value


def _made_up(field: Field) -> Array:
    value = _MADE_UP.get(field.dtype, 1)
    return np.full((1, *field.shape), value, dtype=field.numpy)


def _missing(array: Array) -> Array:
    if array.dtype == object:
        return np.array([value is None for value in array.reshape(-1)]).reshape(array.shape)
    # An infinite number is none that JSON knows.
    return ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)
