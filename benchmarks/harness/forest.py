"""The model of the benchmarks: a random forest on scikit-learn's breast cancer data.

Fitted once, packaged by Headgate's own packaging, converted and unconverted. Peers get the very
same graph and the very same estimator.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from headgate.config import ModelConfig, PackagingConfig, SloConfig
from headgate.packaging import assemble_bundle, package
from headgate.predictor import Reference
from headgate.records import ModelRef

__all__ = ["INPUT", "NAME", "Engine", "Forest", "Regressor", "make_forest", "make_regressor"]

Engine = Literal["onnx", "sklearn"]
Rows = npt.NDArray[np.float32]

NAME, INPUT = "forest", "input"
ROOT = Path(__file__).resolve().parents[2]
_ENGINES: dict[Engine, Literal["onnx", "native"]] = {"onnx": "onnx", "sklearn": "native"}


@dataclass(frozen=True, kw_only=True)
class Forest:
    """The fitted classifier and where its files lie."""

    folder: Path
    """With ``forest.onnx``, ``forest.joblib`` and an artifact for each engine."""
    model: Any
    rows: Rows
    """Reference rows, ``(n, 30)``: what is sent."""
    labels: npt.NDArray[np.int64]
    probabilities: Rows
    """The estimator's own answers to them, ``(n, 2)``."""

    def make_root(self, root: Path, engine: Engine) -> Path:
        """A bundle that holds this forest alone."""
        return make_root(root, [(NAME, self.folder / engine)])


@dataclass(frozen=True, kw_only=True)
class Regressor:
    """A fitted regressor, which has an answer of its own for nearly every row."""

    folder: Path
    model: Any
    rows: Rows
    """Rows to mix others from."""


def make_forest(folder: Path, *, reference_rows: int = 64, trees: int = 100) -> Forest:
    """Fit and package it into ``folder``."""
    import joblib  # type: ignore[import-untyped]
    from sklearn.ensemble import RandomForestClassifier

    x, y = _data()
    model = RandomForestClassifier(n_estimators=trees, random_state=0, n_jobs=1).fit(x, y)
    outputs = {
        "label": model.predict(x).astype(np.int64),
        "probabilities": model.predict_proba(x).astype(np.float32),
    }
    reference = Reference(inputs={INPUT: x}, outputs=outputs, task="classification", classes=(0, 1))
    for engine in _ENGINES:
        _package(folder, model, reference, NAME, engine)
    shutil.copyfile(folder / "onnx" / "model.onnx", folder / "forest.onnx")
    joblib.dump(model, folder / "forest.joblib")
    few = reference.sample(reference_rows)
    return Forest(
        folder=folder,
        model=model,
        rows=few.inputs[INPUT],
        labels=few.outputs["label"],
        probabilities=few.outputs["probabilities"],
    )


def make_regressor(folder: Path, name: str) -> Regressor:
    """Fit and package it into ``folder``, as ``name`` converted and ``name-sklearn`` not."""
    from sklearn.ensemble import RandomForestRegressor

    x, _ = _data()
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    target = scaled @ np.random.default_rng(0).normal(size=x.shape[1])
    model = RandomForestRegressor(n_estimators=50, random_state=0, n_jobs=1).fit(x, target)
    outputs = {"value": model.predict(x)}
    reference = Reference(inputs={INPUT: x}, outputs=outputs, task="regression")
    _package(folder, model, reference, name, "onnx")
    _package(folder, model, reference, f"{name}-sklearn", "sklearn")
    return Regressor(folder=folder, model=model, rows=x)


def make_root(root: Path, models: Sequence[tuple[str, Path]], serving: str = "") -> Path:
    """A bundle of packaged models, as `make ship` leaves it.

    ``serving`` are lines of every model's ``[serving]``.
    """
    for name, _ in models:
        room = root / "models" / name
        room.mkdir(parents=True)
        (room / "model.toml").write_text(
            f'name = "{name}"\n\n[slo]\np95_ms = 50\nmin_rps = 20\n\n[serving]\n{serving}'
        )
    assemble_bundle(root / ".headgate" / "bundle", models)
    shutil.copytree(ROOT / "requirements", root / "requirements")
    for file in ("service.py", "bentofile.yaml"):
        shutil.copy(ROOT / file, root / file)
    (root / "headgate.toml").write_text("[gate.profiles.quick]\nrate = 50\n")
    return root


def _data() -> tuple[Rows, npt.NDArray[np.int64]]:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return x.astype(np.float32), y.astype(np.int64)


def _package(folder: Path, model: Any, reference: Reference, name: str, engine: Engine) -> None:
    # The regressor's values are tens of times a probability's.
    tolerance = 1e-5 if reference.task == "classification" else 1e-4
    saved = folder / "mlflow"
    if not saved.is_dir():
        _save(model, saved)
    content = (saved / "model.skops").read_bytes()
    ref = ModelRef(
        name=name,
        version="1",
        run_id="0" * 32,
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
    )
    config = ModelConfig(
        name=name,
        slo=SloConfig(p95_ms=50, min_rps=20),
        packaging=PackagingConfig(engine=_ENGINES[engine], tolerance=tolerance),
    )
    package(ref, saved, reference, config, room=None, out=folder / engine)


def _save(model: Any, folder: Path) -> None:
    import skops.io

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        import mlflow.sklearn

        mlflow.sklearn.save_model(
            model,
            folder,
            pip_requirements=[],
            skops_trusted_types=skops.io.get_untrusted_types(data=skops.io.dumps(model)),
        )
