"""The operations that have no model in their path: health, lists, and the path of many models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from headgate.serving.described.parts import (
    DEADLINE,
    JSON,
    LIMITS,
    Operation,
    Paths,
    Schema,
    answer,
    body,
    gives,
    object_of,
    operation,
    rows_of,
    shown,
    takes,
)
from headgate.serving.protocols.csv_rows import MISSING, flat, rows_to_csv
from headgate.serving.protocols.sagemaker import CSV, LINES, NPY

if TYPE_CHECKING:
    from headgate.serving.described.subject import Subject

__all__ = ["of_server"]

_TEXT: Schema = {"type": "string"}
_BYTES: Schema = {
    "type": "string",
    "description": "As `numpy.save` writes it: `[rows, *shape]` of a tensor, `[rows, columns]` of a "
    "table. There is no example: it is bytes, and this document is text.",
}
_LIVE = object_of({"live": {"type": "boolean"}})
_READY = object_of({"ready": {"type": "boolean"}})
_HEALTHY = object_of({"status": _TEXT})


def of_server(models: Sequence[Subject]) -> Paths:
    """Every path without a model's name, and SageMaker's with one."""
    invocations = _invocations(models, "invocations", choice=True)
    paths = {"/invocations": {"post": invocations}}
    for model in models:
        alone = _invocations([model], f"invocations__{model.method}", choice=False)
        paths[f"/models/{quote(model.name)}/invoke"] = {"post": alone}
    names = [model.name for model in models]
    listed = object_of({"models": {"type": "array", "items": _TEXT}})
    return {
        **paths,
        "/ping": _health(models, "ping", "Whether it is healthy."),
        "/health": _health(models, "health", "The same."),
        "/version": _get("MLflow and SageMaker", "version", "The release.", _TEXT),
        "/v1/models": _get("V1", "v1__models", "The models.", listed, example={"models": names}),
        "/v2": _get("Open Inference Protocol v2", "v2", "The server.", object_of({"name": _TEXT})),
        "/v2/models": _get("Open Inference Protocol v2", "v2__models", "The models.", listed),
        "/v2/health/live": _get("Open Inference Protocol v2", "v2__live", "It runs.", _LIVE),
        "/v2/health/ready": _get(
            "Open Inference Protocol v2",
            "v2__ready",
            "Every model may be asked.",
            _READY,
            ready=True,
        ),
        "/v2/repository/index": {"post": _index()},
        "/models": _get(
            "TorchServe",
            "torchserve__models",
            "The models.",
            object_of({"models": {"type": "array"}}),
        ),
        "/livez": _get("Server", "livez", "The process runs.", _LIVE),
        "/healthz": _get("Server", "healthz", "The same, by its old name.", _LIVE),
        "/readyz": _get(
            "Server",
            "readyz",
            "A worker can answer: it has replayed its reference rows, and they came out as they "
            "did when the models were trained.",
            _READY,
            ready=True,
        ),
        "/metrics": {
            "get": operation(
                "Server",
                "metrics",
                "What Prometheus scrapes.",
                {200: answer("In the format of Prometheus.", {"text/plain": body(_TEXT)})},
            )
        },
    }


def _get(
    tag: str,
    name: str,
    what: str,
    schema: Schema,
    *,
    ready: bool = False,
    example: Any = None,
) -> dict[str, Operation]:
    """Of what may not be ``ready``, also how that is said."""
    answers = gives("Problem", schema, example, refusals=(), what=what)
    if ready:
        answers[503] = answer("It may not.", {JSON: body(object_of({"error": _TEXT}))})
    return {"get": operation(tag, name, what, answers)}


def _health(models: Sequence[Subject], name: str, what: str) -> dict[str, Operation]:
    """Of the server, or of the model that is named."""
    item = _get("MLflow and SageMaker", name, what, _HEALTHY, ready=True)
    item["get"]["parameters"] = _choice(models, "Whose health; all of them where it names none.")
    refused = gives("ScoringProblem", {}, refusals=(400, 404))
    refused[400]["description"] = "Two models are named."
    item["get"]["responses"] |= {str(status): refused[status] for status in (400, 404)}
    return item


def _choice(models: Sequence[Subject], what: str) -> list[Schema]:
    """The three ways to name a model."""
    schema: Schema = {"enum": [model.name for model in models]}
    return [
        {"name": name, "in": place, "required": False, "description": what, "schema": schema}
        for name, place in (
            ("model", "query"),
            ("X-Headgate-Model", "header"),
            ("X-Amzn-SageMaker-Target-Model", "header"),
        )
    ]


def _index() -> Operation:
    model = object_of(dict.fromkeys(("name", "version", "state", "reason"), _TEXT))
    return operation(
        "Open Inference Protocol v2",
        "v2__index",
        "What is loaded, as Triton's repository has it.",
        gives(
            "TensorProblem",
            {"type": "array", "items": model},
            refusals=(400, 413, 415),
            what="Every model, or with `ready` those that are.",
        ),
        request=takes(
            {
                JSON: body(
                    {"type": "object", "properties": {"ready": {"type": "boolean"}}},
                    {"all": {}, "those that are ready": {"ready": True}},
                )
            },
            required=False,
        ),
    )


def _invocations(models: Sequence[Subject], name: str, *, choice: bool) -> Operation:
    parameters = [DEADLINE]
    if choice:
        what = "Which model is meant. One of the three is needed where several models are served."
        named = _choice(models, what)
        named[0]["examples"] = shown({model.name: model.name for model in models})
        parameters += named
    answers = gives(
        "ScoringProblem",
        object_of({"predictions": {"type": "array", "items": _scored(models)}}),
        refusals=(*LIMITS, 404, 406) if choice else (*LIMITS, 406),
    )
    told = {_title(models, model, "answer"): _shown(model) for model in models if model.answers}
    if told:
        answers[200]["content"][JSON]["examples"] = shown(told)
    answers[200]["content"] |= {CSV: body(_TEXT), LINES: body(_TEXT), NPY: body(_BYTES)}
    return operation(
        "MLflow and SageMaker",
        name,
        "Predict with the model that is named." if choice else f"Predict with {models[0].name}.",
        answers,
        text="Rows as MLflow has them (`dataframe_split`, `dataframe_records`, `instances`, "
        "`inputs`, CSV with a header), or as SageMaker has them, by position (lists, CSV, JSON "
        "lines, NumPy). A prediction is what the model's own `predict` gives: a label, a number. "
        "`Accept` says in which form. `params` are overlooked, as MLflow does without a schema.",
        request=takes(_scoring(models)),
        parameters=parameters,
    )


def _scoring(models: Sequence[Subject]) -> dict[str, Schema]:
    forms = [form for model in models for form in _forms(model)]
    examples: dict[str, dict[str, Any]] = {JSON: {}, CSV: {}, LINES: {}}
    for model in models:
        for kind, values in ({JSON: _json_examples(model)} | _text_examples(model)).items():
            examples[kind] |= {_title(models, model, name): values[name] for name in values}
    return {
        JSON: body({"anyOf": forms}, examples[JSON]),
        CSV: body(_TEXT, examples[CSV]),
        LINES: body(_TEXT, examples[LINES]),
        NPY: body(_BYTES),
    }


def _title(models: Sequence[Subject], model: Subject, what: str) -> str:
    """What an example is called: after ``?model=``, where there are several."""
    return what if len(models) == 1 else f"model={model.name}: {what}"


def _forms(model: Subject) -> list[Schema]:
    rows = rows_of(model.row, model.most_rows)
    forms = [object_of({"instances": rows}), object_of({"inputs": rows})]
    if model.signature.is_table:
        cells = {"type": "array", "minItems": len(model.columns), "maxItems": len(model.columns)}
        split = {
            "columns": {"enum": [list(model.columns)]},
            "data": rows_of(cells, model.most_rows),
        }
        forms += [
            object_of({"dataframe_records": rows}),
            object_of({"dataframe_split": object_of(split)}),
        ]
    return forms


def _json_examples(model: Subject) -> dict[str, Any]:
    row = model.example
    if row is None:
        return {}
    examples: dict[str, Any] = {"rows": {"instances": [row]}}
    if model.signature.is_table:
        split = {"columns": list(row), "data": [list(row.values())]}
        examples |= {"a data frame": {"dataframe_split": split}}
        examples |= {"records": {"dataframe_records": [row]}}
    return examples


def _text_examples(model: Subject) -> dict[str, dict[str, str]]:
    row = model.example
    if row is None:
        return {}
    found = {LINES: {"a row a line": orjson.dumps(row).decode() + "\n"}}
    if not MISSING.isdisjoint(flat(row)):
        # CSV has no such text.
        return found
    if model.signature.is_table:
        lines = rows_to_csv([list(row), list(row.values())]).decode()
        found[CSV] = {"with a header": lines, "by position": lines.partition("\n")[2]}
    elif len(model.signature.inputs) == 1:
        found[CSV] = {"by position": rows_to_csv([row]).decode()}
    return found


def _scored(models: Sequence[Subject]) -> Schema:
    schemas = [_scored_by(model) for model in models]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _scored_by(model: Subject) -> Schema:
    chosen = _chosen(model)
    return model.prediction if chosen is None else model.outputs[chosen]


def _shown(model: Subject) -> Any:
    """What the model says to its example; it must have ``answers``."""
    chosen = _chosen(model)
    return {"predictions": [model.predicted if chosen is None else model.answers[chosen]]}


def _chosen(model: Subject) -> str | None:
    """The output that the model's own ``predict`` gives; None for all of them."""
    if model.signature.task == "classification":
        scores = model.scores and "probabilities" in model.outputs
        return "probabilities" if scores else "label"
    return next(iter(model.outputs)) if len(model.outputs) == 1 else None
