"""A registry with a tiny model in it, made with plain MLflow."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np

from headgate.predictor import Reference
from headgate.records import Event, EventKind, Outcome, Release, Verdict
from headgate.registry.versions import REFERENCE

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def register(name: str, *, reference: bool = True, content: str = "weights") -> str:
    """Register a folder that looks like a model; returns the version."""
    import mlflow
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("models")
    eid = experiment.experiment_id if experiment else client.create_experiment("models")
    run = client.create_run(eid)
    client.log_text(run.info.run_id, content, "model/weights.txt")
    client.log_text(run.info.run_id, "flavors: {}\n", "model/MLmodel")
    if reference:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            Reference(
                inputs={"x": np.arange(3, dtype=np.float32)},
                outputs={"prediction": np.arange(3, dtype=np.float32)},
                task="regression",
            ).save(Path(folder))
            client.log_artifacts(run.info.run_id, folder, REFERENCE)
    client.set_terminated(run.info.run_id)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    source = mlflow.get_run(run.info.run_id).info.artifact_uri + "/model"
    return str(client.create_model_version(name, source, run.info.run_id).version)


def release(name: str, *models: object) -> Release:
    return Release(tag=f"headgate:{name}", digest=f"sha256:{name}", models=models)  # type: ignore[arg-type]


def event(number: int, kind: EventKind = EventKind.PROMOTED, of: Release | None = None) -> Event:
    of = of or release("a")
    verdict = Verdict(
        release=of.tag,
        digest=of.digest,
        outcome=Outcome.PASS,
        reason="all is well",
        samples=400,
        profile="quick",
        at=NOW,
    )
    return Event(
        id=f"{number:020d}-00",
        at=NOW,
        kind=kind,
        release=of,
        who="ops",
        why=f"reason {number}",
        verdict=verdict if kind is EventKind.GATED else None,
    )
