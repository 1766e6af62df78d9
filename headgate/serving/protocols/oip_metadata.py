"""What a server and its models say of themselves in the Open Inference Protocol.

With Triton's extensions: the model's configuration, and the repository, which shows what is loaded
and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from headgate.errors import InputError
from headgate.predictor import Field
from headgate.serving.http import loads
from headgate.serving.protocols.tensors import DATATYPES, shown

if TYPE_CHECKING:
    from headgate.serving.model import Model

__all__ = ["change", "config", "index", "list_models", "metadata", "server"]

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository")
_BYTES = "STRING"
"""What a model's configuration calls BYTES."""


def server(release: str, models: Mapping[str, Model]) -> bytes:
    """``GET /v2``."""
    return orjson.dumps(
        {
            "name": "headgate",
            "version": release,
            "extensions": EXTENSIONS,
            "parameters": {"models": ",".join(models)},
        }
    )


def list_models(models: Mapping[str, Model]) -> bytes:
    """``GET /v2/models``, as KServe has it."""
    return orjson.dumps({"models": list(models)})


def metadata(model: Model) -> bytes:
    """``GET /v2/models/{name}``."""
    signature = model.signature
    return orjson.dumps(
        {
            "name": model.name,
            "versions": [model.version],
            "platform": _platform(model),
            "inputs": [_described(field) for field in signature.inputs],
            "outputs": [_described(field) for field in signature.outputs],
            "parameters": {"release": model.release},
        }
    )


def config(model: Model) -> bytes:
    """``GET /v2/models/{name}/config``. Rows are the first dimension, not a batch of Triton's."""
    signature = model.signature
    return orjson.dumps(
        {
            "name": model.name,
            "platform": _platform(model),
            "backend": "headgate",
            "max_batch_size": 0,
            "input": [_configured(field) for field in signature.inputs],
            "output": [_configured(field) for field in signature.outputs],
        }
    )


def index(models: Mapping[str, Model], body: bytes) -> bytes:
    """``POST /v2/repository/index``: every model, or with ``{"ready": true}`` those that are.

    Raises:
        InputError: the body is neither empty nor such an object.
    """
    request = loads(body) if body else {}
    ready = request.get("ready", False) if type(request) is dict else None
    if type(ready) is not bool:
        raise InputError(
            f"{shown(request)} is not understood", where="body", remedy='send {} or {"ready": true}'
        )
    listed = []
    for model in models.values():
        trouble = model.whats_wrong()
        state = "UNAVAILABLE" if trouble else "READY"
        if trouble is None or not ready:
            listed.append(
                {
                    "name": model.name,
                    "version": model.version,
                    "state": state,
                    "reason": trouble or "",
                }
            )
    return orjson.dumps(listed)


def change(model: Model, body: bytes) -> bytes:
    """``POST /v2/repository/models/{name}/load`` and ``…/unload``.

    Raises:
        InputError: always.
    """
    del body
    raise InputError(
        f"release {model.release} is immutable: {model.name} version {model.version} stays loaded",
        where=model.name,
        remedy="build another release and roll it out: `headgate rollout`",
    )


def _platform(model: Model) -> str:
    return f"headgate_{model.predictor.engine}"


def _described(field: Field) -> dict[str, Any]:
    return {"name": field.name, "datatype": DATATYPES[field.dtype], "shape": [-1, *field.shape]}


def _configured(field: Field) -> dict[str, Any]:
    kind = DATATYPES[field.dtype] if field.dtype != "string" else _BYTES
    return {"name": field.name, "data_type": f"TYPE_{kind}", "dims": [-1, *field.shape]}
