from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from e2e import commands

from headgate.predictor import Reference
from headgate.registry.versions import REFERENCE

ROOT = Path(__file__).parents[2]
FLIGHTS = ROOT / "models" / "flight-delay"
MODULES = ("data", "train", "net")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with its schema: making one takes seconds, copying it none."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An MLflow store of the test's own, in force; returns its URI."""
    import mlflow

    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    # Set and unset, so that what MLflow writes into the environment ends with the test.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.create_experiment("tests", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("tests")
    yield uri
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture
def logged(store: str) -> Callable[..., Reference]:
    """Calls `log_reference` in a run; returns what can be read back."""

    def log(*args: Any, **kwargs: Any) -> Reference:
        import mlflow

        import headgate

        with mlflow.start_run() as run:
            headgate.log_reference(*args, **kwargs)
        folder = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path=REFERENCE
        )
        return Reference.load(Path(folder))

    return log


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], ModuleType]]:
    """Imports a training script the way Python runs it: its own folder comes first."""
    path = sys.path.copy()
    kept = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}

    def load(file: Path) -> ModuleType:
        sys.path.insert(0, str(file.parent))
        spec = importlib.util.spec_from_file_location(f"script_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield load
    sys.path[:] = path
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


@dataclass
class Trained:
    """A store that a script, run as a user runs it, has registered a version in."""

    uri: str
    output: str


@pytest.fixture
def run_script(tmp_path: Path, empty_store: Path) -> Callable[[Path], Trained]:
    def run(file: Path) -> Trained:
        shutil.copy(empty_store, tmp_path / "mlflow.db")
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "MLFLOW_TRACKING_URI": uri,
            # Threads that wait for each other take far longer beside other tests.
            "OMP_NUM_THREADS": "1",
        }
        done = commands.script(file, cwd=tmp_path, env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        return Trained(uri, done.stdout)

    return run
