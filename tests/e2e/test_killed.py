"""`kill -9` in every stage: the next command works, and nothing half-made is served."""

from __future__ import annotations

import json
import urllib.request

import psutil
import pytest
from e2e.conftest import Clone

pytestmark = pytest.mark.e2e

# What `headgate ship` says when it enters a stage.
STAGES = [
    "training digits",
    "packaging flight-delay",
    "building the Bento",
    "loading digits, flight-delay",
    "serving headgate:",
]


def kill_at(clone: Clone, said: str) -> None:
    """Start `headgate ship` and kill it, and only it, once it says that."""
    with clone.started("ship") as command:
        assert command.said(said), f"it never said {said!r}\n{command.ended(0).stderr}"
        command.kill()


def servers_of(clone: Clone) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HEADGATE_OWNER") == str(clone.root / ".headgate"):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(600)
def test_ship_goes_on_after_any_kill(bare_clone: Clone) -> None:
    for stage in STAGES:
        kill_at(bare_clone, stage)
        assert bare_clone.json("status", exits=None) is not None
    shipped = bare_clone.json("ship")
    assert shipped["verdict"]["outcome"] == "pass"
    status = bare_clone.json("status")
    assert status["running"]
    with urllib.request.urlopen(f"http://{status['addresses']['http']}/readyz", timeout=5) as ready:
        assert ready.status == 200
    # Of all servers that were started, one launcher with its workers is left.
    launchers = [
        process
        for process in servers_of(bare_clone)
        if "headgate.serving.launcher" in process.cmdline()
    ]
    assert [process.pid for process in launchers] == [status["pid"]]
    kinds = [event["kind"] for event in json.loads(bare_clone.headgate("history", "--json").stdout)]
    assert kinds.count("promoted") == 1
