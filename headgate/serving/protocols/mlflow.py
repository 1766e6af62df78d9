"""What MLflow's scoring server takes and gives: ``POST /invocations``.

The JSON names its form: ``dataframe_split``, ``dataframe_records``, ``instances`` or ``inputs``. As
with MLflow, columns that the model does not know are left out, and so are other keys of the body;
``params`` too, for no model here has a schema of them.
A prediction is what the model's own ``predict`` gives: a classifier's label, a regressor's number.
A torch module's scores are not kept in a release; its probabilities are told, one a class as well.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from headgate.errors import HeadgateError, InputError
from headgate.predictor import Batch, Outputs, Signature, columns_to_batch, rows_to_batch
from headgate.serving.http import check_rows, loads, meaning
from headgate.serving.protocols.tensors import shown
from headgate.serving.protocols.v1 import columns, predictions

if TYPE_CHECKING:
    from headgate.serving.model import Model

__all__ = ["Predicted", "json_to_batch", "loads_with_nan", "problem"]

_CODES = {
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "REQUEST_LIMIT_EXCEEDED",
    499: "CANCELLED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_REMEDY = "send one of: dataframe_split, dataframe_records, instances, inputs"


def json_to_batch(signature: Signature, request: Any, max_rows: int) -> Batch:
    """A batch of what the body says.

    Raises:
        InputError: whatever is wrong with it.
    """
    if type(request) is not dict:
        raise InputError(f"{shown(request)} is no object", where="body", remedy=_REMEDY)
    found = [form for form in _FORMS if form in request]
    if len(found) != 1:
        what = f"{' and '.join(found)} are both there" if found else "no rows are there"
        raise InputError(what, where="body", remedy=_REMEDY)
    params = request.get("params")
    if params is not None and type(params) is not dict:
        raise InputError(
            f"{shown(params)} is no object",
            where="params",
            remedy="send {name: value}, which is overlooked, or leave it out",
        )
    (form,) = found
    return _FORMS[form](signature, request[form], max_rows)


def loads_with_nan(body: bytes) -> Any:
    """What the JSON of ``body`` says, with NaN, as which MLflow's clients send a missing number.

    Raises:
        InputError: it is not JSON for another reason.
    """
    try:
        return loads(body)
    except InputError:
        if b"NaN" not in body:
            raise
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
        raise


class Predicted:
    """Of a model's outputs, what its own ``predict`` gives."""

    def __init__(self, model: Model) -> None:
        """``model`` says what it was before it was packaged."""
        names = [field.name for field in model.signature.outputs]
        self.single = names[0] if len(names) == 1 else None
        """The only output that is told, if it is one."""
        if model.signature.task == "classification":
            scores = model.packaged.manifest.source.get("flavor") == "torch"
            self.single = "probabilities" if scores and "probabilities" in names else "label"

    def __call__(self, outputs: Outputs) -> list[Any]:
        """One entry a row."""
        return predictions(outputs, self.single)


def problem(error: HeadgateError) -> bytes:
    """The body of an error."""
    code = _CODES.get(meaning(error)[0], "BAD_REQUEST")
    return orjson.dumps({"error_code": code, "message": str(error)})


def _split(signature: Signature, split: Any, max_rows: int) -> Batch:
    """``{"columns": [...], "data": [[...], ...]}``, an index aside."""
    where = "dataframe_split"
    if type(split) is not dict or type(split.get("data")) is not list:
        raise InputError(
            f"{shown(split)} is no split frame",
            where=where,
            remedy='send {"columns": [name, …], "data": [[value, …], …]}',
        )
    data, names = split["data"], split.get("columns")
    check_rows(len(data), max_rows)
    if not signature.is_table:
        if len(signature.inputs) > 1:
            raise InputError("a frame holds no tensors", where=where, remedy="send inputs")
        return rows_to_batch(signature, data, where=f"{where}.data")
    if type(names) is not list or not all(type(name) is str for name in names):
        raise InputError(
            f"{shown(names)} are no names", where=f"{where}.columns", remedy="name the columns"
        )
    for index, row in enumerate(data):
        if type(row) is not list or len(row) != len(names):
            what = f"{len(row)} values" if type(row) is list else shown(row)
            raise InputError(
                f"{what} where {len(names)} belong",
                where=f"{where}.data[{index}]",
                remedy="send a value for each of columns",
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"{shown(twice)} is there twice", where=f"{where}.columns", remedy="name it once"
        )
    cells = zip(*data, strict=True) if data else ((),) * len(names)
    given = dict(zip(names, map(list, cells), strict=True))
    return columns_to_batch(signature, _known(signature, given), where=where)


def _records(signature: Signature, rows: Any, max_rows: int) -> Batch:
    """``[{column: value}, …]``."""
    return _rows(signature, rows, max_rows, "dataframe_records")


def _instances(signature: Signature, rows: Any, max_rows: int) -> Batch:
    """Rows: objects, or nested lists for a model of one tensor."""
    return _rows(signature, rows, max_rows, "instances")


def _inputs(signature: Signature, inputs: Any, max_rows: int) -> Batch:
    """Columns, or rows; ``{column: value}`` is one row."""
    if type(inputs) is list and not (inputs and type(inputs[0]) is not dict):
        return _rows(signature, inputs, max_rows, "inputs")
    if type(inputs) is dict:
        inputs = _known(signature, inputs)
        if signature.is_table and not any(type(value) is list for value in inputs.values()):
            inputs = {name: [value] for name, value in inputs.items()}
    return columns(signature, inputs, max_rows)


def _rows(signature: Signature, rows: Any, max_rows: int, where: str) -> Batch:
    if type(rows) is list:
        check_rows(len(rows), max_rows)
        rows = [_known(signature, row) if type(row) is dict else row for row in rows]
    return rows_to_batch(signature, rows, where=where)


def _known(signature: Signature, given: dict[str, Any]) -> dict[str, Any]:
    """``given`` without what the model does not know."""
    names = signature.input_names
    if given.keys() <= names:
        return given
    return {name: value for name, value in given.items() if name in names}


_FORMS: dict[str, Callable[[Signature, Any, int], Batch]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}
