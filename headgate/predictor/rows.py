"""Batches as the rows of a JSON request, and predictions of a JSON answer as outputs."""

from __future__ import annotations

import math
from typing import Any

from msgspec.structs import replace

from headgate.errors import InputError
from headgate.predictor.signature import Batch, Outputs, Signature
from headgate.predictor.validation import columns_to_batch

__all__ = ["batch_to_rows", "predictions_to_outputs"]


def batch_to_rows(signature: Signature, batch: Batch) -> list[Any]:
    """The inverse of :func:`headgate.predictor.rows_to_batch`; missing values become null."""
    columns = [[_json(value) for value in batch[field.name].tolist()] for field in signature.inputs]
    if len(columns) == 1 and not signature.is_table:
        return columns[0]
    names = [field.name for field in signature.inputs]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def predictions_to_outputs(signature: Signature, predictions: list[Any], *, rows: int) -> Outputs:
    """What the predictions for so many rows, as the V1 protocol answers them, say.

    Raises:
        InputError: there are more or fewer, or one has not the outputs of ``signature``.
    """
    if len(predictions) != rows:
        raise InputError(
            f"{len(predictions)} predictions for {rows} rows",
            where="predictions",
            remedy="expected one a row",
        )
    fields = signature.outputs
    # JSON has no number that is not finite, so null stands for it.
    answers = tuple(
        replace(field, nullable=field.dtype in ("float32", "float64")) for field in fields
    )
    if len(fields) == 1:
        columns = {fields[0].name: predictions}
    else:
        try:
            columns = {field.name: [row[field.name] for row in predictions] for field in fields}
        except (TypeError, KeyError) as error:
            raise InputError(
                f"no predictions of this model ({type(error).__name__}: {error})",
                where="predictions",
                remedy=f"expected {', '.join(field.name for field in fields)}",
            ) from None
    shape = Signature(inputs=answers, outputs=fields, task=signature.task)
    return columns_to_batch(shape, columns, where="predictions")


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
