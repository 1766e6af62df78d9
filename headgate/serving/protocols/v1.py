"""The V1 protocol of TensorFlow Serving and KServe: ``instances`` in, ``predictions`` out.

Rows are objects ``{column: value}`` for a table, nested lists for a model of one tensor. A
prediction is a value where the model has one output, else an object ``{output: value}``. JSON has
no NaN and no infinity: in predictions such a number is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from headgate.errors import HeadgateError, InputError
from headgate.predictor import Outputs, rows_to_batch
from headgate.serving.http import check_rows, loads, problem
from headgate.serving.surface import Asked

if TYPE_CHECKING:
    from headgate.serving.model import Model

__all__ = ["Rows", "list_models", "predictions", "status"]

_KNOWN = {"instances", "signature_name", "parameters"}
_REMEDY = 'send {"instances": [row, …]}'


class Rows:
    """Rows in, predictions out. Also what BentoML's typed endpoints speak."""

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

    def decode(self, body: bytes) -> Asked:
        """See :class:`headgate.serving.surface.Surface`."""
        request = loads(body)
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
