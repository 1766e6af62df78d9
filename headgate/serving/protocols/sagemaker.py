"""What a SageMaker container takes and gives beyond MLflow's scoring: ``POST /invocations``.

Rows by position, in the order of the model's inputs: JSON lists, JSON lines, CSV without a header,
NumPy's arrays, or ``features`` as the built-in algorithms have them. The answer is in the form that
``Accept`` asks for.

https://docs.aws.amazon.com/sagemaker/latest/dg/cdf-inference.html
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from headgate.errors import InputError
from headgate.predictor import Batch, Outputs, Signature, rows_to_batch
from headgate.serving.http import Head, Headers, NotAcceptableError, check_rows, loads
from headgate.serving.protocols.csv_rows import rows_to_csv
from headgate.serving.protocols.mlflow import Predicted
from headgate.serving.protocols.npy import array_to_npy
from headgate.serving.protocols.tensors import shown
from headgate.serving.surface import Told

__all__ = [
    "CSV",
    "LINES",
    "NPY",
    "TYPES",
    "accepted",
    "answer",
    "lines_to_batch",
    "rows_by_position",
]

CSV = "text/csv"
LINES = "application/jsonlines"
NPY = "application/x-npy"
_JSON = "application/json"
TYPES = {
    _JSON: _JSON,
    CSV: CSV,
    NPY: NPY,
    LINES: LINES,
    "application/x-jsonlines": LINES,
    "application/jsonl": LINES,
    "application/x-ndjson": LINES,
}
"""The types of bodies, by all their names."""
_ACCEPTED = {**TYPES, "application/*": _JSON, "*/*": _JSON, "text/*": CSV}
_HEADERS: dict[str, Headers] = {
    NPY: [(b"content-type", b"application/x-npy")],
    CSV: [(b"content-type", b"text/csv; charset=utf-8")],
    LINES: [(b"content-type", b"application/jsonlines")],
}


def accepted(head: Head, *, single: bool) -> str:
    """The type of answer that is asked for: the best of those there are.

    NumPy's has room for a single output.

    Raises:
        NotAcceptableError: there is none of them.
    """
    value = head.get(b"accept") or b"*/*"
    if value in {b"*/*", b"application/json"}:
        return _JSON
    best, found = 0.0, ""
    for entry in value.decode("latin-1").lower().split(","):
        kind, _, parameters = entry.partition(";")
        quality = _quality(parameters)
        meant = _ACCEPTED.get(kind.strip())
        if quality > best and meant is not None and (single or meant != NPY):
            best, found = quality, meant
    if not found:
        raise NotAcceptableError(
            f"{value[:60].decode('latin-1')!r} is not given",
            where="header Accept",
            remedy=f"ask for {_JSON}, {CSV}, {LINES}{f' or {NPY}' if single else ''}",
        )
    return found


def answer(predicted: Predicted, outputs: Outputs, kind: str) -> bytes | Told:
    """The predictions, one a row, as ``kind``."""
    if kind == NPY and predicted.single is not None:
        return Told(array_to_npy(outputs[predicted.single]), _HEADERS[kind])
    values = predicted(outputs)
    if kind == CSV:
        return Told(rows_to_csv(values), _HEADERS[kind])
    if kind == LINES:
        return Told(b"".join(orjson.dumps(value) + b"\n" for value in values), _HEADERS[kind])
    return b'{"predictions":' + orjson.dumps(values) + b"}"


def lines_to_batch(signature: Signature, body: bytes, max_rows: int) -> Batch:
    """A batch of JSON lines, each a row: an object, a list, or ``{"features": list}``.

    Raises:
        InputError: a line is no JSON, or not what the model takes.
    """
    body = body.rstrip()
    check_rows(body.count(b"\n") + 1, max_rows)
    rows = []
    for index, line in enumerate(body.splitlines()):
        if not line.strip():
            continue
        try:
            rows.append(loads(line))
        except InputError as error:
            raise InputError(error.what, where=f"line {index + 1}", remedy=error.remedy) from None
    return rows_to_batch(signature, rows_by_position(signature, rows), where="lines")


def rows_by_position(signature: Signature, rows: Iterable[Any]) -> list[Any]:
    """The rows with those that are lists, or hold ``features``, as the objects that they mean.

    Raises:
        InputError: a list is shorter or longer than the model's inputs.
    """
    names = [field.name for field in signature.inputs]
    plain = []
    for index, row in enumerate(rows):
        values = _features(row) if "features" not in signature.input_names else row
        if type(values) is not list or not signature.is_table:
            plain.append(values)
        elif len(values) != len(names):
            raise InputError(
                f"{len(values)} values where {len(names)} belong",
                where=f"row {index}",
                remedy=f"send, in this order: {', '.join(names[:40])}",
            )
        else:
            plain.append(dict(zip(names, values, strict=True)))
    return plain


def _features(row: Any) -> Any:
    """The list in ``{"features": list}`` or ``{"data": {"features": {"values": list}}}``."""
    if type(row) is not dict or len(row) != 1:
        return row
    if type(data := row.get("data")) is dict and len(data) == 1 and "features" in data:
        features = data["features"]
        return features["values"] if type(features) is dict and "values" in features else features
    return row.get("features", row)


def _quality(parameters: str) -> float:
    """``q`` of an entry of ``Accept``."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                raise InputError(
                    f"{shown(value.strip())} is no quality",
                    where="header Accept",
                    remedy="send a number from 0 to 1",
                ) from None
    return 1.0
