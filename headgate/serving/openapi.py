"""The OpenAPI document of a service: every path of every protocol, with examples that work.

BentoML's document describes the typed endpoints, whose schemas come from the models' signatures;
the others are described by the same schemas (``headgate/serving/described``).
"""

from __future__ import annotations

from typing import Any

import attr
from _bentoml_sdk.service.openapi import generate_spec
from bentoml._internal.service.openapi.specification import PathItem, Tag

from headgate.serving.beside import FILE
from headgate.serving.described.models import of_model, typed_examples
from headgate.serving.described.parts import JSON, PROBLEMS, TAGS, gives
from headgate.serving.described.server import of_server
from headgate.serving.described.subject import Subject, subject_of

__all__ = ["describe"]

# What BentoML says of errors and of tasks, which no service of ours has.
_NOT_OURS = {"InternalServerError", "InvalidArgument", "NotFound", "TaskStatusResponse"}
_ABOUT = """\
Every model answers on each of the paths below, and from the same predictor

- over a WebSocket at `/ws/NAME`: many messages in flight on one connection;
- over gRPC on a port of its own: `inference.GRPCInferenceService`, with health checks and reflection.

`headgate client NAME --lang curl|python|js|grpcurl` prints code that asks."""
_OWN = "An app of this bundle's own is under `/app`; if it is FastAPI, [`/app/docs`](app/docs) shows it."


def describe(service: Any, release: str) -> Any:
    """BentoML's document as OpenAPI 3.1: the schemas have null for a type, which 3.0 knows not."""
    document = generate_spec(service, openapi_version="3.1.0")
    plain = document.asdict()
    schemas = {
        name: schema
        for name, schema in plain["components"]["schemas"].items()
        if name not in _NOT_OURS
    }
    models = [subject_of(model, release, schemas) for model in service.inner.bundle.models]
    paths = dict(of_server(models))
    for model in models:
        paths |= of_model(model)
        paths[f"/{model.method}"] = {"post": _typed(model, plain["paths"][f"/{model.method}"])}
    return attr.evolve(
        document,
        info=attr.evolve(
            document.info,
            contact=None,
            description=f"{document.info.description}\n{_about(service)}",
        ),
        components={"schemas": {**schemas, **PROBLEMS}},
        paths={path: PathItem(**paths[path]) for path in sorted(paths)},
        tags=[Tag(name=name, description=what) for name, what in TAGS.items()],
    )


def _about(service: Any) -> str:
    """What else there is, which OpenAPI has no word for."""
    own = (service.inner.bundle.root / FILE).is_file()
    return "\n\n".join([_ABOUT, *([_OWN] if own else [])])


def _typed(model: Subject, described: dict[str, Any]) -> dict[str, Any]:
    """BentoML's description of a typed endpoint, with our refusals and examples."""
    made: dict[str, Any] = described["post"]
    requests, told = typed_examples(model)
    made["tags"] = ["BentoML"]
    made["summary"] = f"Predict with {model.name}."
    content = made["requestBody"]["content"][JSON]
    content["examples"] = {name: {"value": value} for name, value in requests.items()}
    answers = made["responses"]
    schema = answers.get("200", answers.get(200))["content"][JSON]["schema"]
    answers = gives("Problem", schema, told)
    made["responses"] = {str(status): answers[status] for status in sorted(answers)}
    return made
