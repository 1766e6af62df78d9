"""What a request of the Open Inference Protocol may ask for, whatever it is written in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from headgate.errors import InputError
from headgate.predictor import Batch, Field
from headgate.serving.protocols.tensors import ACCEPTED, DATATYPES, shown

__all__ = ["check_output", "input_field", "rows_of"]

_SHOWN = 20


def input_field(
    fields: Mapping[str, Field], name: Any, datatype: Any, batch: Batch, where: str
) -> Field:
    """The input that a tensor is for.

    Raises:
        InputError: there is none, ``batch`` has it already, or it takes no such datatype.
    """
    field = fields.get(name) if type(name) is str else None
    if field is None:
        known = ", ".join(list(fields)[:_SHOWN])
        raise InputError(
            f"input {shown(name)} is unknown", where=f"{where}.name", remedy=f"known: {known}"
        )
    if name in batch:
        raise InputError(f"input {name!r} is there twice", where=where, remedy="send it once")
    if type(datatype) is not str or datatype not in ACCEPTED[field.dtype]:
        raise InputError(
            f"{shown(datatype)} is not what it takes",
            where=f"{where}.datatype",
            remedy=f"send {DATATYPES[field.dtype]}",
        )
    return field


def rows_of(fields: Mapping[str, Field], batch: Batch) -> int:
    """How many rows all the inputs have.

    Raises:
        InputError: an input is missing, there are no rows, or not as many everywhere.
    """
    if len(batch) != len(fields):
        field = next(field for name, field in fields.items() if name not in batch)
        raise InputError(
            f"input {field.name!r} is missing",
            where="inputs",
            remedy=f"send a tensor of {DATATYPES[field.dtype]}",
        )
    counts = {len(array) for array in batch.values()}
    if counts == {0}:
        raise InputError("no rows", where="inputs", remedy="send at least one")
    if len(counts) > 1:
        found = ", ".join(f"{name} {len(array)}" for name, array in batch.items())
        raise InputError(
            f"inputs differ in their rows: {found}",
            where="inputs",
            remedy="send as many rows for every input",
        )
    return counts.pop()


def check_output(
    names: Sequence[str], name: Any, chosen: Collection[str], parameters: Any, where: str
) -> None:
    """Hold that an output may be asked for, beside those that are ``chosen`` already.

    Raises:
        InputError: there is none of that name, it is chosen, or it is wanted in a form that is not
            offered.
    """
    if type(name) is not str or name not in names:
        raise InputError(
            f"output {shown(name)} is unknown",
            where=f"{where}.name",
            remedy=f"known: {', '.join(names)}",
        )
    if name in chosen:
        # A short list of many would make an answer as long as one likes.
        raise InputError(
            f"output {name!r} is there twice", where=f"{where}.name", remedy="ask for it once"
        )
    for form in ("classification", "shared_memory_region"):
        if form in parameters:
            raise InputError(
                f"{form} is not offered",
                where=f"{where}.parameters",
                remedy="leave it out: the output is sent as it is",
            )
