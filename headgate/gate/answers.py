"""What came back under load, held against what the model as trained predicted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from headgate.errors import InputError
from headgate.gate.plan import Run
from headgate.predictor import Array, Outputs, Reference, Signature, difference
from headgate.predictor.rows import predictions_to_outputs

__all__ = ["Compared", "compare"]

_WORDS = 120
"""Characters of a server's own words that are quoted."""
_GARBAGE = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError)
"""What reading a hostile body raises: no JSON, endless digits, endless brackets."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One entry a request."""

    ok: npt.NDArray[np.bool_]
    """Status 200, and a prediction of this model for each row sent."""
    matched: npt.NDArray[np.bool_]
    """And each is the reference's, within tolerance."""
    cause: tuple[str, ...]
    """Why not ``ok``; empty where it is."""

    def errors(self, chosen: npt.NDArray[np.bool_]) -> dict[str, int]:
        """Count of the chosen requests by cause."""
        return dict(
            Counter(
                cause for cause, wanted in zip(self.cause, chosen, strict=True) if wanted and cause
            )
        )


class _Answer(msgspec.Struct):
    """The V1 protocol; other fields are not looked at."""

    predictions: list[Any]
    release: str = ""


class _Problem(msgspec.Struct):
    error: str = ""
    where: str = ""


def compare(
    run: Run,
    rows: list[npt.NDArray[np.int64]],
    reference: Reference,
    signature: Signature,
    *,
    tolerance: float,
    release: str,
) -> Compared:
    """Compare every answer with the reference rows that its request held, ``rows``.

    Afterwards, and equal answers to equal requests once: it takes no time from the generator.
    An answer that names another release than ``release`` is an error: something else answered.
    """
    expected = {name: _in_json(array) for name, array in reference.outputs.items()}
    known: dict[tuple[int, int, bytes], tuple[str, bool]] = {}
    quoted: dict[int, str] = {}
    found = []
    for status, index, wanted in zip(run.status, run.answer, rows, strict=True):
        key = (status, index, wanted.tobytes())
        if key not in known:
            body = run.answers[index]
            if status == 200:
                known[key] = _judge(
                    body,
                    {name: array[wanted] for name, array in expected.items()},
                    signature,
                    rows=len(wanted),
                    tolerance=tolerance,
                    release=release,
                )
            else:
                # A status is one cause; its first words stand for all.
                cause = quoted.setdefault(status, _quote(status, body)) if status else _text(body)
                known[key] = cause, False
        found.append(known[key])
    return Compared(
        ok=np.array([not cause for cause, _ in found], dtype=bool),
        matched=np.array([matched for _, matched in found], dtype=bool),
        cause=tuple(cause for cause, _ in found),
    )


def _judge(
    body: bytes,
    expected: Outputs,
    signature: Signature,
    *,
    rows: int,
    tolerance: float,
    release: str,
) -> tuple[str, bool]:
    """What is wrong with the answer, if anything, and whether it is the reference's."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
        with np.errstate(over="ignore"):  # a number too large for its type is infinite: wrong
            outputs = predictions_to_outputs(signature, answer.predictions, rows=rows)
    except (*_GARBAGE, InputError):
        return "HTTP 200 without the model's predictions", False
    if answer.release not in {"", release}:
        return f"answered by {answer.release[:_WORDS]}, not by {release}", False
    return "", bool(difference(outputs, expected, tolerance).ok.all())


def _in_json(array: Array) -> Array:
    """What is left of an output in JSON, which has null for whatever is no finite number."""
    return np.where(np.isfinite(array), array, np.nan) if array.dtype.kind == "f" else array


def _quote(status: int, body: bytes) -> str:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except _GARBAGE:
        return f"HTTP {status}"
    words = ": ".join(part for part in (problem.where, problem.error) if part)
    return f"HTTP {status} ({words[:_WORDS]})" if words else f"HTTP {status}"


def _text(cause: bytes) -> str:
    return cause.decode(errors="replace")[:_WORDS]
