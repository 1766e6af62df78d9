"""``load_tests/``: under the gate, and by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from gate.loads import asked, measured, subject
from gate.server import serving
from predictor.factory import NAMES, make_artifact, make_bundle

from headgate.config import LoadProfile
from headgate.gate.link import LOAD

LOAD_TESTS = Path(__file__).parents[2] / "load_tests"
SHAPES = ["steady", "ramp", "spike", "soak"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with nothing in it but load tests."""
    shutil.copytree(
        LOAD_TESTS, tmp_path / "load_tests", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def by_hand(
    bundle: Path, *arguments: str, shape: str | None = None, enough: threading.Event | None = None
) -> subprocess.CompletedProcess[str]:
    """Locust, until it ends or there is enough."""
    names = {LOAD, "HEADGATE_SHAPE"}
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in names and not name.startswith("LOCUST_")
    }
    if shape is not None:
        env["HEADGATE_SHAPE"] = shape
    command = [sys.executable, "-m", "locust", "-f", "load_tests/locustfile.py", *arguments]
    said = bundle / "said.txt"
    with (
        said.open("wb") as file,
        subprocess.Popen(command, cwd=bundle, env=env, stdout=file, stderr=file) as process,
    ):
        try:
            if enough is not None:
                enough.wait(60)
                process.terminate()
            code = process.wait(120)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, code, stderr=said.read_text())


def test_carries_out_what_the_gate_tells_it_though_nothing_is_packaged(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here with several rows a request, and of a model whose name is not a path as it stands."""
    monkeypatch.chdir(bundle)
    with serving() as server:
        (evidence,) = measured(
            subject(server, asked("späte 5%? a#b", rate=60, rows=5)),
            Path("run"),
            LoadProfile(duration_s=0.8, warmup_s=0),
            locustfile=Path("load_tests", "locustfile.py"),
        )
    (samples,) = evidence.candidate.samples
    assert server.paths == {"/v1/models/sp%C3%A4te%205%25%3F%20a%23b:predict"}
    assert {len(rows) for rows in server.rows} == {5}
    assert len(samples.ok) == len(server.seen) == 48
    assert samples.rows.tolist() == [5] * 48
    assert samples.ok.all()
    assert samples.matched.all()


def test_with_nothing_packaged_it_says_what_to_do(bundle: Path) -> None:
    done = by_hand(bundle, "--host", "http://127.0.0.1:1", "--headless")
    assert done.returncode == 1
    folder = bundle / ".headgate" / "bundle"
    assert f"no packaged model with reference rows in {folder}: run `make ship`" in done.stderr
    assert "Traceback" not in done.stderr


def test_asks_every_packaged_model_for_its_reference_rows(bundle: Path) -> None:
    make_bundle(bundle)
    make_artifact(bundle / ".headgate" / "bundle" / "odd", "table", name="late 5%?")
    names = {*NAMES.values(), "late%205%25%3F"}
    paths = {f"/v1/models/{name}:predict" for name in names}
    enough = threading.Event()

    def answer(rows: list[Any]) -> tuple[int, bytes]:
        if server.paths >= paths and len(server.rows) > 20:
            enough.set()
        return 200, json.dumps({"rows": len(rows)}).encode()

    with serving(answer=answer) as server:
        arguments = ("--host", server.url, "--headless", "-u", "20", "-r", "20")
        done = by_hand(bundle, *arguments, enough=enough)
    assert done.returncode == 0, done.stderr
    assert server.paths == paths
    assert {len(rows) for rows in server.rows} == {1}
    rows = [row for (row,) in server.rows]
    tables = [row for row in rows if isinstance(row, dict)]
    tensors = [row for row in rows if isinstance(row, list)]
    assert tables
    assert {len(row) for row in tensors} == {30}
    assert {frozenset(row) for row in tables} == {frozenset({"carrier", "distance", "wind"})}


def test_an_unknown_shape_is_refused(bundle: Path) -> None:
    make_bundle(bundle, ("table",))
    done = by_hand(bundle, "--host", "http://127.0.0.1:1", "--headless", shape="zigzag")
    assert done.returncode == 1
    assert f"HEADGATE_SHAPE=zigzag: choose one of {', '.join(SHAPES)}" in done.stderr


def test_a_shape_leads_the_run(bundle: Path) -> None:
    make_bundle(bundle, ("table",))
    shapes = bundle / "load_tests" / "shapes.py"
    shapes.write_text(shapes.read_text() + "\nSpike.stages = [(0.5, 3), (1.5, 6)]\n")
    with serving() as server:
        done = by_hand(bundle, "--host", server.url, "--headless", shape="spike")
    assert done.returncode == 0, done.stderr
    assert "Shape test updating to 3 users" in done.stderr
    assert "Shape test updating to 6 users" in done.stderr
    assert server.seen


# In a process of its own: Locust patches the one it is imported in.
TICKS = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from locust.util.load_locustfile import is_shape_class
from shapes import SHAPES
found = {}
for name, kind in SHAPES.items():
    assert is_shape_class(kind), name
    shape = kind()
    ticks = []
    for second in range(0, 1900):
        shape.start_time = time.perf_counter() - second - 0.01
        ticks.append(shape.tick())
    found[name] = ticks
print(json.dumps(found))
"""


def test_shapes_tick_as_their_stages_say() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TICKS, str(LOAD_TESTS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert list(found) == SHAPES
    clients = {name: [tick and tick[0] for tick in ticks] for name, ticks in found.items()}
    assert clients["steady"] == [10] * 60 + [None] * 1840
    ramp = [4 * (second // 10 + 1) for second in range(120)]
    assert clients["ramp"] == ramp + [None] * 1780
    assert clients["spike"] == [5] * 20 + [50] * 15 + [5] * 40 + [None] * 1825
    assert clients["soak"] == [10] * 1800 + [None] * 100
    rates = {tick[1] for ticks in found.values() for tick in ticks if tick}
    assert rates == {50.0}
