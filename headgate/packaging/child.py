"""The child's program: open the model, run it on its reference, build every candidate.

``python -m headgate.packaging.child FOLDER``; :mod:`headgate.packaging.exchange` says what lies
in the folder. Runs without credentials, in a session of its own, within limits.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from headgate.errors import UnsafeModelError
from headgate.packaging.exchange import (
    JOB,
    NATIVE,
    PROBES,
    REFERENCE,
    REFUSED,
    RESULT,
    Built,
    Job,
    Result,
)
from headgate.packaging.probes import make_probes
from headgate.predictor import Batch, Outputs, Reference

__all__ = ["main"]

CPU_S = 600
FILE_BYTES = 8 << 30


class Opened(Protocol):
    """A model that was opened, whatever its flavor."""

    def predict(self, batch: Batch) -> Outputs:
        """The model's own predictions, in the signature's names and types."""
        ...

    def build(self, engine: str, folder: Path) -> Built:
        """Write the candidate's files into ``folder``; raises whatever its converter raises."""
        ...


def main(folder: Path) -> None:
    """Carry out the job in ``folder``."""
    _limit()
    job = msgspec.json.decode((folder / JOB).read_bytes(), type=Job)
    reference = Reference.load(folder / REFERENCE)
    try:
        result = _carry_out(folder, job, reference)
    except UnsafeModelError as error:
        result = Result(error=error.what, unsafe=True)
    except Exception as error:  # noqa: BLE001  # a model may raise anything at all
        result = Result(error=_line(error))
    (folder / RESULT).write_bytes(msgspec.json.encode(result))


def _carry_out(folder: Path, job: Job, reference: Reference) -> Result:
    opened = _open(job, reference)
    _save(folder / NATIVE, reference.inputs, opened.predict(reference.inputs), job)
    probes = make_probes(job.signature, reference)
    if probes is not None:
        _ask(folder, job, probes, opened.predict)
    return Result(built=tuple(_build(opened, engine, folder) for engine in job.wanted))


def _open(job: Job, reference: Reference) -> Opened:
    if job.flavor == "sklearn":
        from headgate.packaging.sklearn_model import SklearnModel

        return SklearnModel(job, reference)
    from headgate.packaging.torch_model import TorchModel

    return TorchModel(job, reference)


def _ask(folder: Path, job: Job, probes: Batch, predict: Callable[[Batch], Outputs]) -> None:
    """Predict made-up rows; those that the model refuses are kept apart."""
    rows = len(next(iter(probes.values())))
    try:
        _save(folder / PROBES, probes, predict(probes), job)
    except Exception:  # noqa: BLE001  # one refused row refuses them all, so ask one by one
        answers = [_one(probes, row, predict) for row in range(rows)]
        good = np.array([row for row in range(rows) if answers[row] is not None], dtype=np.int64)
        bad = np.setdiff1d(np.arange(rows), good)
        _save(folder / REFUSED, {name: array[bad] for name, array in probes.items()}, {}, job)
        if len(good):
            each = [answer for answer in answers if answer is not None]
            outputs = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
            inputs = {name: array[good] for name, array in probes.items()}
            _save(folder / PROBES, inputs, outputs, job)


def _one(probes: Batch, row: int, predict: Callable[[Batch], Outputs]) -> Outputs | None:
    try:
        return predict({name: array[row : row + 1] for name, array in probes.items()})
    except Exception:  # noqa: BLE001
        return None


def _save(folder: Path, inputs: Batch, outputs: Outputs, job: Job) -> None:
    Reference(
        inputs=inputs, outputs=outputs, task=job.signature.task, classes=job.signature.classes
    ).save(folder)


def _build(opened: Opened, engine: str, folder: Path) -> Built:
    target = folder / engine
    target.mkdir()
    try:
        return opened.build(engine, target)
    except Exception as error:  # noqa: BLE001  # converters raise what they like
        return Built(engine=engine, refused=_line(error))


def _limit() -> None:
    """Bound processor time and file sizes, and leave no core file with a model in it."""
    for kind, most in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, hard))


def _line(error: Exception) -> str:
    """An exception in one line, as short as a person wants it."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:400]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
