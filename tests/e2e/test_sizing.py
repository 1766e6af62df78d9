"""`headgate capacity` on a release that serves."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from e2e.conftest import Clone

pytestmark = pytest.mark.e2e


def of_load(clone: Clone) -> list[psutil.Process]:
    """Servers of this clone beside the live one, and generators that lie in its folder."""
    live = clone.json("status")["pid"] if clone.json("status")["running"] else None
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("HEADGATE_OWNER") == str(clone.root / ".headgate")
            here = Path(process.cwd()).is_relative_to(clone.root / ".headgate")
            if process.pid != live and process.ppid() != live and (mine or here):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_capacity(clone: Clone) -> None:
    before = clone.json("status")["live"]["digest"]
    found = clone.json("capacity", "--budget", "30", "--for-rate", "100000", "--rows", "2")
    capacity = found["capacity"]
    assert found["release"].startswith("headgate:")
    assert (set(found["models"]), found["rows"]) == ({"digits", "flight-delay"}, 2)
    assert {step["outcome"] for step in capacity["steps"]} <= {"held", "failed", "limited"}
    assert capacity["low"] > 2
    assert capacity["high"] is None or capacity["low"] < capacity["high"]
    assert found["replicas"]["value"] > 1
    assert found["per_million"] is None  # no price is set
    assert of_load(clone) == []
    run = clone.root / ".headgate" / "run"
    assert {path.name for path in run.iterdir()} <= {"serving.json"}
    assert clone.json("status")["live"]["digest"] == before
