"""The operations of one model, protocol by protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from headgate.serving.described.parts import (
    DEADLINE,
    JSON,
    Operation,
    Paths,
    Schema,
    body,
    columns_of,
    gives,
    object_of,
    operation,
    rows_of,
    takes,
)
from headgate.serving.described.versions import of_version
from headgate.serving.protocols.oip_binary import BINARY
from headgate.serving.protocols.tensors import ACCEPTED, DATATYPES

if TYPE_CHECKING:
    from headgate.predictor import Field
    from headgate.serving.described.subject import Subject

__all__ = ["of_model", "typed_examples"]

_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "array", "items": {"type": "integer"}}
_READY = {"name": _TEXT, "ready": {"type": "boolean"}}
_NOT_READY: Schema = {
    "description": "It must not be asked now.",
    "content": {JSON: {"schema": object_of({"ready": {"type": "boolean"}, "error": _TEXT})}},
}
_BINARY = BINARY[1].decode()
_BLOB: Schema = {
    "type": "string",
    "description": "JSON, and behind it tensors in Triton's binary form. There is no example: it "
    "is bytes, and this document is text.",
}
_LENGTH: Schema = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "How many bytes of the body are JSON, where tensors in binary follow it; 0 where "
    "the body is the only input's data and nothing else.",
    "schema": {"type": "integer", "minimum": 0},
}
_PARAMETERS: Schema = {"type": "object", "description": "Whatever the client likes."}


def of_model(model: Subject) -> Paths:
    """All paths that have the model's name, and those that have its version as well."""
    paths = {**_v1(model), **_tensors(model), **_torchserve(model), **_socket(model)}
    return paths | of_version(model, paths)


def typed_examples(model: Subject) -> tuple[dict[str, Any], Any]:
    """Of the endpoint that BentoML describes: requests by name, and the answer."""
    return _rows_examples(model), _rows_answer(model)


def _v1(model: Subject) -> Paths:
    path = f"/v1/models/{quote(model.name)}"
    common = {"signature_name": _TEXT, "parameters": _PARAMETERS}
    instances = {"instances": rows_of(model.row, model.most_rows)}
    inputs: Schema = columns_of(model.columns, model.most_rows)
    if len(model.columns) == 1:
        inputs = {"anyOf": [inputs, next(iter(inputs["properties"].values()))]}
    request = {
        "anyOf": [
            _closed(instances, common),
            _closed({"inputs": inputs}, common),
        ]
    }
    examples = _rows_examples(model)
    if model.inputs:
        examples["columns"] = {"inputs": {name: [value] for name, value in model.inputs.items()}}
    columns: Schema = object_of({name: _list(item) for name, item in model.outputs.items()})
    if len(model.outputs) == 1:
        columns = next(iter(columns["properties"].values()))
    who = dict.fromkeys(model.who, _TEXT)
    told = {
        "anyOf": [
            object_of({"predictions": _list(model.prediction), **who}),
            object_of({"outputs": columns, **who}),
        ]
    }
    return {
        f"{path}:predict": {
            "post": operation(
                "V1",
                f"v1__{model.method}__predict",
                f"Predict with {model.name}.",
                gives("Problem", told, _rows_answer(model)),
                text="`instances`, rows, are answered in `predictions`; `inputs`, columns, in "
                "`outputs`.",
                request=takes({JSON: body(request, examples)}),
                parameters=[DEADLINE],
            )
        },
    } | _v1_about(model, path)


def _v1_about(model: Subject, path: str) -> Paths:
    status = object_of({**dict.fromkeys(("name", "model_version", "release"), _TEXT)})
    return {
        path: {
            "get": operation(
                "V1",
                f"v1__{model.method}__status",
                f"Whether {model.name} is ready, and in which version.",
                gives("Problem", status, refusals=(), what="As KServe and TensorFlow Serving."),
            )
        },
        f"{path}/metadata": {
            "get": operation(
                "V1",
                f"v1__{model.method}__metadata",
                f"The signature of {model.name}, as TensorFlow Serving has it.",
                gives(
                    "Problem",
                    object_of({"model_spec": {"type": "object"}, "metadata": {"type": "object"}}),
                    refusals=(),
                    what="The signature.",
                ),
            )
        },
    }


