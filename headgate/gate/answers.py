"""What came back under load, held against what the model as trained predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from headgate.errors import InputError
from headgate.predictor import Array, Outputs, Reference, Signature, difference
from headgate.predictor.rows import predictions_to_outputs
from headgate.records import Quality

__all__ = ["Answers", "Compared", "ModelAnswers", "compare_quality"]

_WORDS = 120
"""Characters of a server's own words that are quoted."""
_REMEMBERED = 1 << 16
"""Answers that are not looked at again; a server that puts the time into each repeats none."""
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

    @classmethod
    def of(cls, found: Sequence[tuple[str, bool]]) -> Compared:
        """From the cause and the match of each."""
        return cls(
            ok=np.array([not cause for cause, _ in found], dtype=bool),
            matched=np.array([matched for _, matched in found], dtype=bool),
            cause=tuple(cause for cause, _ in found),
        )

    @property
    def errors(self) -> dict[str, int]:
        """Count of the requests by cause."""
        return dict(Counter(cause for cause in self.cause if cause))


class Answers(Protocol):
    """Knows the answers to somebody's requests."""

    def compare(
        self, asks: Sequence[int], status: Sequence[int], bodies: Sequence[bytes]
    ) -> Compared:
        """Judge answers: to which request each is, its HTTP status (0 for none) and its body.

        The body of no answer says why there is none.
        """


class ModelAnswers:
    """Knows what one model as trained predicted for the rows of each request."""

    def __init__(
        self,
        groups: Sequence[npt.NDArray[np.int64]],
        reference: Reference,
        signature: Signature,
        *,
        tolerance: float,
        release: str,
        own: bool = True,
    ) -> None:
        """Remember.

        Args:
            groups: The reference rows that each request holds.
            reference: The rows, and what was predicted for them.
            signature: What the answers look like.
            tolerance: Largest difference that counts as equal.
            release: Who should answer; an answer that names another is an error.
            own: False where another model is asked for these rows: then any prediction is right.
        """
        self.reference = reference
        self._groups = groups
        self._expected = {name: _in_json(array) for name, array in reference.outputs.items()}
        self.signature = signature
        self._tolerance = tolerance
        self._release = release
        self._own = own
        self._known: dict[tuple[int, int, bytes], tuple[str, bool]] = {}
        self._quoted: dict[int, str] = {}
        self._predicted: dict[int, Any] = {}

    def compare(
        self, asks: Sequence[int], status: Sequence[int], bodies: Sequence[bytes]
    ) -> Compared:
        """As :meth:`Answers.compare`; equal answers to equal requests are looked at once."""
        found = []
        for ask, code, body in zip(asks, status, bodies, strict=True):
            key = (ask, code, body)
            if key not in self._known:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                if code == 200:
                    self._known[key] = self._read(body, self._groups[ask])
                else:
                    # A status is one cause; its first words stand for all.
                    cause = (
                        self._quoted.setdefault(code, _quote(code, body)) if code else _text(body)
                    )
                    self._known[key] = cause, False
            found.append(self._known[key])
        return Compared.of(found)

    def scores(self) -> npt.NDArray[np.float64]:
        """Of each reference row, how right the first prediction of it was.

        1 or 0 for a class, and the absolute error of a number; NaN where nothing was predicted, or
        the truth is not known.
        """
        name, labels = _target(self.signature), self.reference.labels
        scores = np.full(self.reference.rows, np.nan)
        if name is None or labels is None or labels.ndim != 1:
            return scores
        for row, value in self._predicted.items():
            label = labels[row]
            if label is not None and label == label:  # noqa: PLR0124 - NaN is not
                scores[row] = value == label if name == "label" else abs(value - label)
        return scores

    def _read(self, body: bytes, wanted: npt.NDArray[np.int64]) -> tuple[str, bool]:
        """What is wrong with an answer, if anything, and whether it is the reference's."""
        try:
            answer = msgspec.json.decode(body, type=_Answer)
            with np.errstate(over="ignore"):  # a number too large for its type is infinite: wrong
                outputs = predictions_to_outputs(
                    self.signature, answer.predictions, rows=len(wanted)
                )
        except (*_GARBAGE, InputError):
            return "HTTP 200 without the model's predictions", False
        if answer.release not in {"", self._release}:
            return f"answered by {_words(answer.release)}, not by {self._release}", False
        if name := _target(self.signature):
            for row, value in zip(wanted.tolist(), outputs[name].tolist(), strict=True):
                self._predicted.setdefault(row, value)
        if not self._own:
            return "", True
        expected: Outputs = {key: array[wanted] for key, array in self._expected.items()}
        return "", bool(difference(outputs, expected, self._tolerance).ok.all())


def compare_quality(
    model: str, candidate: ModelAnswers, champion: ModelAnswers | None
) -> Quality | None:
    """Both sides' scores of the labelled rows that both predicted; None where nothing is known.

    ``champion`` must have been asked for the same rows.
    """
    own = candidate.scores()
    theirs = champion.scores() if champion else None
    if theirs is not None and not np.isfinite(theirs).any():
        theirs = None
    seen = np.isfinite(own) if theirs is None else np.isfinite(own) & np.isfinite(theirs)
    if not seen.any():
        return None
    classifies = _target(candidate.signature) == "label"
    return Quality(
        model=model,
        metric="accuracy" if classifies else "mean absolute error",
        candidate=own[seen],
        champion=None if theirs is None else theirs[seen],
    )


def _target(signature: Signature) -> str | None:
    """The output that labels are compared with, one value a row."""
    wanted = {"classification": "label", "regression": "prediction"}.get(signature.task)
    named = any(field.name == wanted and not field.shape for field in signature.outputs)
    return wanted if named else None


class _Answer(msgspec.Struct):
    """The V1 protocol; other fields are not looked at."""

    predictions: list[Any]
    release: str = ""


class _Problem(msgspec.Struct):
    error: str = ""
    where: str = ""


def _in_json(array: Array) -> Array:
    """What is left of an output in JSON, which has null for whatever is no finite number."""
    return np.where(np.isfinite(array), array, np.nan) if array.dtype.kind == "f" else array


def _quote(status: int, body: bytes) -> str:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except _GARBAGE:
        return f"HTTP {status}"
    words = ": ".join(part for part in (problem.where, problem.error) if part)
    return f"HTTP {status} ({_words(words)})" if words else f"HTTP {status}"


def _words(text: str) -> str:
    """A server's own, cut, and without what no UTF-8 can hold."""
    return text[:_WORDS].encode(errors="replace").decode()


def _text(cause: bytes) -> str:
    return cause.decode(errors="replace")[:_WORDS]
