"""What runs a packaged model: one file an engine, its library imported when one is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from headgate.errors import ArtifactError

if TYPE_CHECKING:
    from headgate.predictor.artifact import Manifest
    from headgate.predictor.signature import Batch, Outputs

__all__ = ["Engine", "open_engine"]


class Engine(Protocol):
    """What every engine can do. Safe to call from several threads at once."""

    def predict(self, batch: Batch) -> Outputs:
        """Outputs in the signature's names, types and shapes for a valid batch."""
        ...


def open_engine(path: Path, manifest: Manifest, threads: int, device: str) -> Engine:
    """The engine of the artifact at ``path``, its model loaded.

    Raises:
        ArtifactError: an unknown engine, or a model it cannot load.
        ImportError: its library is not installed.
    """
    if manifest.engine == "onnx":
        from headgate.predictor.engines.onnx import OnnxEngine

        return OnnxEngine(path, manifest, threads, device)
    if manifest.engine == "sklearn":
        from headgate.predictor.engines.sklearn import SklearnEngine

        return SklearnEngine(path, manifest, threads)
    if manifest.engine == "torch":
        from headgate.predictor.engines.torch import TorchEngine

        return TorchEngine(path, manifest, threads, device)
    raise ArtifactError(
        f"unknown engine {manifest.engine!r}",
        where=str(path),
        remedy="serve it with the Headgate that built it, or build again",
    )
