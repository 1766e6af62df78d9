"""What TorchServe's clients speak: ``POST /predictions/{name}`` and ``GET /models``.

A body is a row, which gets its prediction; a list of rows, which gets a list; either may be under
``data``. Rows under ``instances`` get ``predictions``. Rows and predictions are those of V1. All of
it may be in the field ``data`` or ``body`` of a form.

https://docs.pytorch.org/serve/inference_api.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from headgate.errors import HeadgateError, InputError
from headgate.predictor import Outputs, rows_to_batch
from headgate.serving.http import (
    Head,
    MediaTypeError,
    UnknownVersionError,
    accept_json,
    accept_plain,
    check_rows,
    loads,
    meaning,
)
from headgate.serving.protocols.form import content, is_multipart
from headgate.serving.protocols.tensors import shown
from headgate.serving.protocols.v1 import one_or_many, predictions
from headgate.serving.surface import Asked

if TYPE_CHECKING:
    from headgate.serving.model import Model

__all__ = ["Predictions", "describe", "list_models", "problem"]

_TYPES = {
    404: "ModelNotFoundException",
    405: "MethodNotAllowedException",
    429: "ServiceUnavailableException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "ServiceUnavailableException",
}
_REMEDY = 'send a row, a list of rows, {"data": …} or {"instances": [row, …]}'


class Predictions:
    """A row or rows in, a prediction or predictions out."""

    name = "torchserve"

    def __init__(self, model: Model) -> None:
        """The same for every request of ``model``."""
        self._signature = model.signature
        self._max_rows = model.max_rows
        outputs = model.signature.outputs
        self._single = outputs[0].name if len(outputs) == 1 else None

    def accept(self, head: Head) -> None:
        """See :class:`headgate.serving.surface.Surface`."""
        try:
            accept_json(head)
        except MediaTypeError:
            if not is_multipart(head.get(b"content-type", b"")):
                raise
            accept_plain(head)

    def decode(self, body: bytes, head: Head) -> Asked:
        """See :class:`headgate.serving.surface.Surface`."""
        kind = head.get(b"content-type")
        if kind is not None and kind != b"application/json":
            body = content(body, kind)
        request, where, form = loads(body), "body", "many"
        if self._is_envelope(request, "data"):
            request, where = request["data"], "data"
        if self._is_envelope(request, "instances"):
            request, where, form = request["instances"], "instances", "envelope"
        elif type(request) is dict:
            request, form = [request], "one"
        elif type(request) is not list:
            raise InputError(f"{shown(request)} is no row", where=where, remedy=_REMEDY)
        elif (rows := one_or_many(self._signature, request)) is not request:
            request, form = rows, "one"
        if type(request) is list:
            check_rows(len(request), self._max_rows)
        batch = rows_to_batch(self._signature, request, where=where)
        return Asked(batch, len(request), form)

    def encode(self, outputs: Outputs, asked: Asked) -> bytes:
        """See :class:`headgate.serving.surface.Surface`."""
        told = predictions(outputs, self._single)
        if asked.details == "one":
            return orjson.dumps(told[0])
        return orjson.dumps({"predictions": told} if asked.details == "envelope" else told)

    def problem(self, error: HeadgateError) -> bytes:
        """See :class:`headgate.serving.surface.Surface`."""
        return problem(error)

    def _is_envelope(self, request: Any, key: str) -> bool:
        """Whether the rows are under ``key``, which no input of the model is called."""
        return (
            type(request) is dict
            and key in request
            and len(request) == 1
            and key not in self._signature.input_names
        )


def problem(error: HeadgateError) -> bytes:
    """The body of an error."""
    status = meaning(error)[0]
    kind = _TYPES.get(status, "BadRequestException")
    if isinstance(error, UnknownVersionError):
        kind = "ModelVersionNotFoundException"
    return orjson.dumps({"code": status, "type": kind, "message": str(error)})


def list_models(models: Mapping[str, Model]) -> bytes:
    """``GET /models``."""
    listed = [{"modelName": model.name, "modelUrl": _url(model)} for model in models.values()]
    return orjson.dumps({"models": listed})


def describe(model: Model, workers: int) -> bytes:
    """``GET /models/{name}``. Of the workers, it lists the one that answers."""
    serving = model.packaged.config.serving
    worker = {
        "id": str(os.getpid()),
        "status": "READY" if model.whats_wrong() is None else "UNHEALTHY",
        "gpu": model.packaged.wants_gpu,
    }
    return orjson.dumps(
        [
            {
                "modelName": model.name,
                "modelVersion": model.version,
                "modelUrl": _url(model),
                "engine": model.predictor.engine,
                "runtime": "python",
                "minWorkers": workers,
                "maxWorkers": workers,
                "batchSize": serving.max_batch_rows,
                "maxBatchDelay": 0,
                "loadedAtStartup": True,
                "workers": [worker],
            }
        ]
    )


def _url(model: Model) -> str:
    """Where it came from, as MLflow says it."""
    return f"models:/{model.name}/{model.version}"
