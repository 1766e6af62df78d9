"""Bad circumstances: nothing shipped yet, no space, no permission; and MLflow's own pages."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e.conftest import Clone, free_port

pytestmark = pytest.mark.e2e


def test_nothing_shipped_is_one_line(bare_clone: Clone) -> None:
    bentoml = str(bare_clone.root / ".venv/bin/bentoml")
    for command in ("serve", "build"):
        refused = bare_clone.run([bentoml, command], exits=None)
        assert refused.returncode not in (0, None)
        assert "make ship" in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stdout + refused.stderr
    for command, says in (
        ("up", "ship"),
        ("rollback", "ship"),
        ("serve", "make ship"),
        ("build", "make ship"),
    ):
        refused = bare_clone.headgate(command, exits=None)
        assert refused.returncode in (1, 2), command
        assert says in refused.stderr, command
        assert "Traceback" not in refused.stderr
    assert bare_clone.json("status")["live"] is None
    assert bare_clone.json("history") == []
    assert "nothing was serving" in bare_clone.headgate("down").stdout


@contextmanager
def mounted(clone: Clone, options: str) -> Iterator[None]:
    """Lay a disk of its own under the clone's state."""
    home = clone.root / ".headgate"
    home.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)


# Too small for the registry; for the model.
@pytest.mark.parametrize("size", ["300k", "1100k"])
def test_a_full_disk_is_a_clear_error(bare_clone: Clone, size: str) -> None:
    with mounted(bare_clone, f"size={size}"):
        refused = bare_clone.headgate("train", "digits", exits=2)
        assert "space" in refused.stderr or "full" in refused.stderr
        assert "headgate: " in refused.stderr.splitlines()[-1]
        assert "Traceback" not in refused.stderr.splitlines()[-1]
        assert "[[model]]" not in (bare_clone.root / "models.lock").read_text()


@contextmanager
def unwritable(clone: Clone) -> Iterator[None]:
    """A clone whose state cannot be written: root is stopped by a disk only, others by a mode."""
    if os.geteuid() == 0:
        with mounted(clone, "ro,size=1m"):
            yield
        return
    clone.root.chmod(0o555)
    try:
        yield
    finally:
        clone.root.chmod(0o755)


def test_a_read_only_folder_is_a_clear_error(bare_clone: Clone) -> None:
    with unwritable(bare_clone):
        for command in ("ship", "status", "train", "lock"):
            refused = bare_clone.headgate(command, exits=2)
            assert ".headgate" in refused.stderr, command
            assert " — " in refused.stderr, "what to do about it"
            assert "Traceback" not in refused.stderr, command


def test_a_state_folder_that_is_a_file_is_a_clear_error(bare_clone: Clone) -> None:
    (bare_clone.root / ".headgate").write_text("")
    refused = bare_clone.headgate("ship", exits=2)
    assert ".headgate" in refused.stderr
    assert "Traceback" not in refused.stderr
    (bare_clone.root / ".headgate").unlink()


def test_two_clones_share_nothing(clone: Clone, bare_clone: Clone) -> None:
    assert clone.json("status")["live"] is not None
    assert bare_clone.json("status")["live"] is None
    assert bare_clone.json("models") == {"digits": [], "flight-delay": []}


def test_mlflow_shows_it_all(clone: Clone) -> None:
    """The pages of `mlflow ui` are drawn from these answers of its REST interface."""
    port = free_port()
    log = clone.root / "ui.log"
    with log.open("wb") as output:
        ui = subprocess.Popen(
            [
                *(str(clone.root / ".venv/bin/mlflow"), "ui", "--workers", "1"),
                *("--port", str(port), "--backend-store-uri", "sqlite:///.headgate/mlflow.db"),
            ],
            cwd=clone.root,
            env=dict(clone.environment()),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        mlflow = Pages(f"http://127.0.0.1:{port}", log)
        found = mlflow.get("registered-models/get?name=flight-delay")["registered_model"]
        assert "champion" in [alias["alias"] for alias in found["aliases"]]
        version = mlflow.get("model-versions/get?name=flight-delay&version=1")["model_version"]
        shown = {tag["key"]: tag["value"] for tag in version["tags"]}
        assert shown["headgate.verdict"] == f"pass in {shown['headgate.release']}"
        experiment = mlflow.get("experiments/get-by-name?experiment_name=headgate-releases")
        runs = mlflow.post(
            "runs/search", {"experiment_ids": [experiment["experiment"]["experiment_id"]]}
        )["runs"]
        tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
        assert any("pass" in each.values() for each in tags)
        reports = [
            file["path"]
            for run in runs
            for file in mlflow.get(f"artifacts/list?run_id={run['info']['run_id']}").get(
                "files", []
            )
        ]
        assert any(path.endswith("report.md") for path in reports)
    finally:
        os.killpg(ui.pid, 15)
        ui.wait(30)


class Pages:
    def __init__(self, address: str, log: Path) -> None:
        self.base = f"{address}/api/2.0/mlflow"
        until = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
            except OSError:
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            else:
                break

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(f"{self.base}/{path}", timeout=30) as reply:
            return json.load(reply)

    def post(self, path: str, content: dict) -> dict:
        request = urllib.request.Request(
            f"{self.base}/{path}",
            data=json.dumps(content).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)