def _tensors(model: Subject) -> Paths:
    path, tag = f"/v2/models/{quote(model.name)}", "Open Inference Protocol v2"
    given = [_tensor(field, model.columns[field.name]) for field in model.signature.inputs]
    asked = {"name": {"enum": list(model.outputs)}, "parameters": _PARAMETERS}
    request = object_of(
        {
            "inputs": {
                "type": "array",
                "items": given[0] if len(given) == 1 else {"anyOf": given},
                "minItems": len(given),
                "maxItems": len(given),
            }
        }
    )
    request["properties"] |= {
        "id": {"type": ["string", "null"]},
        "parameters": _PARAMETERS,
        "outputs": _list({"type": "object", "required": ["name"], "properties": asked}),
    }
    output = object_of({"name": _TEXT, "datatype": _TEXT, "shape": _WHOLE})
    told = object_of(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "parameters": object_of({"release": _TEXT}),
            "outputs": _list(output),
        }
    )
    answers = gives("TensorProblem", told, _tensors_answer(model))
    answers[200]["content"][_BINARY] = body(_BLOB)
    requests = {JSON: body(request, _tensors_examples(model)), _BINARY: body(_BLOB)}
    return {
        f"{path}/infer": {
            "post": operation(
                tag,
                f"v2__{model.method}__infer",
                f"Predict with {model.name}.",
                answers,
                text="`data` may be flat, row by row, or nested like `shape`. In binary it comes "
                "behind the JSON, whose length is in the header `Inference-Header-Content-Length`.",
                request=takes(requests),
                parameters=[DEADLINE, _LENGTH],
            )
        },
    } | _tensors_about(model, path, tag)


def _tensors_about(model: Subject, path: str, tag: str) -> Paths:
    described = object_of({"name": _TEXT, "datatype": _TEXT, "shape": _WHOLE})
    about = {
        "name": _TEXT,
        "versions": _list(_TEXT),
        "platform": _TEXT,
        "inputs": _list(described),
        "outputs": _list(described),
    }

    def get(
        name: str, what: str, schema: Schema, or_else: Schema | None = None
    ) -> dict[str, Operation]:
        answers = gives("TensorProblem", schema, refusals=(), what=what)
        if or_else is not None:
            answers[503] = or_else
        return {"get": operation(tag, f"v2__{model.method}__{name}", what, answers)}

    paths: Paths = {
        path: get("metadata", f"Inputs and outputs of {model.name}.", object_of(about)),
        f"{path}/config": get(
            "config",
            f"Triton's configuration of {model.name}.",
            object_of({"name": _TEXT, "input": {"type": "array"}, "output": {"type": "array"}}),
        ),
        f"{path}/ready": get(
            "ready", f"Whether {model.name} may be asked.", object_of(_READY), or_else=_NOT_READY
        ),
    }
    for change in ("load", "unload"):
        refused = gives("TensorProblem", {}, refusals=(400, 413, 415))
        del refused[200]
        paths[f"/v2/repository/models/{quote(model.name)}/{change}"] = {
            "post": operation(
                tag,
                f"v2__{model.method}__{change}",
                "Always refused: a release is immutable.",
                refused,
                request=takes({JSON: body({"type": "object"})}, required=False),
            )
        }
    return paths


def _torchserve(model: Subject) -> Paths:
    path, rows = f"/predictions/{quote(model.name)}", rows_of(model.row, model.most_rows)
    request = {
        "anyOf": [
            model.row,
            rows,
            object_of({"data": {"anyOf": [model.row, rows]}}, additionalProperties=False),
            object_of({"instances": rows}, additionalProperties=False),
        ]
    }
    told = {
        "anyOf": [
            model.prediction,
            _list(model.prediction),
            object_of({"predictions": _list(model.prediction)}),
        ]
    }
    shown = model.example
    examples = {} if shown is None else {"row": shown, "rows": [shown], "data": {"data": [shown]}}
    about = object_of({"modelName": _TEXT, "modelVersion": _TEXT, "workers": {"type": "array"}})
    return {
        path: {
            "post": operation(
                "TorchServe",
                f"torchserve__{model.method}__predict",
                f"Predict with {model.name}.",
                gives("ServeProblem", told, model.predicted),
                text="A row gets its prediction, a list of rows a list; either may be under "
                "`data`. Rows under `instances` get `predictions`.",
                request=takes({JSON: body(request, examples)}),
                parameters=[DEADLINE],
            )
        },
        f"/models/{quote(model.name)}": {
            "get": operation(
                "TorchServe",
                f"torchserve__{model.method}__describe",
                f"What is loaded of {model.name}.",
                gives("ServeProblem", _list(about), refusals=(), what="As TorchServe has it."),
            )
        },
    }


