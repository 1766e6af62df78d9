"""What a request is told that is refused before it is read: the body says what the status says."""

from __future__ import annotations

import json
from time import monotonic

import pytest
from serving.asgi import serving_app
from serving.echo import make_echoes
from serving.held import limit

from headgate.errors import OverloadError
from headgate.predictor import Field
from headgate.serving.job import QueueFullError
from headgate.serving.launch.turns import TURNS
from headgate.serving.routes import build_routes

PATHS = {
    "v1": "/v1/models/echo:predict",
    "typed": "/echo",
    "oip": "/v2/models/echo/infer",
    "torchserve": "/predictions/echo",
    "sagemaker": "/models/echo/invoke",
}
FULL = QueueFullError("9 rows wait already, 8 may", where="echo", retry_after_s=2)
LATE = OverloadError("an answer takes about 9 ms, and 1 are left", where="echo", retry_after_s=2)
FULL_SAYS = "as many rows wait already as may"
LATE_SAYS = "more is asked for than can be answered in time"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = make_echoes(
        tmp_path_factory.mktemp("admission"), {"echo": (Field(name="x", dtype="float64"),)}
    )
    with serving_app(limit(root, deadline_ms=15_000)) as asked:
        yield asked


@pytest.mark.parametrize("surface", PATHS)
def test_the_body_of_a_refusal_agrees_with_its_status(asked, surface, monkeypatch):
    endpoint = build_routes(asked.worker)[PATHS[surface]]["POST"]
    batcher = asked.worker.models["echo"].batcher
    monkeypatch.setattr(TURNS, "promised_s", 0.0)
    # Either may be first, and both more than once: what is kept of one is not told of the other.
    for refusal, status, says in ((FULL, 429, FULL_SAYS), (LATE, 503, LATE_SAYS)) * 2:
        monkeypatch.setattr(batcher, "foresee", lambda *_, refusal=refusal, **__: refusal)
        monkeypatch.setattr(TURNS, "count", TURNS.count + 1)
        found, rest = endpoint.admission.refusal({}, monotonic())
        assert found == status
        head, _, body = rest.partition(b"\r\n\r\n")
        assert b"retry-after: 2" in head.splitlines()
        assert b"content-length: %d" % len(body) in head.splitlines()
        told = json.loads(body)
        if surface == "torchserve":
            assert told["code"] == status
            assert told["type"] == "ServiceUnavailableException"
            assert told["message"].startswith(says)
        elif surface == "sagemaker":
            code = {429: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE"}[status]
            assert told["error_code"] == code
            assert told["message"].startswith(says)
        else:
            assert told["error"].startswith(says)


def test_in_one_turn_who_has_no_more_time_is_refused_without_another_look(asked, monkeypatch):
    admission = build_routes(asked.worker)[PATHS["v1"]]["POST"].admission
    foreseen = []

    def foresee(deadline, now, *, ahead):
        foreseen.append((deadline - now, ahead))
        return LATE

    def ask(ms, since):
        return admission.refusal({b"x-headgate-deadline-ms": b"%d" % ms}, since)

    monkeypatch.setattr(asked.worker.models["echo"].batcher, "foresee", foresee)
    monkeypatch.setattr(TURNS, "promised_s", 0.0)
    monkeypatch.setattr(TURNS, "count", TURNS.count + 1)
    now = monotonic()
    told = ask(50_000, now)
    assert told == ask(50_000, now) == ask(40_000, now) == ask(50_000, now - 1)
    assert len(foreseen) == 1
    assert ask(60_000, now) == told
    ask(60_000, now + 1)
    monkeypatch.setattr(TURNS, "count", TURNS.count + 1)
    ask(60_000, now)
    assert len(foreseen) == 4
