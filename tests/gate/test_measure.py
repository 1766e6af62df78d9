"""Real Locust against a real server, a second or two each."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate.makers import outcomes
from gate.server import SIGNATURE, Server, predict, reference, right, serving

from headgate.config import LoadProfile
from headgate.errors import GateError, InputError, ServingError
from headgate.gate import measure
from headgate.predictor.rows import batch_to_rows
from headgate.records import Outcome, Samples

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
PROFILE = LoadProfile(rate=125, duration_s=0.8, warmup_s=0.2, min_requests=20)
ANY_LATENESS = 1e6
"""Milliseconds: what these tests hold is not how busy the machine is."""
CLOCK_S = 0.01
"""By how much a timer may ring early."""

HASTY = """
from headgate.gate import generator
generator.TIMEOUT_S = 0.5
PlannedLoad = generator.PlannedLoad
"""
SLEEPY = """
import gevent
from headgate.gate.generator import PlannedLoad as Punctual
class PlannedLoad(Punctual):
    def send(self, index):
        gevent.sleep(0.25)
        super().send(index)
del Punctual
"""


def loaded(
    server: Server | str, workdir: Path, profile: LoadProfile = PROFILE, **how: Any
) -> Samples:
    url = server if isinstance(server, str) else server.url
    settings: dict[str, Any] = {
        "rate": profile.rate,
        "release": "r:1",
        "tolerance": 1e-5,
        "load_time_s": 1.5,
        "workdir": workdir,
        "progress": lambda _: None,
        **how,
    }
    rows = settings.pop("reference", reference())
    name = settings.pop("model", "m")
    samples = measure(url, name, rows, SIGNATURE, profile, **settings)
    assert list(workdir.iterdir()) == []
    return samples


def test_a_fast_server(tmp_path: Path) -> None:
    with serving() as server:
        samples = loaded(server, tmp_path / "made" / "on the way")
    assert server.paths == {"/v1/models/m:predict"}
    assert len(server.seen) == 125  # the warm-up is sent, and thrown away
    assert samples.ok.all()
    assert samples.matched.all()
    assert samples.errors == {}
    assert (samples.model, samples.release) == ("m", "r:1")
    assert (samples.duration_s, samples.load_time_s) == (0.8, 1.5)
    assert samples.rows.tolist() == [1] * 100
    assert (np.diff(samples.intended_s) >= 0).all()
    assert 0 <= samples.intended_s.min() <= samples.intended_s.max() < 0.8
    assert (samples.sent_s >= samples.intended_s - CLOCK_S).all()
    assert (samples.latency_s > samples.sent_s - samples.intended_s).all()
    assert 0 < samples.generator_cpu < 1
    # Every row of the reference was asked for, and none but those; nulls are nulls.
    known = [json.dumps(row) for row in batch_to_rows(SIGNATURE, reference().inputs)]
    asked = [json.dumps(row) for rows in server.rows for row in rows]
    assert set(asked) == set(known)
    # All of them in turn, none for the third time while another waits for its second.
    for row in known:
        assert asked.count(row) <= 2 * known.count(row)


def test_latency_counts_from_the_intended_moment(tmp_path: Path) -> None:
    """One pause of a second. A generator that waits for answers would see one slow request."""
    profile = LoadProfile(rate=100, duration_s=1.8, warmup_s=0, min_requests=20)
    with serving(stalls_at=40, stall_s=1.0) as server:
        samples = loaded(server, tmp_path, profile)
    assert samples.ok.all()
    # About a hundred were meant to go in that second, and half of them waited over half of it.
    assert 25 <= (samples.latency_s > 0.5).sum() <= 125
    assert samples.latency_s.max() >= 0.9
    # They were sent during the pause, not after it.
    arrived = np.array(server.seen) - server.seen[39]
    assert ((arrived > 0) & (arrived < 0.9)).sum() >= 30
    assert outcomes(samples, profile=profile)["p95"] is not PASS


def test_a_slow_server(tmp_path: Path) -> None:
    with serving(delay_s=0.3) as server:
        samples = loaded(server, tmp_path)
    assert samples.ok.all()
    assert (samples.latency_s >= 0.3 - CLOCK_S).all()
    # It was asked no less for being slow.
    assert len(server.seen) == 125
    assert outcomes(samples, profile=PROFILE, lateness_ms=ANY_LATENESS)["p95"] is FAIL


def test_a_late_generator_gives_itself_away(tmp_path: Path) -> None:
    locustfile = tmp_path / "sleepy.py"
    locustfile.write_text(SLEEPY)
    with serving() as server:
        samples = loaded(server, tmp_path / "run", locustfile=locustfile)
    assert samples.ok.all()
    assert (samples.sent_s - samples.intended_s >= 0.25 - CLOCK_S).all()
    assert (samples.latency_s >= 0.25 - CLOCK_S).all()
    judged = outcomes(samples, profile=PROFILE)
    assert judged["p95"] is judged["throughput"] is INCONCLUSIVE
    assert judged["parity"] is PASS


def test_a_wrong_server(tmp_path: Path) -> None:
    def one_wrong(rows: list[dict[str, Any]]) -> tuple[int, bytes]:
        status, answer = right(rows)
        if rows[0]["wind"] == 17:
            (said,) = [predict(row) for row in rows]
            said["probabilities"][0] += 0.001
            answer = json.dumps({"predictions": [said]}).encode()
        return status, answer

    with serving(answer=one_wrong) as server:
        samples = loaded(server, tmp_path)
    assert samples.ok.all()
    assert 1 <= (~samples.matched).sum() <= 3
    assert outcomes(samples, profile=PROFILE)["parity"] is FAIL


def test_errors_in_words(tmp_path: Path) -> None:
    def failing(rows: list[dict[str, Any]]) -> tuple[int, bytes]:
        status, answer = right(rows)
        match rows[0]["wind"]:
            case None:
                return 200, b"<html>It works!</html>"
            case wind if wind % 4 == 1:
                return 200, answer.replace(b"r:1", b"r:2")
            case wind if wind % 4 == 2:
                return 500, b'{"error": "out of memory", "where": "m"}'
        return status, answer

    with serving(answer=failing) as server:
        samples = loaded(server, tmp_path)
    assert set(samples.errors) == {
        "HTTP 200 without the model's predictions",
        "answered by r:2, not by r:1",
        "HTTP 500 (m: out of memory)",
    }
    assert all(count >= 4 for count in samples.errors.values())
    assert sum(samples.errors.values()) == (~samples.ok).sum()
    assert (samples.ok == samples.matched).all()
    assert samples.ok.sum() >= 20
    assert np.isfinite(samples.latency_s).all()  # an error is an answer
    assert outcomes(samples, profile=PROFILE)["error_rate"] is FAIL


def test_a_server_that_dies_in_the_middle(tmp_path: Path) -> None:
    with serving(dies_after=80) as server:
        samples = loaded(server, tmp_path)
    assert 1 <= samples.ok.sum() <= 80
    assert samples.matched.sum() == samples.ok.sum()
    assert np.isinf(samples.latency_s[~samples.ok]).all()
    assert np.isfinite(samples.sent_s).all()
    assert "connection refused" in samples.errors
    assert sum(samples.errors.values()) == (~samples.ok).sum()
    assert outcomes(samples, profile=PROFILE)["error_rate"] is FAIL


def test_half_an_answer_is_none(tmp_path: Path) -> None:
    with serving(cut=True) as server:
        samples = loaded(server, tmp_path)
    assert not samples.ok.any()
    assert np.isinf(samples.latency_s).all()
    assert sum(samples.errors.values()) == 100
    assert not [cause for cause in samples.errors if cause.startswith("HTTP") or not cause]


def test_an_answer_that_does_not_come(tmp_path: Path) -> None:
    locustfile = tmp_path / "hasty.py"
    locustfile.write_text(HASTY)
    profile = LoadProfile(rate=40, duration_s=0.5, warmup_s=0)
    with serving(delay_s=5) as server:
        samples = loaded(server, tmp_path / "run", profile, locustfile=locustfile)
    assert samples.errors == {"no answer in time": 20}
    assert np.isinf(samples.latency_s).all()


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServingError) as caught:
            measure_nothing(url, tmp_path)
    assert str(caught.value) == (
        f"{url}: nobody answers (Connection refused) — start it, or give another address"
    )


@pytest.mark.parametrize(
    "url",
    [
        "localhost:3000",
        "127.0.0.1:3000",
        "http://",
        "ftp://127.0.0.1:21",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
        "http://[::1",
        f"http://{'a' * 70}",
        "",
    ],
)
def test_no_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give http://host:port") as caught:
        measure_nothing(url, tmp_path)
    assert caught.value.where == url


def test_an_empty_reference(tmp_path: Path) -> None:
    with serving() as server, pytest.raises(GateError, match="has no rows, so there is nothing"):
        loaded(server, tmp_path, reference=reference().take(slice(0, 0)))
    assert server.seen == []


def measure_nothing(url: str, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    with pytest.raises((ServingError, InputError)) as caught:
        loaded(url, workdir)
    assert not workdir.exists()
    raise caught.value


def test_progress_is_told_and_no_setting_of_the_caller_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the environment's nor the folder's settings for Locust by hand."""
    monkeypatch.setattr("headgate.gate.load._SAY_EVERY_S", 0.4)
    monkeypatch.setenv("LOCUST_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("LOCUST_USERS", "7")
    monkeypatch.setenv("LOCUST_RUN_TIME", "1")
    (tmp_path / "locust.conf").write_text("users = 9\nrun-time = 1\nweb-host = nowhere\n")
    monkeypatch.chdir(tmp_path)
    profile = LoadProfile(rate=50, duration_s=1.5, warmup_s=0)
    said: list[str] = []
    with serving() as server:
        samples = loaded(server, Path("run"), profile, progress=said.append)
    assert len(server.seen) == 75
    assert samples.ok.all()
    assert said
    assert all(line.endswith(" s left") for line in said)
