"""Rows made up from the reference, to ask about what held-out rows rarely hold.

A conversion can agree on every recorded row and still treat null, an empty string or a
category it never saw in its own way. These rows ask; the model itself knows the answer.
"""

from __future__ import annotations

import numpy as np

from headgate.predictor import Array, Batch, Field, Reference, Signature
from headgate.predictor.parity import spread

__all__ = ["make_probes"]

_BASES = 4
"""Reference rows that each made-up value is tried on."""
_STRINGS = ("nan", "None", "", "never seen before", "Zürich ☃")


def make_probes(signature: Signature, reference: Reference) -> Batch | None:
    """Reference rows with one value replaced, for every value worth asking about.

    Strings become the literal ``"nan"`` and ``"None"``, an empty and an unknown string, and null
    where it is allowed; floats become null where it is allowed. None where there is nothing
    to ask.
    """
    questions = [(field, value) for field in signature.inputs for value in _values(field)]
    if not questions or not reference.rows:
        return None
    bases = spread(reference.rows, _BASES)
    rows = np.tile(bases, len(questions))
    probes: Batch = {name: array[rows].copy() for name, array in reference.inputs.items()}
    for index, (field, value) in enumerate(questions):
        _set(probes[field.name], slice(index * len(bases), (index + 1) * len(bases)), value)
    return probes


def _values(field: Field) -> tuple[str | float | None, ...]:
    if field.dtype == "string":
        return (*_STRINGS, None) if field.nullable else _STRINGS
    return (float("nan"),) if field.nullable else ()


def _set(array: Array, rows: slice, value: str | float | None) -> None:
    array[rows] = value
