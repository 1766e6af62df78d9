"""Rows with the model's own predictions: parity oracle, load-test payload, drift baseline."""

from __future__ import annotations

import os
import secrets
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from headgate.errors import ArtifactError
from headgate.predictor.parity import spread
from headgate.predictor.signature import Array, Batch, Outputs, Task
from headgate.records import Record

__all__ = ["Reference"]

_REMEDY = "log it again with `headgate.log_reference`"


class _Contents(Record, frozen=True):
    """``reference.json``. Each name stands for an array in ``reference.npz``, or for strings."""

    format: Literal[1]
    task: Task
    classes: tuple[str | int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    labels: bool
    strings: dict[str, list[str | None]]
    """String arrays of one dimension, by key. JSON keeps null apart from ``"nan"`` and ``"None"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Held-out rows, what the model as trained predicted for them, and maybe the truth."""

    inputs: Batch
    outputs: Outputs
    task: Task
    labels: Array | None = None
    classes: tuple[str | int, ...] = ()

    FILES: ClassVar[tuple[str, str]] = ("reference.json", "reference.npz")

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return max((len(array) for array in self.inputs.values()), default=0)

    def take(self, rows: slice | npt.NDArray[np.int64]) -> Reference:
        """Those rows of it."""
        return Reference(
            inputs={name: array[rows] for name, array in self.inputs.items()},
            outputs={name: array[rows] for name, array in self.outputs.items()},
            task=self.task,
            labels=None if self.labels is None else self.labels[rows],
            classes=self.classes,
        )

    def sample(self, rows: int) -> Reference:
        """At most ``rows`` of its rows, evenly spread, without labels: fit to travel."""
        few = self.take(spread(self.rows, rows))
        return Reference(
            inputs=few.inputs, outputs=few.outputs, task=self.task, classes=self.classes
        )

    def save(self, folder: Path) -> None:
        """Write ``reference.npz`` and ``reference.json`` into ``folder``, the latter last.

        Equal references make equal files. Nothing is pickled.
        """
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Array] = {}
        strings: dict[str, list[str | None]] = {}
        for key, array in self._keyed().items():
            if array.dtype.kind in "OU":
                strings[key] = array.tolist()
            else:
                arrays[key] = np.ascontiguousarray(array)
        contents = _Contents(
            format=1,
            task=self.task,
            classes=self.classes,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            labels=self.labels is not None,
            strings=strings,
        )
        json_file, npz_file = (folder / name for name in self.FILES)
        partial = folder / f".{secrets.token_hex(4)}.partial"
        try:
            with partial.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            partial.rename(npz_file)
            with partial.open("wb") as file:
                file.write(msgspec.json.encode(contents))
                file.flush()
                os.fsync(file.fileno())
            partial.rename(json_file)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path) -> Reference:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: it is not there, or not what was written.
        """
        try:
            reference = cls._read(folder)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ArtifactError(
                f"no readable reference ({error})", where=str(folder), remedy=_REMEDY
            ) from None
        arrays = [*reference.inputs.values(), *reference.outputs.values()]
        counts = {len(array) for array in arrays}
        if len(counts) != 1:
            raise ArtifactError(
                f"arrays of different numbers of rows: {sorted(counts)}",
                where=str(folder),
                remedy=_REMEDY,
            )
        return reference

    @classmethod
    def _read(cls, folder: Path) -> Reference:
        json_file, npz_file = (folder / name for name in cls.FILES)
        contents = msgspec.json.decode(json_file.read_bytes(), type=_Contents)
        with npz_file.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            arrays: dict[str, Array] = {key: npz[key] for key in npz.files}
        for key, values in contents.strings.items():
            arrays[key] = np.array([*values, None], dtype=object)[:-1]
        return cls(
            inputs={name: arrays[f"in{i}"] for i, name in enumerate(contents.inputs)},
            outputs={name: arrays[f"out{i}"] for i, name in enumerate(contents.outputs)},
            labels=arrays["labels"] if contents.labels else None,
            task=contents.task,
            classes=contents.classes,
        )

    def _keyed(self) -> dict[str, Array]:
        """Every array by its key in the files; names may hold anything, keys do not."""
        keyed: dict[str, Any] = {f"in{i}": array for i, array in enumerate(self.inputs.values())}
        keyed |= {f"out{i}": array for i, array in enumerate(self.outputs.values())}
        if self.labels is not None:
            keyed["labels"] = self.labels
        return keyed
