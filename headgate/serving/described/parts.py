"""The pieces that descriptions are put together from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

__all__ = [
    "DEADLINE",
    "JSON",
    "LIMITS",
    "PROBLEMS",
    "TAGS",
    "Operation",
    "Paths",
    "Schema",
    "answer",
    "body",
    "columns_of",
    "gives",
    "object_of",
    "operation",
    "rows_of",
    "shown",
    "takes",
]

Schema: TypeAlias = dict[str, Any]
Operation: TypeAlias = dict[str, Any]
Paths: TypeAlias = dict[str, dict[str, Operation]]
"""Operations by path and method."""

JSON = "application/json"
TAGS = {
    "V1": "Rows: the protocol of TensorFlow Serving and KServe. Every path may name the version: "
    "`/v1/models/NAME/versions/3:predict`.",
    "Open Inference Protocol v2": "Tensors, in JSON or with Triton's binary extension: what Triton, "
    "KServe, MLServer and Seldon clients speak; over gRPC too, on a port of its own. Every path may "
    "name the version: `/v2/models/NAME/versions/3/infer`.",
    "MLflow and SageMaker": "One path for both; which model is meant is said by a header or by "
    "`?model=`, unless there is only one.",
    "TorchServe": "A row in, a prediction out. Every path may name the version: "
    "`/predictions/NAME/3`.",
    "WebSocket": "One connection, many messages in flight: each is a body of V1 with an `id`, and is "
    "answered under that id as soon as it can be.",
    "BentoML": "V1 under a path of BentoML's kind.",
    "Server": "Health, and what there is to measure.",
}
_LATER = "Retry-After says when it may go better."
_REFUSALS = {
    400: "The body cannot be read, or is not what the model takes.",
    404: "There is no such model.",
    406: "The answer is wanted in a form that it has not.",
    413: "The body or the number of its rows is over the limit.",
    415: "The body says that it is something else than this takes, or is compressed with neither gzip nor deflate.",
    429: f"Too many rows wait already. {_LATER}",
    500: "The model failed, or the server did.",
    503: f"The deadline cannot be met. {_LATER}",
    504: f"The deadline passed. {_LATER}",
}
LIMITS = (400, 413, 415, 429, 500, 503, 504)
"""What every prediction may be refused for."""
PROBLEMS: dict[str, Schema] = {
    "Problem": {
        "type": "object",
        "title": "Problem",
        "required": ["error", "where", "remedy"],
        "properties": {
            "error": {"type": "string", "description": "What is wrong."},
            "where": {"type": "string", "description": "The row and column, header or path."},
            "remedy": {"type": "string", "description": "What would be right."},
        },
    },
    "TensorProblem": {
        "type": "object",
        "title": "TensorProblem",
        "required": ["error"],
        "properties": {
            "error": {"type": "string", "description": "Where, what is wrong, and what is right."}
        },
    },
    "ScoringProblem": {
        "type": "object",
        "title": "ScoringProblem",
        "required": ["error_code", "message"],
        "properties": {
            "error_code": {"type": "string", "description": "One of MLflow's."},
            "message": {"type": "string", "description": "Where, what is wrong, what is right."},
        },
    },
    "ServeProblem": {
        "type": "object",
        "title": "ServeProblem",
        "required": ["code", "type", "message"],
        "properties": {
            "code": {"type": "integer", "description": "The status."},
            "type": {"type": "string", "description": "One of TorchServe's exceptions."},
            "message": {"type": "string", "description": "Where, what is wrong, what is right."},
        },
    },
}
"""The errors of each protocol."""
DEADLINE: Schema = {
    "name": "X-Headgate-Deadline-Ms",
    "in": "header",
    "description": "How long the answer is worth waiting for; else the model's own deadline holds.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}


def operation(
    tag: str,
    name: str,
    summary: str,
    answers: Mapping[int, Schema],
    *,
    text: str = "",
    request: Schema | None = None,
    parameters: Iterable[Schema] = (),
) -> Operation:
    """One operation; ``name`` is unlike that of any other."""
    made: Operation = {"tags": [tag], "operationId": name, "summary": summary}
    if text:
        made["description"] = text
    if listed := list(parameters):
        made["parameters"] = listed
    if request is not None:
        made["requestBody"] = request
    return made | {"responses": {str(status): answers[status] for status in sorted(answers)}}


def takes(contents: Mapping[str, Schema], *, required: bool = True) -> Schema:
    """A request's body, by media type."""
    return {"required": required, "content": dict(contents)}


def body(schema: Schema, examples: Mapping[str, Any] | None = None) -> Schema:
    """One form of a body, with examples by their names."""
    made: Schema = {"schema": schema}
    if examples:
        made["examples"] = shown(examples)
    return made


def shown(examples: Mapping[str, Any]) -> dict[str, Schema]:
    """Examples by their names."""
    return {name: {"value": value} for name, value in examples.items()}


def answer(what: str, contents: Mapping[str, Schema]) -> Schema:
    """One response."""
    return {"description": what, "content": dict(contents)}


def gives(
    problem: str,
    schema: Schema,
    example: Any = None,
    *,
    refusals: Iterable[int] = LIMITS,
    what: str = "The predictions.",
) -> dict[int, Schema]:
    """The response of JSON, and those of the protocol whose errors are a ``problem``."""
    examples = {} if example is None else {"answer": example}
    return {
        200: answer(what, {JSON: body(schema, examples)}),
        **{status: answer(_REFUSALS[status], {JSON: _problem(problem)}) for status in refusals},
    }


def object_of(properties: Mapping[str, Schema], **more: Any) -> Schema:
    """An object that has all of these; ``more`` goes into its schema."""
    return {"type": "object", "required": list(properties), "properties": dict(properties), **more}


def rows_of(item: Schema, most: int) -> Schema:
    """One or more, up to ``most``."""
    return {"type": "array", "items": item, "minItems": 1, "maxItems": most}


def columns_of(fields: Mapping[str, Schema], most: int) -> Schema:
    """An object of lists."""
    return object_of(
        {name: rows_of(item, most) for name, item in fields.items()}, additionalProperties=False
    )


def _problem(name: str) -> Schema:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}
