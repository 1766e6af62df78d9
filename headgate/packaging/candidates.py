"""Which way to run a model: first the same answers, then the shortest time."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from textwrap import shorten

import msgspec
import numpy as np

from headgate.config import PackagingConfig
from headgate.errors import ServingError
from headgate.packaging.exchange import Built
from headgate.predictor import (
    Batch,
    Candidate,
    Manifest,
    Parity,
    Predictor,
    Reference,
    difference,
    write_artifact,
)
from headgate.predictor.parity import spread

__all__ = [
    "USUAL_TOLERANCE",
    "Judged",
    "Questions",
    "choose",
    "describe_choice",
    "describe_row",
    "judge_candidate",
]

BATCH_ROWS = 64
SINGLE_ROWS = 16
"""Reference rows that are also asked one at a time: some conversions only work in batches."""
USUAL_TOLERANCE = PackagingConfig().tolerance
"""What differs by less is float32 arithmetic in another order, no other answer."""
_MEASURE_S = 0.25
_MEASURE_CALLS = 300


class Questions(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate must answer as the model did."""

    reference: Reference
    """Every recorded row."""
    probes: Reference | None = None
    """Made-up rows with the model's own answers."""
    refused: Reference | None = None
    """Made-up rows that the model refuses, so that a candidate must refuse them too."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that was tried."""

    candidate: Candidate
    path: Path
    """Its artifact, if it was built."""
    first_wrong: int | None = None
    """The first reference row it got wrong."""
    close: bool = False
    """Every reference row it got wrong is within the usual tolerance: a tighter one was asked."""

    @property
    def passed(self) -> bool:
        """It gave the same answers, and its speed is known."""
        return self.candidate.one_row_ms is not None


def judge_candidate(folder: Path, built: Built, base: Manifest, questions: Questions) -> Judged:
    """Compare one candidate's answers with the model's; measure it where they are the same."""
    path = folder / "candidates" / built.engine
    if built.refused:
        return _not_chosen(path, built.engine, f"not built: {built.refused}")
    files = {file.name: file for file in sorted((folder / built.engine).iterdir())}
    manifest = msgspec.structs.replace(base, engine=built.engine, options=built.options)
    write_artifact(path, manifest, files)
    try:
        predictor = Predictor.open(path)
        parity, first_wrong, close = _parity(predictor, questions.reference)
        problem = "" if parity.mismatched == 0 else _differs(parity)
        if problem and close:
            problem += f", more than packaging.tolerance = {base.tolerance:g}"
        problem = problem or _singles(predictor, questions.reference)
        if questions.probes is not None:
            parity = msgspec.structs.replace(parity, probes=questions.probes.rows)
            problem = problem or _probes(predictor, questions.probes)
        if questions.refused is not None:
            problem = problem or _refusals(predictor, questions.refused)
    except Exception as error:  # noqa: BLE001  # engines raise what they like on what they load
        return _not_chosen(path, built.engine, f"does not run: {_line(error)}")
    if problem:
        judged = _not_chosen(path, built.engine, problem, parity)
        return msgspec.structs.replace(judged, first_wrong=first_wrong, close=close)
    candidate = Candidate(
        engine=built.engine,
        chosen=False,
        reason="the same answers",
        parity=parity,
        one_row_ms=_median_ms(predictor, questions.reference, 1),
        batch_ms=_median_ms(predictor, questions.reference, BATCH_ROWS),
    )
    return Judged(candidate=candidate, path=path)


def choose(judged: list[Judged]) -> tuple[Judged, tuple[Candidate, ...]] | None:
    """The fastest that passed, and what to write down of all; none where none passed.

    Fastest is the smallest product of the times for one row and for a batch: twice as fast
    alone is worth as much as twice as fast in batches.
    """
    passed = [each for each in judged if each.passed]
    if not passed:
        return None
    best = min(passed, key=_cost)
    told = tuple(_told(each, best) for each in judged)
    return best, told


