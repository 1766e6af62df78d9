"""The V1 protocol of TensorFlow Serving and KServe: ``instances`` in, ``predictions`` out.

Rows are objects ``{column: value}`` for a table, nested lists for a model of one tensor. A
prediction is a value where the model has one output, else an object ``{output: value}``. JSON has
no NaN and no infinity: in predictions such a number is null. TensorFlow Serving's other way is by
column: ``inputs`` in, ``outputs`` out.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from headgate.errors import HeadgateError, InputError
from headgate.predictor import Batch, Field, Outputs, columns_to_batch, rows_to_batch
from headgate.serving.http import Head, accept_json, check_rows, loads, problem
from headgate.serving.surface import Asked

if TYPE_CHECKING:
    from headgate.predictor import Signature
    from headgate.serving.model import Model

__all__ = [
    "Columns",
    "Rows",
    "columns",
    "list_models",
    "metadata",
    "one_or_many",
    "predictions",
    "status",
]

_KNOWN = {"instances", "signature_name", "parameters"}
_KNOWN_BY_COLUMN = {"inputs", "signature_name", "parameters"}
_REMEDY = 'send {"instances": [row, …]}'
_REMEDY_BY_COLUMN = 'send {"inputs": {input: [value, …]}}'
_TYPES = {
    "bool": "DT_BOOL",
    "uint8": "DT_UINT8",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "string": "DT_STRING",
}


class Rows:
    """Rows in, predictions out. Also what BentoML's typed endpoints speak."""

    accept = staticmethod(accept_json)

    def __init__(self, model: Model, name: str = "v1") -> None:
        """``name`` is the surface's in the metrics."""
        self.name = name
        self._signature = model.signature
        self._max_rows = model.max_rows
        self._single = (
            model.signature.outputs[0].name if len(model.signature.outputs) == 1 else None
        )
        whose = {
            "model_name": model.name,
            "model_version": model.version,
            "release": model.release,
        }
        self._tail = b"," + orjson.dumps(whose)[1:]

    def decode(self, body: bytes, head: Head) -> Asked:
        """See :class:`headgate.serving.surface.Surface`."""
        del head
        return self.read(loads(body))

    def read(self, request: Any) -> Asked:
        """The same of a body whose JSON is read already."""
        if type(request) is not dict:
            raise InputError("the body is no object", where="body", remedy=_REMEDY)
        if "instances" not in request:
            raise InputError("instances is missing", where="body", remedy=_REMEDY)
        if not _KNOWN.issuperset(request):
            extra = next(name for name in request if name not in _KNOWN)
            raise InputError(f"{extra[:60]!r} is unknown", where="body", remedy=_REMEDY)
        return self.take(request["instances"])

    def take(self, rows: Any) -> Asked:
        """The rows, validated."""
        if type(rows) is list:
            check_rows(len(rows), self._max_rows)
        batch = rows_to_batch(self._signature, rows)
        return Asked(batch, len(rows))

    def encode(self, outputs: Outputs, asked: Asked) -> bytes:
        """See :class:`headgate.serving.surface.Surface`."""
        del asked
        return b'{"predictions":' + orjson.dumps(predictions(outputs, self._single)) + self._tail

    def problem(self, error: HeadgateError) -> bytes:
        """See :class:`headgate.serving.surface.Surface`."""
        return problem(error)


class Columns(Rows):
    """The same, and columns in, columns out."""

    def read(self, request: Any) -> Asked:
        """See :class:`Rows`."""
        if type(request) is not dict or "inputs" not in request:
            return super().read(request)
        if not _KNOWN_BY_COLUMN.issuperset(request):
            extra = next(name for name in request if name not in _KNOWN_BY_COLUMN)
            raise InputError(
                f"{extra[:60]!r} is unknown beside inputs", where="body", remedy=_REMEDY_BY_COLUMN
            )
        batch = columns(self._signature, request["inputs"], self._max_rows)
        return Asked(batch, len(next(iter(batch.values()))), "columns")

    def encode(self, outputs: Outputs, asked: Asked) -> bytes:
        """See :class:`Rows`."""
        if asked.details is None:
            return super().encode(outputs, asked)
        told: Any = {name: array.tolist() for name, array in outputs.items()}
        if self._single is not None:
            told = told[self._single]
        return b'{"outputs":' + orjson.dumps(told) + self._tail


def columns(signature: Signature, inputs: Any, max_rows: int) -> Batch:
    """A batch of ``{input: values}``, or of the values of the only input there is.

    The values of a column may be lists of one, as TensorFlow's tensors ``(rows, 1)`` are told.

    Raises:
        InputError: whatever is wrong with them.
    """
    if len(signature.inputs) == 1 and type(inputs) is not dict:
        inputs = {signature.inputs[0].name: inputs}
    if type(inputs) is dict:
        for values in inputs.values():
            if type(values) is list:
                check_rows(len(values), max_rows)
        inputs = {**inputs, **_unwrapped(signature.inputs, inputs)}
    return columns_to_batch(signature, inputs)


def _unwrapped(fields: tuple[Field, ...], inputs: dict[str, Any]) -> dict[str, Any]:
    """The columns that came as lists of lists of one."""
    found = {}
    for field in fields:
        values = inputs.get(field.name)
        if (
            not field.shape
            and type(values) is list
            and values
            and all(type(value) is list and len(value) == 1 for value in values)
        ):
            found[field.name] = [value[0] for value in values]
    return found


def one_or_many(signature: Signature, rows: list[Any]) -> list[Any]:
    """``rows``, or a list of it where it is one row itself: a list of values, or as deep as one."""
    depth = 1 if signature.is_table else len(signature.inputs[0].shape)
    level: Any = rows
    for _ in range(depth + 1):
        if type(level) is dict or (type(level) is list and not level):
            return rows
        if type(level) is not list:
            return [rows]
        level = level[0]
    return rows


def predictions(outputs: Outputs, single: str | None) -> list[Any]:
    """One entry a row: the value of the ``single`` output, else an object of all."""
    if single is not None:
        values: list[Any] = outputs[single].tolist()
        return values
    names = tuple(outputs)
    columns = [array.tolist() for array in outputs.values()]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def list_models(models: Mapping[str, Model]) -> bytes:
    """``GET /v1/models``."""
    return orjson.dumps({"models": list(models)})


def status(model: Model) -> bytes:
    """``GET /v1/models/{name}``, as KServe (``ready``) and TensorFlow Serving have it."""
    trouble = model.whats_wrong()
    state = {"error_code": "UNKNOWN" if trouble else "OK", "error_message": trouble or ""}
    version = {
        "version": model.version,
        "state": "LOADING" if trouble else "AVAILABLE",
        "status": state,
    }
    return orjson.dumps(
        {
            "name": model.name,
            "ready": trouble is None,
            "model_version": model.version,
            "release": model.release,
            "model_version_status": [version],
        }
    )


def metadata(model: Model) -> bytes:
    """``GET /v1/models/{name}/metadata``, as TensorFlow Serving has it."""
    signature = {
        "inputs": {field.name: _tensor(field) for field in model.signature.inputs},
        "outputs": {field.name: _tensor(field) for field in model.signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return orjson.dumps(
        {
            "model_spec": {"name": model.name, "signature_name": "", "version": model.version},
            "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
        }
    )


def _tensor(field: Field) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in (-1, *field.shape)]
    return {
        "dtype": _TYPES[field.dtype],
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
        "name": field.name,
    }
