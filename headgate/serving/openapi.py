"""The OpenAPI document of a service: BentoML's, with what ours say when they refuse a request."""

from __future__ import annotations

from typing import Any

import attr
from _bentoml_sdk.service.openapi import REF_TEMPLATE, generate_spec
from bentoml._internal.service.openapi.specification import MediaType, Reference, Response, Schema

__all__ = ["describe"]

_PROBLEM = Schema(
    type="object",
    title="Problem",
    required=["error", "where", "remedy"],
    properties={
        "error": Schema(type="string", description="What is wrong."),
        "where": Schema(type="string", description="The row and column, header or path."),
        "remedy": Schema(type="string", description="What would be right."),
    },
)
_LATER = "Retry-After says when it may go better."
_REFUSALS = {
    400: "The body is no JSON, or not what the model takes.",
    413: "The body or the number of its rows is over the limit.",
    415: "The body says that it is something else than JSON, or is compressed.",
    429: f"Too many rows wait already. {_LATER}",
    500: "The model failed, or the server did.",
    503: f"The deadline cannot be met. {_LATER}",
    504: f"The deadline passed. {_LATER}",
}
# What BentoML says of errors and of tasks, which no service of ours has.
_NOT_OURS = {"InternalServerError", "InvalidArgument", "NotFound", "TaskStatusResponse"}


def describe(service: Any) -> Any:
    """BentoML's document as OpenAPI 3.1: the schemas have null for a type, which 3.0 knows not."""
    document = generate_spec(service, openapi_version="3.1.0")
    schemas = document.components["schemas"]
    for name in _NOT_OURS:
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    problem = {"application/json": MediaType(Reference(REF_TEMPLATE.format(model="Problem")))}
    for api in service.apis.values():
        answers = document.paths[api.route].post["responses"]
        for status, what in _REFUSALS.items():
            answers[status] = Response(what, problem)
        answers.pop(404, None)
    return attr.evolve(document, info=attr.evolve(document.info, contact=None))
