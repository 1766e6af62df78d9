from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from headgate.packaging import candidates, child, isolation
from headgate.packaging.exchange import JOB, Job, Result


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """`package` without a process of its own, where that is not what is tested; its jobs."""
    jobs: list[Job] = []

    def run(folder: Path, job: Job) -> Result:
        jobs.append(job)
        (folder / JOB).write_bytes(msgspec.json.encode(job))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in a process of its own
            child.main(folder)
        return isolation._result(folder, job.file, 0)

    monkeypatch.setattr(child, "_limit", lambda: None)
    module = importlib.import_module("headgate.packaging.package")
    monkeypatch.setattr(module, "run_child", run)
    return jobs


Left = Callable[[Path], list[str]]


@pytest.fixture
def left() -> Left:
    """What lies in a folder, hidden or not."""
    return lambda folder: sorted(path.name for path in folder.iterdir())


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two right engines is the faster one is not what is tested."""
    monkeypatch.setattr(candidates, "_MEASURE_S", 0)
