"""Every command on one bundle, in this process: what it prints, returns and leaves behind."""

from __future__ import annotations

import json
import os
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2e.conftest import Clone, make_clone

from headgate import cli

pytestmark = [pytest.mark.e2e, pytest.mark.in_process]


class Here:
    """Runs commands in this process, in a clone."""

    def __init__(self, clone: Clone, capfd: pytest.CaptureFixture[str]) -> None:
        self.root = clone.root
        self.port = clone.port
        self._capfd = capfd
        self.said = ""

    def __call__(self, *args: str, exits: int = 0) -> str:
        """Run ``headgate ARGS``; returns what it printed."""
        self._capfd.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["headgate", *args])
            patch.setenv("HEADGATE_PORT", str(self.port))
            patch.setenv("OMP_NUM_THREADS", "1")
            patch.chdir(self.root)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        printed, self.said = self._capfd.readouterr()
        assert (ended.value.code or 0) == exits, f"{args}\n{printed}\n{self.said}"
        assert "Traceback" not in self.said
        return printed

    def json(self, *args: str, exits: int = 0) -> Any:
        return json.loads(self(*args, "--json", exits=exits))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    clone = make_clone(tmp_path_factory.mktemp("bundle"))
    digits = clone.root / "models" / "digits"
    for room in (clone.root / "models").iterdir():
        if room != digits:  # one model is enough here
            for file in room.iterdir():
                file.unlink()
            room.rmdir()
    yield clone
    clone.headgate("down")


