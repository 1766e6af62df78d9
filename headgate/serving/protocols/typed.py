"""BentoML's typed endpoints, one a model, their schemas made from the model's signature.

``POST /flight_delay`` with ``{"instances": [row, …]}``. Requests take the hot path, with the same
checks and answers as V1. What is described here is shown in ``/docs.json`` and ``/schema.json``, and
is what those checks accept; BentoML itself parses only what a service asks of itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from _bentoml_sdk.io_models import IODescriptor
from _bentoml_sdk.method import APIMethod
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, create_model
from starlette.responses import Response

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

    from headgate.predictor import Field as Spec
    from headgate.predictor import Signature
    from headgate.serving.bundle import PackagedModel

__all__ = ["typed_endpoint"]

Ask = Callable[[Any, str, list[Any]], Awaitable[tuple[int, bytes, list[tuple[bytes, bytes]]]]]
"""Of the service's instance, the model's name and rows: status, body and headers of the answer."""

_RANGES = {"uint8": (0, 2**8 - 1), "int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_FLOATS = {"float32", "float64"}
_OURS = ("_", "model_")
"""How pydantic's own names begin."""
_LARGEST = float(np.finfo(np.float32).max)
"""Larger numbers are refused whatever the column's type: see headgate/predictor/validation.py."""


class _Strict(BaseModel):
    """Nothing is coerced, nothing is ignored."""

    model_config = ConfigDict(strict=True, extra="forbid")


class _StrictInput(IODescriptor):  # type: ignore[misc]
    model_config = ConfigDict(strict=True, extra="forbid")


class _Nullable:
    """Null in a way that survives: of a schema's ``anyOf`` BentoML shows the first alone."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        shown: dict[str, Any] = handler(schema)
        if "anyOf" in shown:
            kind, null = shown.pop("anyOf")
            shown = {**kind, **shown, "type": [kind["type"], null["type"]]}
        return shown


def typed_endpoint(model: PackagedModel, ask: Ask) -> APIMethod[..., Any]:
    """The endpoint of ``model``; ``ask`` answers what comes through BentoML."""
    signature = model.manifest.signature
    row: Any = _row(signature, model.method)
    prediction: Any = _prediction(signature, model.method)
    most = model.config.serving.max_request_rows
    rows: Any = Annotated[list[row], Field(min_length=1, max_length=most)]
    told: Any = list[prediction]
    name = model.name

    async def method(self: Any, instances: Sequence[Any]) -> Response:
        plain = [
            row.model_dump(by_alias=True) if isinstance(row, BaseModel) else row
            for row in instances
        ]
        status, body, headers = await ask(self, name, plain)
        shown = {key.decode(): value.decode() for key, value in headers}
        return Response(body, status, shown, media_type="application/json")

    method.__name__ = method.__qualname__ = model.method
    method.__doc__ = model.config.description or f"Predictions of {name}."
    return APIMethod(
        func=method,
        route=f"/{model.method}",
        input_spec=create_model("Input", __base__=_StrictInput, instances=(rows, ...)),
        output_spec=create_model(
            "Output",
            __base__=IODescriptor,
            predictions=(told, ...),
            model_name=(str, ...),
            model_version=(str, ...),
            release=(str, ...),
        ),
    )


def _row(signature: Signature, method: str) -> Any:
    inputs = signature.inputs
    if len(inputs) == 1 and inputs[0].shape:
        return _type(inputs[0])
    fields: dict[str, Any] = {field.name: (_type(field), ...) for field in inputs}
    return _model(f"{method}__Row", fields)


def _prediction(signature: Signature, method: str) -> Any:
    # What is not finite is told as null; a classifier's probabilities always are.
    null = signature.task != "classification"
    outputs = [
        replace(field, nullable=null and field.dtype in _FLOATS) for field in signature.outputs
    ]
    if len(outputs) == 1:
        return _type(outputs[0], bounded=False)
    fields: dict[str, Any] = {}
    for field in outputs:
        kind = _type(field, bounded=False)
        if field.name == "label" and signature.classes:
            kind = Literal[tuple(signature.classes)]
        fields[field.name] = (kind, ...)
    return _model(f"{method}__Prediction", fields)


def _model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    """A model whose fields may have any name: the odd ones get an alias."""
    plain = {}
    for index, (field, (kind, default)) in enumerate(fields.items()):
        odd = not field.isidentifier() or field.startswith(_OURS) or hasattr(BaseModel, field)
        if odd:
            plain[f"field_{index}"] = (kind, Field(default, alias=field))
        else:
            plain[field] = (kind, default)
    return create_model(name, __base__=_Strict, **plain)  # type: ignore[call-overload,no-any-return]


def _type(field: Spec, *, bounded: bool = True) -> Any:
    """The type of one row of ``field``: nested lists of its shape."""
    kind: Any
    if field.dtype == "string":
        kind = str
    elif field.dtype == "bool":
        kind = bool
    elif field.dtype in _RANGES:
        low, high = _RANGES[field.dtype]
        kind = Annotated[int, Field(ge=low, le=high)]
    elif bounded:
        kind = Annotated[float, Field(allow_inf_nan=False, ge=-_LARGEST, le=_LARGEST)]
    else:
        kind = float
    if field.nullable:
        kind = Annotated[kind | None, _Nullable()]
    for size in reversed(field.shape):
        kind = Annotated[list[kind], Field(min_length=size, max_length=size)]
    return kind
