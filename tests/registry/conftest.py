from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.registry import Registry


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with its schema: making one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("HEADGATE_HOME", str(folder))
        Registry.open(folder).events()
    return folder / "mlflow.db"


@pytest.fixture
def root(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bundle's root with an embedded registry."""
    for name in ("MLFLOW_TRACKING_URI", "_MLFLOW_SERVER_ARTIFACT_ROOT", "HEADGATE_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / ".headgate").mkdir()
    shutil.copy(empty_store, tmp_path / ".headgate" / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "mlruns").exists()
