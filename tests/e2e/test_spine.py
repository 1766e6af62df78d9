"""From a fresh clone to live traffic, and what must hold along the way."""

from __future__ import annotations

import json
import subprocess

import pytest
from e2e.conftest import Clone, ask, free_port

pytestmark = pytest.mark.e2e


HOLDER = """
import sys
from pathlib import Path
from headgate.pipeline import Bundle
with Bundle(Path(".")).exclusive():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("model", ["flight-delay", "digits"])
def test_ship_leaves_it_serving(clone: Clone, model: str) -> None:
    status = clone.json("status")
    answer = ask(clone.port, model)
    assert status["running"]
    assert status["live"]["verdict"]["outcome"] == "pass"
    assert answer["release"] == status["live"]["tag"]
    sent = json.loads((clone.root / "examples" / f"{model}.json").read_text())["instances"]
    assert len(answer["predictions"]) == len(sent)
    assert answer["model_version"] == {m["name"]: m["version"] for m in status["models"]}[model]


def test_a_second_ship_changes_nothing(clone: Clone) -> None:
    clone.headgate("ship")  # whatever a test before this one left live
    before = clone.json("status")
    again = clone.json("ship")
    assert again["changed"] is False
    assert again["release"]["tag"] == before["live"]["tag"]
    assert clone.json("status")["pid"] == before["pid"]


def test_aliases_follow_the_release(clone: Clone) -> None:
    live = clone.json("status")["models"]
    assert all("champion" in model["aliases"] for model in live)


def test_a_release_without_a_verdict_gets_no_traffic(clone: Clone) -> None:
    original = clone.watch(2)
    try:
        built = clone.json("build")
        refused = clone.headgate("promote", built["tag"], exits=1)
        assert "no gate has judged it" in refused.stderr
    finally:
        (clone.root / "headgate.toml").write_text(original)
        clone.headgate("build")


def test_the_lock_makes_the_second_command_wait_or_say_so(clone: Clone) -> None:
    holder = subprocess.Popen(
        [
            str(clone.root / ".venv/bin/python"),
            "-c",
            HOLDER,
        ],
        cwd=clone.root,
        env=dict(clone.environment()),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        refused = clone.headgate("--no-wait", "build", exits=2)
        assert "is at work on it" in refused.stderr
        assert "Traceback" not in refused.stderr
        holder.kill()
    clone.headgate("--no-wait", "lock")  # a killed holder's lock is free


def test_a_port_in_use_is_a_clear_error(bare_clone: Clone, clone: Clone) -> None:
    bare_clone.port = clone.port
    refused = bare_clone.headgate("ship", exits=1)
    assert str(clone.port) in refused.stderr
    assert "HEADGATE_PORT" in refused.stderr
    assert "Traceback" not in refused.stderr
    bare_clone.port = free_port()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("gate", "headgate:none"), "no such release"),
        (("gate", "--profile", "none"), "quick"),
        (("train", "none"), "flight-delay"),
        (("lock", "flight-delay@99"), "99"),
        (("nothing",), "nothing"),
    ],
)
def test_bad_usage_says_what_would_be_right(clone: Clone, args: tuple[str, ...], says: str) -> None:
    refused = clone.headgate(*args, exits=2)
    assert says in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr


def test_an_unreachable_registry_leaves_the_service_alone(clone: Clone) -> None:
    clone.env["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    try:
        for command in ("status", "history", "ship"):
            refused = clone.headgate(command, exits=2)
            assert "127.0.0.1:9" in refused.stderr
            assert "Traceback" not in refused.stderr
    finally:
        del clone.env["MLFLOW_TRACKING_URI"]
    assert ask(clone.port)["model_name"] == "flight-delay"
