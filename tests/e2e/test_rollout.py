"""What is live stays live: hung servers, taken ports, altered Bentos, orphans."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2e.conftest import Clone, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def twice(clone: Clone) -> Clone:
    """A clone in which a second release is live."""
    clone.watch(0.5)
    assert clone.json("ship")["changed"]
    return clone


def events(clone: Clone) -> list[tuple[str, str]]:
    return [(event["kind"], event["release"]["tag"]) for event in clone.json("history")]


def owned(clone: Clone) -> list[psutil.Process]:
    """Processes that were started for the clone, other than those that serve."""
    found = []
    pid = clone.json("status")["pid"]
    serving = {pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))}
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("HEADGATE_OWNER") == str(clone.root / ".headgate")
                and process.pid not in serving
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_up_goes_back_nowhere_when_the_port_is_taken(twice: Clone) -> None:
    before = events(twice)
    live = twice.json("status")["live"]["tag"]
    twice.headgate("down")
    with socket.create_server(("127.0.0.1", twice.port)):
        refused = twice.headgate("up", exits=1)
        assert str(twice.port) in refused.stderr
        twice.headgate("rollback", exits=1)
    assert events(twice) == before
    assert twice.json("up")["release"] == live


def test_up_replaces_a_server_that_hangs(twice: Clone) -> None:
    before = events(twice)
    hung = twice.json("status")
    family = [psutil.Process(hung["pid"])]
    family += family[0].children(recursive=True)
    for process in family:
        process.send_signal(signal.SIGSTOP)
    assert not twice.json("status")["running"]
    twice.headgate("up")
    now = twice.json("status")
    assert now["running"]
    assert now["pid"] != hung["pid"]
    assert now["live"]["tag"] == hung["live"]["tag"]
    assert events(twice) == before
    psutil.wait_procs(family, timeout=10)
    assert not any(process.is_running() for process in family)


def test_another_port_is_taken_up(twice: Clone) -> None:
    before = twice.port
    twice.port = free_port()
    try:
        assert twice.json("up")["http"] == f"127.0.0.1:{twice.port}"
    finally:
        twice.port = before
    assert twice.json("up")["http"] == f"127.0.0.1:{before}"


def test_no_rollback_to_an_altered_release(twice: Clone) -> None:
    before, live = events(twice), twice.json("status")
    version = live["previous"].partition(":")[2]
    bento = twice.root / ".headgate/bentoml/bentos/headgate" / version
    model = next(bento.rglob("model.onnx"))
    original = model.read_bytes()
    model.write_bytes(original + b"x")
    try:
        refused = twice.headgate("rollback", exits=1)
        assert "altered" in refused.stderr
        assert "Traceback" not in refused.stderr
    finally:
        model.write_bytes(original)
    assert events(twice) == before
    now: Any = twice.json("status")
    assert (now["running"], now["pid"]) == (True, live["pid"])


def test_ship_judges_anew_what_is_live_without_a_pass(twice: Clone) -> None:
    file = twice.root / "load_tests" / "locustfile.py"
    original = file.read_text()
    file.write_text("raise SystemExit('no load today')\n")
    try:
        verdict = twice.json("gate", exits=3)
        assert "no load today" in verdict["reason"]
    finally:
        file.write_text(original)
    shipped = twice.json("ship")
    assert shipped["verdict"]["outcome"] == "pass"
    assert (shipped["live"], shipped["changed"]) == (True, False)


def test_the_training_of_a_killed_command_ends_too(twice: Clone) -> None:
    script = twice.root / "hang.py"
    script.write_text("import time\nprint('here', flush=True)\ntime.sleep(300)\n")
    with twice.started("train", "digits", "--script", str(script)) as killed:
        assert killed.said("here")
        killed.kill()
        assert owned(twice)
        said = twice.headgate("lock", "digits").stderr
        assert "a killed command had left behind" in said
        assert not owned(twice)
    Path(script).unlink()