@pytest.fixture
def here(
    shipped: Clone, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Here:
    for name in ("HEADGATE_HOME", "HEADGATE_PORT", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return Here(shipped, capfd)


def release_with(here: Here, watch_s: float) -> None:
    """Change the bundle, so that the next build is another release."""
    toml = here.root / "headgate.toml"
    lines = toml.read_text().splitlines()
    changed = [f"watch_s = {watch_s}" if line.startswith("watch_s") else line for line in lines]
    toml.write_text("\n".join(changed) + "\n")


def shown(here: Here) -> str:
    """What MLflow's page of the model's first version says of it."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{here.root / '.headgate' / 'mlflow.db'}")
    return client.get_model_version("digits", "1").tags["headgate.verdict"]


def test_ship(here: Here) -> None:
    assert "nothing is live" in here("status")
    assert "nothing was serving" in here("down")
    printed = here("ship")
    assert "All 6 checks passed on 100 requests." in printed
    assert f"is live on http://127.0.0.1:{here.port}" in printed
    assert "-d @examples/digits.json" in printed
    assert "training digits" in here.said
    assert "packaged digits version 1: onnx, 0." in here.said
    again = here("ship")
    assert "nothing had changed" in again
    assert "UTC, not now: the release is the same" in again
    assert "not now" not in printed
    reports = sorted((here.root / ".headgate" / "reports").rglob("report.md"))
    assert len(reports) == 1
    assert "✅ pass" in reports[0].read_text()


def test_what_is_told(here: Here) -> None:
    status = here.json("status")
    tag = status["live"]["tag"]
    assert status["live"]["verdict"]["outcome"] == "pass"
    assert status["addresses"] == {
        "http": f"127.0.0.1:{here.port}",
        "grpc": f"127.0.0.1:{here.port + 1}",
        "metrics": f"127.0.0.1:{here.port}",
    }
    # As one writes it for a client of gRPC: it is no URL.
    assert f"grpc      127.0.0.1:{here.port + 1}\n" in here("status")
    assert status["models"][0]["aliases"] == ["champion"]
    assert status["models"][0]["engine"] == "onnx"
    assert tag in here("status")
    assert "promoted" in here("history")
    assert "champion" in here("models")
    assert here.json("build") | {"path": ""} == {
        "tag": tag,
        "digest": status["live"]["digest"],
        "new": False,
        "path": "",
        "models": [
            {name: status["models"][0][name] for name in ("name", "version", "run_id", "digest")}
        ],
    }
    assert f"{tag} (unchanged)" in here("build")
    assert "digits" in here("lock", "digits@1")
    assert here("--version").strip()
    assert "From the model registry" in here("--help")


def test_a_second_release_and_back(here: Here) -> None:
    first = here.json("status")["live"]["tag"]
    release_with(here, 0.5)
    built = here.json("build")
    assert built["new"]
    assert "no gate has judged it" in here("promote", built["tag"], exits=1) + here.said
    assert "pass" in here("gate")
    assert here.json("models")["digits"][0]["aliases"] == ["challenger", "champion"]
    assert shown(here) == f"pass in {first}", "that is what is live"
    assert built["tag"] in here("promote", "--why", "it is better")
    assert shown(here) == f"pass in {built['tag']}"
    status = here.json("status")
    assert (status["live"]["tag"], status["previous"]) == (built["tag"], first)
    assert here.json("history", "--limit", "1")[0]["why"] == "it is better"
    assert first in here("rollback", "--why", "it is not")
    assert shown(here) == f"pass in {first}"
    assert here.json("status")["live"]["tag"] == first
    assert "never live" in here("rollback", "headgate:000000000000", exits=2) + here.said
    before = here.json("history")
    assert first in here("rollback", first)
    assert f"{first} is live already" in here.said
    assert here.json("history") == before
    assert "no earlier release" in here("rollback", exits=1) + here.said
    with urllib.request.urlopen(f"http://127.0.0.1:{here.port}/readyz", timeout=5) as ready:
        assert ready.status == 200


def test_down_and_up(here: Here) -> None:
    pid = here.json("status")["pid"]
    assert f"pid {pid}" in here("down")
    assert "no; `headgate up` serves it" in here("status")
    assert here.json("up")["pid"] != pid
    assert here.json("status")["running"]


AGAIN = """
from mlflow.tracking import MlflowClient

client = MlflowClient()
first = client.get_model_version("digits", "1")
client.create_model_version("digits", first.source, first.run_id)
"""


def test_a_new_version_is_pinned(here: Here, tmp_path: Path) -> None:
    script = tmp_path / "again.py"
    script.write_text(AGAIN)
    assert "digits" in here("train", "digits", "--script", str(script))
    assert here.json("models")["digits"][-1]["version"] == "2"
    assert 'version = "2"' in (here.root / "models.lock").read_text()
    assert here.json("lock", "digits@1")[0]["version"] == "1"


def test_prune_keeps_what_a_rollback_wants(here: Here) -> None:
    release_with(here, 0.25)
    built = here.json("build")["tag"]
    live = here.json("status")["live"]["tag"]
    pruned = here.json("prune", "--keep", "1")
    assert live in pruned["kept"]
    assert pruned["deleted"] == [built], "it was never live"
    assert "freed" in here("prune")


def test_doctor_finds_nothing_wrong(here: Here) -> None:
    found = here.json("doctor")
    assert all(each["ok"] for each in found), found
    assert "ok" in here("doctor")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("gate", "--profile", "none"), 2, "choose one of: full, quick"),
        (("gate", "headgate:none"), 2, "no such release"),
        (("train", "none"), 2, "choose one of: digits"),
        (("train", "digits", "--script", "none.py"), 2, "no such training script"),
        (("train", "--script", "x.py", "a", "b"), 2, "exactly one model"),
        (("lock", "digits@99"), 2, "99"),
        (("-C", "/nowhere", "status"), 2, "no headgate.toml"),
        (("--port", "0", "status"), 2, "--port"),
    ],
)
def test_wrong_usage(here: Here, args: tuple[str, ...], code: int, says: str) -> None:
    printed = here(*args, exits=code)
    assert says in printed + here.said


def test_a_script_that_fails_or_registers_nothing_pins_nothing(here: Here, tmp_path: Path) -> None:
    before = (here.root / "models.lock").read_bytes()
    script = tmp_path / "script.py"
    for code, says in (("raise SystemExit(3)", "exit code 3"), ("", "registered no new version")):
        script.write_text(code)
        error = here.json("train", "digits", "--script", str(script), exits=2)["error"]
        assert says in error
    assert (here.root / "models.lock").read_bytes() == before


def test_a_release_that_is_refused_leaves_the_old_one(here: Here) -> None:
    live = here.json("status")["live"]["tag"]
    toml = here.root / "models" / "digits" / "model.toml"
    original = toml.read_text()
    toml.write_text(original.replace("p95_ms = 1000", "p95_ms = 0.001"))
    try:
        printed = here("ship", exits=1)
    finally:
        toml.write_text(original)
    assert "P95" in printed
    assert "gets no traffic. The earlier release goes on at" in printed
    assert shown(here) == f"pass in {live}"
    assert here.json("status")["live"]["tag"] == live


def test_an_image_that_is_not_there_is_none(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine builds what is no image of this release; real ones: tests/e2e/test_image.py."""
    engine = tmp_path / "docker"
    engine.write_text("#!/bin/sh\n[ $1 = image ] && exit 1\nexit 0\n")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    error = here.json("containerize", "--with", "docker", exits=2)["error"]
    assert "docker says it built it, and has none of this release" in error
    assert not list((here.root / ".headgate").glob("*image*"))
    dockerfile = here.root / "Dockerfile"
    dockerfile.rename(tmp_path / "Dockerfile")
    try:
        assert "Dockerfile: there is none" in here.json("containerize", exits=2)["error"]
    finally:
        (tmp_path / "Dockerfile").rename(dockerfile)
    assert (
        "kaniko: no such engine" in here.json("containerize", "--with", "kaniko", exits=2)["error"]
    )


BESIDE = """
[gate.profiles.beside]
rate = 40
duration_s = 2
block_s = 0.3
warmup_s = 0.2
budget_s = 12
min_requests = 20
min_checked = 1000000
compare = true
saturate_s = 0.2
"""


def test_beside_what_is_live(here: Here) -> None:
    toml = here.root / "headgate.toml"
    toml.write_text(toml.read_text() + BESIDE)
    live = here.json("status")["live"]["tag"]
    release_with(here, 0.3)
    built = here.json("build")["tag"]
    # More answers are asked for than the budget has time for, and that is what it says.
    verdict = here.json("gate", "--profile", "beside", exits=3)
    assert verdict["release"] == built
    assert f"loading digits beside {live} (beside, 2.2 to 12 s)" in here.said
    checks = {check["name"]: check for check in verdict["checks"]}
    assert (checks["parity"]["outcome"], checks["parity"]["observed"]) == ("inconclusive", 0.0)
    assert checks["load_time"]["outcome"] == "pass"
    assert "the champion's" in checks["p95_ratio"]["reason"]
    assert "the champion's" in checks["throughput_ratio"]["reason"]
    assert checks["throughput_ratio"]["samples"] >= 6
    assert "the champion's" in checks["quality"]["reason"]
    reports = max((here.root / ".headgate" / "reports").iterdir(), key=lambda path: path.name[-16:])
    assert live in (reports / "report.html").read_text()
    assert built in (reports / "report.md").read_text()
    assert "its last verdict is inconclusive" in here("promote", exits=1) + here.said
    assert here.json("status")["live"]["tag"] == live
    toml.write_text(toml.read_text().replace("min_checked = 1000000\n", ""))
    verdict = here.json("gate", live, "--profile", "beside", exits=0)
    assert verdict["reason"].endswith("Judged absolutely only: it is what is live.")


def test_what_a_model_demands(here: Here) -> None:
    toml = here.root / "models" / "digits" / "model.toml"
    original = toml.read_text()
    try:
        toml.write_text(original + '\n[gate]\nprofiles = ["quick", "gone"]\n')
        here("build")
        assert "gone: no such load profile" in here("gate", exits=2) + here.said
        toml.write_text(original + '\n[gate]\nprofiles = ["spike", "quick"]\n')
        built = here.json("build")["tag"]
        here("gate", "--profile", "quick")
        refused = here("promote", exits=1) + here.said
        assert (
            "its verdict is of the load profile quick, and its models demand spike too" in refused
        )
        assert f"run `headgate gate {built}`" in refused
    finally:
        toml.write_text(original)


@contextmanager
def killing(root: Path, *wanted: str) -> Iterator[None]:
    """Once a generator of this clone runs, kill whatever has all of ``wanted`` in its command."""
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            running = {
                process: " ".join(process.info["cmdline"] or ())
                for process in psutil.process_iter(["cmdline"])
            }
            mine = {each: command for each, command in running.items() if str(root) in command}
            if any("-m locust" in command for command in mine.values()):
                victims = [
                    each
                    for each, command in mine.items()
                    if all(part in command for part in wanted)
                ]
                for victim in victims:
                    victim.kill()
                if victims:
                    return
            done.wait(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_release_that_crashes_under_load_fails(here: Here) -> None:
    # What is live has a port of its own choice, and lives on.
    with killing(here.root, "/.headgate/bentoml/bentos", "--port 0"):
        verdict = here.json("gate", "--profile", "quick", exits=1)
    (check,) = verdict["checks"]
    assert check["name"] == "serving"
    assert "The release did not serve: " in check["reason"]
    assert "it ended under load" in check["reason"]


def test_a_killed_generator_proves_nothing(here: Here) -> None:
    with killing(here.root, "-m locust"):
        verdict = here.json("gate", "--profile", "quick", exits=3)
    (check,) = verdict["checks"]
    assert check["name"] == "measurement"
    assert "the load generator was killed by signal 9" in check["reason"]


def test_serve_in_the_foreground_needs_its_port(here: Here) -> None:
    here("serve", exits=2)
    assert str(here.port) in here.said
