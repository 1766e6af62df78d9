"""An artifact is made once for the same model and settings; half an artifact is none."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from headgate.config import ServingConfig
from headgate.errors import ParityError
from headgate.packaging import cached_package
from headgate.predictor import Predictor, Reference, read_manifest
from tests.packaging.makers import REF, log_sklearn, make_config, tabular

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Fetched:
    model: Path
    reference: Path


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Fetched:
    folder = tmp_path_factory.mktemp("logged")
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    model = LinearRegression().fit(x, x.sum(axis=1))
    tabular({"x": x}, {"prediction": model.predict(x)}).save(folder / "reference")
    return Fetched(log_sklearn(folder / "model", model), folder / "reference")


@pytest.fixture
def room(tmp_path: Path) -> Path:
    folder = tmp_path / "room"
    folder.mkdir()
    (folder / "own.py").write_text("ANSWER = 41\n")
    return folder


NATIVE = make_config(engine="native", module="own.py")


def test_the_same_again_is_taken_from_the_cache(
    tmp_path: Path, logged: Fetched, room: Path, in_process: Any, left
) -> None:
    cache = tmp_path / "cache"
    first = cached_package(cache, REF, logged, NATIVE, room)
    assert read_manifest(first).ref == REF
    assert first.name.startswith(REF.digest.removeprefix("sha256:"))
    stamp = (first / "predictor.json").stat().st_mtime_ns
    again = cached_package(cache, REF, logged, NATIVE, room)
    assert again == first
    assert (again / "predictor.json").stat().st_mtime_ns == stamp
    assert len(in_process) == 1
    assert left(cache) == [first.name]


def test_what_does_not_change_the_artifact_does_not_miss(
    tmp_path: Path, logged: Fetched, room: Path, in_process: Any
) -> None:
    cache = tmp_path / "cache"
    first = cached_package(cache, REF, logged, NATIVE, room)
    serving = msgspec.structs.replace(NATIVE, serving=ServingConfig(deadline_ms=7), description="x")
    assert cached_package(cache, REF, logged, serving, room) == first
    assert len(in_process) == 1


@pytest.mark.parametrize("what", ["setting", "module", "version", "digest"])
def test_what_changes_the_artifact_misses(
    tmp_path: Path, logged: Fetched, room: Path, in_process: Any, what: str
) -> None:
    cache, config, ref = tmp_path / "cache", NATIVE, REF
    first = cached_package(cache, ref, logged, config, room)
    if what == "setting":
        config = make_config(engine="native", module="own.py", reference_rows=3)
    elif what == "module":
        (room / "own.py").write_text("ANSWER = 42\n")
    elif what == "version":
        ref = msgspec.structs.replace(ref, version="4")
    else:
        ref = msgspec.structs.replace(ref, digest="sha256:" + "cd" * 32)
    second = cached_package(cache, ref, logged, config, room)
    assert second != first
    assert read_manifest(second).ref == ref
    assert len(in_process) == 2
    assert Predictor.open(first).replay().rows == 50


@pytest.mark.parametrize("damage", ["no manifest", "half a manifest", "cut", "missing", "extra"])
def test_a_damaged_entry_is_made_anew(
    tmp_path: Path, logged: Fetched, room: Path, in_process: Any, damage: str
) -> None:
    cache = tmp_path / "cache"
    entry = cached_package(cache, REF, logged, NATIVE, room)
    manifest, model = entry / "predictor.json", entry / "model.skops"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "half a manifest":
        manifest.write_bytes(manifest.read_bytes()[:100])
    elif damage == "cut":
        model.write_bytes(model.read_bytes()[:100])
    elif damage == "missing":
        shutil.rmtree(entry / "reference")
    else:
        (entry / "more").write_text("")
    assert cached_package(cache, REF, logged, NATIVE, room) == entry
    assert len(in_process) == 2
    assert Predictor.open(entry).replay().mismatched == 0
    assert [path.name for path in cache.iterdir()] == [entry.name]


def test_a_refusal_leaves_nothing(
    tmp_path: Path, logged: Fetched, room: Path, in_process: Any, left
) -> None:
    reference = Reference.load(logged.reference)
    wrong = {"prediction": reference.outputs["prediction"] + 1}
    tabular(reference.inputs, wrong).save(tmp_path / "wrong")
    for _ in range(2):
        with pytest.raises(ParityError, match="50 of 50 rows differ"):
            cached_package(
                tmp_path / "cache", REF, Fetched(logged.model, tmp_path / "wrong"), NATIVE, room
            )
    assert left(tmp_path / "cache") == []


KILLED = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import msgspec
from headgate.config import ModelConfig
from headgate.packaging import cached_package
from headgate.records import ModelRef

given = json.load(sys.stdin)
fetched = SimpleNamespace(model=Path(given["model"]), reference=Path(given["reference"]))
ref = msgspec.convert(given["ref"], ModelRef)
config = msgspec.convert(given["config"], ModelConfig)
cached_package(Path(given["cache"]), ref, fetched, config, Path(given["room"]))
"""


def test_a_killed_packaging_leaves_no_entry(
    tmp_path: Path, logged: Fetched, room: Path, in_process: Any, left
) -> None:
    """Killed while its child is at work, which tells so, and waits once."""
    cache, told = tmp_path / "cache", tmp_path / "told"
    os.mkfifo(told)
    (room / "own.py").write_text(
        "import os, pathlib, signal\n"
        f"told, once = pathlib.Path({str(told)!r}), pathlib.Path({str(tmp_path / 'once')!r})\n"
        "if not once.exists():\n"
        "    once.touch()\n"
        "    told.write_text(str(os.getpid()))\n"
        "    signal.pause()\n"
    )
    given = {
        "model": str(logged.model),
        "reference": str(logged.reference),
        "cache": str(cache),
        "room": str(room),
        "ref": msgspec.to_builtins(REF),
        "config": msgspec.to_builtins(NATIVE),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(given).encode())
    process.stdin.close()
    child = int(told.read_text())  # blocks until the child has got there
    process.kill()
    process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    (remains,) = left(cache)
    assert remains.startswith(f".{REF.digest.removeprefix('sha256:')}")
    entry = cached_package(cache, REF, logged, NATIVE, room)
    assert len(in_process) == 1
    assert Predictor.open(entry).replay().mismatched == 0
    assert left(cache) == [entry.name]
