"""The packaged model itself: what every way of running it calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from headgate.errors import ArtifactError, ServingError
from headgate.predictor.artifact import REFERENCE, Manifest, read_manifest, verify_files
from headgate.predictor.engines import open_engine
from headgate.predictor.parity import difference
from headgate.predictor.reference import Reference

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from headgate.predictor.engines import Engine
    from headgate.predictor.signature import Batch, Outputs, Signature
    from headgate.records import ModelRef

__all__ = ["Predictor", "Replay", "read_reference"]

REPLAY_ROWS = 64
"""Reference rows replayed in one call of the engine."""


class Replay(NamedTuple):
    """What replaying reference rows came to."""

    rows: int
    mismatched: int
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A packaged model, ready to predict. Thread-safe; keeps no state between calls."""

    ref: ModelRef
    signature: Signature
    engine: str
    path: Path
    reference: Reference | None
    tolerance: float
    manifest: Manifest
    _engine: Engine

    @classmethod
    def open(cls, path: Path, *, threads: int = 1, device: str = "cpu") -> Predictor:
        """Open the artifact at ``path``; ``threads`` is what one call may use.

        ``device`` is ``cpu`` or ``cuda``; scikit-learn runs on the CPU whatever it says.

        Raises:
            ArtifactError: it is missing, incomplete or altered, or its engine's library or
                the device is not there.
        """
        manifest = read_manifest(path)
        verify_files(path, manifest)
        return cls(
            ref=manifest.ref,
            signature=manifest.signature,
            engine=manifest.engine,
            path=path,
            reference=read_reference(path, manifest),
            tolerance=manifest.tolerance,
            manifest=manifest,
            _engine=_open_engine(path, manifest, threads, device),
        )

    def predict(self, batch: Batch) -> Outputs:
        """Predictions for a valid batch, as many rows as it has.

        Raises:
            ServingError: the engine failed, or answered with another number of rows.
        """
        try:
            outputs = self._engine.predict(batch)
        except Exception as error:
            raise ServingError(
                f"the {self.engine} engine failed: {type(error).__name__}: {error}",
                where=f"{self.ref.name} version {self.ref.version}",
            ) from error
        for array in batch.values():
            rows = array.shape[0]
            break
        for name, array in outputs.items():
            if array.shape[:1] != (rows,):
                found = array.shape[0] if array.ndim else 0
                raise ServingError(
                    f"{found} rows of {name} for {rows} rows of input",
                    where=f"{self.ref.name} version {self.ref.version}",
                )
        return outputs

    def replay(self, rows: slice | None = None) -> Replay:
        """Predict reference rows and compare; no reference, or no such rows, is 0 rows.

        Raises:
            ServingError: as :meth:`predict`.
        """
        if self.reference is None:
            return Replay(0, 0, 0.0)
        chosen = self.reference if rows is None else self.reference.take(rows)
        mismatched, largest = 0, 0.0
        for start in range(0, chosen.rows, REPLAY_ROWS):
            part = chosen.take(slice(start, start + REPLAY_ROWS))
            found = difference(self.predict(part.inputs), part.outputs, self.tolerance)
            mismatched += int((~found.ok).sum())
            largest = max(largest, float(found.largest.max()))
        return Replay(chosen.rows, mismatched, largest)

    def matches(self, outputs: Outputs, expected: Outputs) -> npt.NDArray[np.bool_]:
        """For each row whether labels are equal and numbers within the tolerance."""
        return difference(outputs, expected, self.tolerance).ok


def read_reference(path: Path, manifest: Manifest) -> Reference | None:
    """The reference rows that travel with the model packaged at ``path``, where any do."""
    if not any(name.startswith(f"{REFERENCE}/") for name in manifest.files):
        return None
    return Reference.load(path / REFERENCE)


def _open_engine(path: Path, manifest: Manifest, threads: int, device: str) -> Engine:
    try:
        return open_engine(path, manifest, threads, device)
    except ImportError as error:
        raise ArtifactError(
            f"its engine needs {error.name or error}, which is not installed",
            where=str(path),
            remedy=f'pip install "headgate[{manifest.engine}]"',
        ) from error
