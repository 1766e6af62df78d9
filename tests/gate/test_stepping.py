"""Real Locust against a server that is known to take a hundred requests per second."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from gate.loads import asked, leaves_nothing, subject
from gate.server import right, serving

from headgate.config import SloConfig
from headgate.errors import GateError, ServingError
from headgate.gate import Stepping, compare, find_capacity
from headgate.gate import tuning as tuning_module
from headgate.records import Capacity, Setting

SLO = SloConfig(p95_ms=600, min_rps=1)


def one_at_a_time(seconds: float) -> Any:
    turn = threading.Lock()

    def answer(rows: list[dict[str, Any]]) -> tuple[int, bytes]:
        with turn:
            time.sleep(seconds)
        return right(rows)

    return answer


def found(
    whom: Any, folder: Path, budget_s: float, said: list[str], slo: SloConfig = SLO
) -> Capacity:
    with leaves_nothing(folder):
        return find_capacity(
            whom,
            {each.model: slo for each in whom.asked},
            Stepping(budget_s=budget_s, max_lateness_ms=1e6),
            workdir=folder,
            progress=said.append,
        )


def test_a_hundred_requests_per_second(tmp_path: Path) -> None:
    said: list[str] = []
    with serving(answer=one_at_a_time(0.01)) as server:
        capacity = found(subject(server, asked("a"), asked("b")), tmp_path, 7, said)
    assert capacity.low is not None
    # Each of two models, on however busy a machine; a short step bears a little too much.
    assert 10 <= capacity.low <= 85
    assert capacity.high is None or capacity.low < capacity.high
    assert {step.outcome for step in capacity.steps} >= {"held"}
    assert "requests/s in closed loop; the generator itself" in said[0]
    assert len(said) == 1 + len(capacity.steps)
    assert "/s each held, P95" in "".join(said)
    assert "s left)" in said[-1]


def test_what_gives_no_right_answer_is_not_searched(tmp_path: Path) -> None:
    with (
        serving(answer=lambda rows: (413, b'{"error": "too many rows"}')) as server,
        pytest.raises(GateError, match=r"r:1: it gives no right answer: HTTP 413 \(too many rows"),
    ):
        found(subject(server), tmp_path, 30, [])


def test_a_release_that_ends_under_load(tmp_path: Path) -> None:
    with serving() as server:

        def watch() -> float | None:
            if server.seen:
                raise ServingError("it ended under load", where="the log")
            return None

        with pytest.raises(ServingError, match="it ended under load"):
            found(subject(server, watch=watch), tmp_path, 30, [])


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="nobody answers"):
        found(subject("http://127.0.0.1:9"), tmp_path, 30, [])


def test_which_of_two_is_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_module, "_BLOCK_S", 0.2)
    with (
        serving(answer=one_at_a_time(0.004)) as now,
        serving(answer=one_at_a_time(0.02)) as other,
        leaves_nothing(tmp_path),
    ):
        result = compare(
            subject(now),
            subject(other),
            Stepping(connections=4),
            workdir=tmp_path,
        )
    assert result.low <= result.value <= result.high < 1


def test_a_setting_is_told_in_words() -> None:
    assert str(Setting(workers=2, threads=1, max_batch_rows=16)) == (
        "workers 2, threads 1, max_batch_rows 16"
    )
