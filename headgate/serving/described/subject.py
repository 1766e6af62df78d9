"""A model as descriptions see it: schemas of its rows, a row that it takes, what it says to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.predictor import Field, Signature, example, read_reference, shortest
from headgate.serving.protocols.v1 import predictions

if TYPE_CHECKING:
    from headgate.predictor import Array
    from headgate.serving.bundle import PackagedModel
    from headgate.serving.described.parts import Schema

__all__ = ["Subject", "subject_of"]

_LONGEST = 4096
"""Values in a row that is shown; longer ones fill the page and say nothing."""


class Subject(NamedTuple):
    """One model."""

    name: str
    version: str
    release: str
    method: str
    """Its name as an identifier."""
    most_rows: int
    signature: Signature
    row: Schema
    """Of one row."""
    columns: dict[str, Schema]
    """Of one row of each input."""
    prediction: Schema
    """Of one row."""
    outputs: dict[str, Schema]
    """Of one row of each output."""
    example: Any
    """A row; None where it would be too long to show."""
    inputs: dict[str, Any]
    """The same by input."""
    predicted: Any
    """The prediction for it; None where it is not known."""
    answers: dict[str, Any]
    """The same by output."""
    scores: bool
    """Whether MLflow has the probabilities, where it has the label of other classifiers."""

    @property
    def who(self) -> dict[str, str]:
        """What V1 says of who answers."""
        return {
            "model_name": self.name,
            "model_version": self.version,
            "release": self.release,
        }


def subject_of(model: PackagedModel, release: str, schemas: Mapping[str, Any]) -> Subject:
    """``schemas`` are BentoML's, which were made from the model's signature."""
    signature = model.manifest.signature
    rows = schemas[f"{model.method}__Input"]["properties"]["instances"]["items"]
    prediction = schemas[f"{model.method}__Output"]["properties"]["predictions"]["items"]
    shown = example(signature, read_reference(model.path, model.manifest))
    small = sum(array.size for array in shown.batch.values()) <= _LONGEST
    row = shown.row if small else None
    inputs = row if type(row) is dict else {signature.inputs[0].name: row}
    answers = {}
    if small and shown.outputs is not None:
        answers = {
            field.name: _value(field, shown.outputs[field.name]) for field in signature.outputs
        }
    single = len(signature.outputs) == 1
    return Subject(
        name=model.name,
        version=model.ref.version,
        release=release,
        method=model.method,
        most_rows=model.config.serving.max_request_rows,
        signature=signature,
        row=rows,
        columns=_by_field(signature.inputs, rows, schemas),
        prediction=prediction,
        outputs=_by_field(signature.outputs, prediction, schemas),
        example=row,
        inputs=inputs if small else {},
        predicted=next(iter(answers.values())) if answers and single else answers or None,
        answers=answers,
        scores=model.manifest.source.get("flavor") == "torch",
    )


def _by_field(
    fields: tuple[Field, ...], whole: Schema, schemas: Mapping[str, Any]
) -> dict[str, Schema]:
    """The schema of each, from that of all of them together."""
    found: Any = whole
    if "$ref" in whole:
        found = schemas[whole["$ref"].rpartition("/")[2]]
    if found.get("type") == "object":
        return dict(found["properties"])
    return {fields[0].name: whole}


def _value(field: Field, array: Array) -> Any:
    """Of one row, as JSON has it."""
    [value] = predictions({field.name: array}, field.name)
    return shortest(value, field)
