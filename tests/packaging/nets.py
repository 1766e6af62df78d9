"""Small torch modules, and the folders of logged ones."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headgate.packaging.audit import room_names
from headgate.packaging.exchange import Job
from headgate.packaging.signature import signature_of
from headgate.predictor import Reference
from tests.packaging.makers import Tried, try_engines

SOURCE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
        )
        self.register_buffer("mean", torch.full((4,), 0.25))

    def forward(self, x):
        return self.layers(x - self.mean)
"""
CLASSES = ("a", "b", "c")


def write_source(folder: Path, source: str = SOURCE) -> Path:
    """The module file of a room."""
    folder.mkdir(exist_ok=True)
    (folder / "net.py").write_text(source)
    return folder / "net.py"


def make_net(name: str = "net", source: str = SOURCE) -> Any:
    """A module as the training script has it, imported from ``net`` or defined in ``__main__``."""
    home = types.ModuleType(name)
    exec(source, vars(home))  # noqa: S102
    torch.manual_seed(0)
    return home.Net().eval()


def save_whole(path: Path, net: Any, patch: pytest.MonkeyPatch) -> Path:
    """What ``torch.save`` makes of a whole module: a pickle that names its class."""
    with _importable(net, patch):
        torch.save(net, path)
    return path


def log_torch(folder: Path, net: Any, patch: pytest.MonkeyPatch) -> Path:
    """The folder that MLflow logs the whole module as."""
    with _importable(net, patch), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        import mlflow.pytorch

        mlflow.pytorch.save_model(net, folder, serialization_format="pickle", pip_requirements=[])
    return folder


@contextmanager
def _importable(net: Any, patch: pytest.MonkeyPatch) -> Iterator[None]:
    home = types.ModuleType(type(net).__module__)
    home.Net = type(net)
    with patch.context() as now:
        now.setitem(sys.modules, home.__name__, home)
        yield


def export(path: Path, net: Any, *examples: torch.Tensor) -> Path:
    """What MLflow logs with ``serialization_format="pt2"``."""
    rows = tuple({0: torch.export.Dim.AUTO} for _ in examples)
    torch.export.save(torch.export.export(net, examples, dynamic_shapes=rows), path)
    return path


def make_rows(rows: int = 90) -> np.ndarray:
    """Four numbers a row."""
    return np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)


def classified(net: Any, x: np.ndarray, *, softmax: bool = True) -> Reference:
    """The module's answer as probabilities of :data:`CLASSES`."""
    with torch.no_grad():
        answer = net(torch.from_numpy(x))
    likely = (torch.softmax(answer, -1) if softmax else answer).numpy()
    labels = np.array([*CLASSES, None], dtype=object)[likely.argmax(1)]
    return Reference(
        inputs={"x": x},
        outputs={"label": labels, "probabilities": likely},
        task="classification",
        classes=CLASSES,
    )


def try_torch(
    folder: Path,
    file: Path,
    reference: Reference,
    module: Path | None = None,
    wanted: tuple[str, ...] = ("onnx", "torch"),
) -> Tried:
    """Build and judge the engines in this process."""
    job = Job(
        flavor="torch",
        format="pt2" if file.suffix == ".pt2" else "torch",
        file=str(file),
        signature=signature_of((), reference),
        tolerance=1e-5,
        wanted=wanted,
        module=str(module or ""),
        room=tuple(room_names(module, functions=False)),
    )
    return try_engines(folder, job, reference)
