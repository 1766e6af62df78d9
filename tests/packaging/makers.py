"""Registered models without a registry: MLflow's own folders, and the tries of the packaging.

The makers of this room are imported as ``tests.packaging.…``: ``packaging`` alone is the name of
a distribution on PyPI.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headgate.config import ModelConfig, PackagingConfig, SloConfig
from headgate.packaging.candidates import Judged, Questions, choose, judge_candidate
from headgate.packaging.child import _carry_out
from headgate.packaging.exchange import PROBES, REFUSED, Job, Result
from headgate.packaging.signature import fit_reference, signature_of
from headgate.predictor import Batch, Manifest, Outputs, Parity, Predictor, Reference, Signature
from headgate.records import ModelRef

REF = ModelRef(name="late-flights", version="3", run_id="0" * 32, digest="sha256:" + "ab" * 32)


def make_config(**packaging: Any) -> ModelConfig:
    """What a ``model.toml`` with this ``[packaging]`` holds."""
    slo = SloConfig(p95_ms=50, min_rps=20)
    return ModelConfig(name=REF.name, slo=slo, packaging=PackagingConfig(**packaging))


def log_sklearn(folder: Path, model: Any, serialization: str = "skops") -> Path:
    """The folder that MLflow logs the model as; its file asks to trust whatever it needs."""
    import skops.io

    wanted = {}
    if serialization == "skops":
        types = skops.io.get_untrusted_types(data=skops.io.dumps(model))
        wanted = {"skops_trusted_types": types}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        import mlflow.sklearn

        mlflow.sklearn.save_model(
            model, folder, serialization_format=serialization, pip_requirements=[], **wanted
        )
    return folder


def write_mlmodel(folder: Path, **flavors: dict[str, Any]) -> Path:
    """A model's folder with nothing in it but an ``MLmodel`` of these flavors."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "mlflow_version": "3.1"}))
    return folder


def write_pickled(folder: Path, content: bytes, name: str = "model.pkl") -> Path:
    """A model's folder whose scikit-learn model is this pickle."""
    flavor = {"pickled_model": name, "serialization_format": "cloudpickle", "sklearn_version": "1"}
    write_mlmodel(folder, sklearn=flavor)
    (folder / name).write_bytes(content)
    return folder


def tabular(inputs: Batch, outputs: Outputs, classes: Sequence[str | int] = ()) -> Reference:
    """A reference of a classifier where there are classes, else of a regressor."""
    task = "classification" if len(classes) else "regression"
    return Reference(inputs=inputs, outputs=outputs, task=task, classes=tuple(classes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Tried:
    """What became of each engine."""

    signature: Signature
    questions: Questions
    result: Result
    judged: dict[str, Judged]

    @property
    def chosen(self) -> str:
        """The engine that would be taken; empty where none would."""
        found = choose(list(self.judged.values()))
        return found[0].candidate.engine if found else ""

    def reason(self, engine: str) -> str:
        """What is told about the engine."""
        return self.judged[engine].candidate.reason

    def predictor(self, engine: str) -> Predictor:
        """The engine's predictor, whether it passed or not."""
        return Predictor.open(self.judged[engine].path)


def try_engines(folder: Path, job: Job, reference: Reference) -> Tried:
    """Build every candidate in this process and judge it, as `package` does with a child's."""
    reference = fit_reference(reference, job.signature)
    folder.mkdir()
    with warnings.catch_warnings():
        # Converters warn of their own doings; in the child, nobody makes errors of that.
        warnings.simplefilter("ignore")
        result = _carry_out(folder, job, reference)
    base = Manifest(
        ref=REF,
        engine="",
        signature=job.signature,
        tolerance=job.tolerance,
        parity=Parity(rows=0, mismatched=0, largest=0.0),
    )
    kept = {
        name: Reference.load(folder / name) if (folder / name).is_dir() else None
        for name in (PROBES, REFUSED)
    }
    questions = Questions(reference=reference, probes=kept[PROBES], refused=kept[REFUSED])
    judged = {each.engine: judge_candidate(folder, each, base, questions) for each in result.built}
    return Tried(signature=job.signature, questions=questions, result=result, judged=judged)


def try_sklearn(folder: Path, model: Any, reference: Reference, **job: Any) -> Tried:
    """:func:`try_engines` for a fitted scikit-learn model."""
    import skops.io

    skops.io.dump(model, folder / "model.skops")
    job = {"tolerance": 1e-5, "wanted": ("onnx", "sklearn"), **job}
    return try_engines(
        folder / "work",
        Job(
            flavor="sklearn",
            format="skops",
            file=str(folder / "model.skops"),
            signature=signature_of((), reference),
            **job,
        ),
        reference,
    )


def objects(values: Sequence[Any]) -> np.ndarray:
    """An object array of exactly these values, one dimension."""
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array