def describe_choice(manifest: Manifest) -> str:
    """The engine, its time for one row, and why it is not ONNX where it is not; one line."""
    text = manifest.engine
    for each in manifest.candidates:
        if each.chosen and each.one_row_ms is not None:
            text += f", {each.one_row_ms:.{1 if each.one_row_ms >= 1 else 3}f} ms a row"
    for each in manifest.candidates:
        if each.engine == "onnx" and not each.chosen:
            text += f"; not onnx: {shorten(each.reason, 160, placeholder=' …')}"
    return text


def _cost(judged: Judged) -> float:
    return (judged.candidate.one_row_ms or 0.0) * (judged.candidate.batch_ms or 0.0)


def _told(each: Judged, best: Judged) -> Candidate:
    if each is best:
        reason = "the same answers, and the fastest"
        return msgspec.structs.replace(each.candidate, chosen=True, reason=reason)
    if each.passed:
        return msgspec.structs.replace(each.candidate, reason="the same answers, but slower")
    return each.candidate


def _not_chosen(path: Path, engine: str, reason: str, parity: Parity | None = None) -> Judged:
    candidate = Candidate(engine=engine, chosen=False, reason=reason, parity=parity)
    return Judged(candidate=candidate, path=path)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"


def _differs(parity: Parity) -> str:
    return f"differs on {parity.mismatched} of {parity.rows} rows, by up to {parity.largest:.3g}"


def _parity(predictor: Predictor, reference: Reference) -> tuple[Parity, int | None, bool]:
    """Every recorded row, in batches; the first that differs; whether all are close at least."""
    ok = np.zeros(reference.rows, dtype=bool)
    close = True
    largest = 0.0
    for start in range(0, reference.rows, BATCH_ROWS):
        part = reference.take(slice(start, start + BATCH_ROWS))
        outputs = predictor.predict(part.inputs)
        found = difference(outputs, part.outputs, predictor.tolerance)
        if not found.ok.all():
            close &= bool(difference(outputs, part.outputs, USUAL_TOLERANCE).ok.all())
        ok[start : start + BATCH_ROWS] = found.ok
        largest = max(largest, float(found.largest.max()))
    mismatched = int((~ok).sum())
    first = int(np.argmin(ok)) if mismatched else None
    parity = Parity(rows=reference.rows, mismatched=mismatched, largest=largest)
    return parity, first, close and first is not None


def _singles(predictor: Predictor, reference: Reference) -> str:
    for row in spread(reference.rows, SINGLE_ROWS):
        one = reference.take(slice(int(row), int(row) + 1))
        if not predictor.matches(predictor.predict(one.inputs), one.outputs).all():
            return f"row {row} alone is answered differently than in a batch"
    return ""


def _probes(predictor: Predictor, probes: Reference) -> str:
    ok = predictor.matches(predictor.predict(probes.inputs), probes.outputs)
    if ok.all():
        return ""
    row = probes.take(slice(int(np.argmin(ok)), int(np.argmin(ok)) + 1))
    return (
        f"differs from the model on {int((~ok).sum())} of {probes.rows} made-up rows, first on "
        f"{describe_row(row.inputs)}"
    )


def _refusals(predictor: Predictor, refused: Reference) -> str:
    for index in range(refused.rows):
        row = refused.take(slice(index, index + 1)).inputs
        try:
            predictor.predict(row)
        except ServingError:
            continue
        return f"answers a row that the model refuses: {describe_row(row)}"
    return ""


def describe_row(row: Batch, most: int = 300) -> str:
    """One row for a person; long ones are cut."""
    text = ", ".join(f"{name}={_value(array[:1].tolist()[0])}" for name, array in row.items())
    return text if len(text) <= most else f"{text[:most]}…"


def _value(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124  # NaN is null
        return "null"
    return repr(value)


def _median_ms(predictor: Predictor, reference: Reference, rows: int) -> float:
    """Median time of one call with that many rows, milliseconds; bounded in time and calls."""
    wanted = np.arange(rows) % reference.rows
    batch = reference.take(wanted).inputs
    predictor.predict(batch)
    times: list[float] = []
    until = time.perf_counter() + _MEASURE_S
    while len(times) < _MEASURE_CALLS and (len(times) < 3 or time.perf_counter() < until):
        start = time.perf_counter()
        predictor.predict(batch)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000