def _socket(model: Subject) -> Paths:
    said = {"id": 7, "instances": [model.example]}
    shown = "" if model.example is None else f"\n\n    {orjson.dumps(said).decode()}"
    heard = ""
    if model.predicted is not None:
        told = {"id": 7, "predictions": [model.predicted], **model.who}
        heard = f"\n\nis answered by\n\n    {orjson.dumps(told).decode()}"
    refused = gives("Problem", {}, refusals=())
    del refused[200]
    upgrade = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        f"/ws/{quote(model.name)}": {
            "get": operation(
                "WebSocket",
                f"ws__{model.method}",
                f"Predict with {model.name} over a WebSocket.",
                {
                    **refused,
                    101: {"description": "It is a WebSocket from here on."},
                    426: {"description": "It must be.", "content": {JSON: upgrade}},
                },
                text="A message is a body of V1 with an `id`, a string or an integer, and if you "
                f"like `deadline_ms`:{shown}{heard}\n\nWhat is wrong with a message is answered "
                "under its id with `status`, `error`, `where` and `remedy`; under null, where its JSON "
                "cannot be read. Up to 256 messages are worked on at a time, then no more is read "
                "until one is answered.",
            )
        }
    }


def _tensor(field: Field, item: Schema) -> Schema:
    """The schema of one input; its shape is more than a schema can say."""
    made = object_of(
        {
            "name": {"enum": [field.name]},
            "datatype": {"enum": sorted(ACCEPTED[field.dtype], key=_own_first(field))},
            "shape": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0},
                "minItems": 1 + len(field.shape),
                "maxItems": max(2, 1 + len(field.shape)),
            },
            "data": _list(_innermost(item, field) if not field.shape else {}),
        },
        additionalProperties=False,
    )
    made["properties"]["parameters"] = _PARAMETERS
    return made


def _own_first(field: Field) -> Any:
    return lambda name: (name != DATATYPES[field.dtype], name)


def _innermost(item: Schema, field: Field) -> Schema:
    for _ in field.shape:
        item = item["items"]
    return item


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _closed(required: dict[str, Schema], optional: dict[str, Schema]) -> Schema:
    """An object of these and nothing else."""
    made = object_of(required, additionalProperties=False)
    made["properties"] |= optional
    return made


def _rows_examples(model: Subject) -> dict[str, Any]:
    return {} if model.example is None else {"rows": {"instances": [model.example]}}


def _rows_answer(model: Subject) -> Any:
    return None if model.predicted is None else {"predictions": [model.predicted], **model.who}


def _tensors_examples(model: Subject) -> dict[str, Any]:
    inputs = [
        {
            "name": field.name,
            "datatype": DATATYPES[field.dtype],
            "shape": [1, *field.shape],
            "data": _flat(model.inputs[field.name], field),
        }
        for field in model.signature.inputs
        if field.name in model.inputs
    ]
    if not inputs:
        return {}
    first = model.signature.outputs[0].name
    return {
        "tensors": {"inputs": inputs},
        "one output": {"id": "7", "inputs": inputs, "outputs": [{"name": first}]},
    }


def _tensors_answer(model: Subject) -> Any:
    if not model.answers:
        return None
    outputs = [
        {
            "name": field.name,
            "datatype": DATATYPES[field.dtype],
            "shape": [1, *field.shape],
            "data": _flat(model.answers[field.name], field),
        }
        for field in model.signature.outputs
    ]
    return {
        "model_name": model.name,
        "model_version": model.version,
        "parameters": {"release": model.release},
        "outputs": outputs,
    }


def _flat(value: Any, field: Field) -> list[Any]:
    values = [value]
    for _ in field.shape:
        values = [each for row in values for each in row]
    return values
