"""Which model ``/invocations`` is for."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from serving.asgi import make_root, metric, serving_app
from serving.echo import make_echoes
from serving.refusals import GOOD, V1, V1_X

from headgate.predictor import Field

NAMES = "breast-cancer, late-flights"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(make_root(tmp_path_factory.mktemp("choice"))) as asked:
        yield asked


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {"X-Headgate-Model": "late-flights"}),
        ("?model=late-flights", {}),
        ("?x=1&model=late%2Dflights", {}),
        ("", {"X-Amzn-SageMaker-Target-Model": "late-flights"}),
        ("", {"X-Amzn-SageMaker-Target-Model": "/late-flights.tar.gz"}),
        ("?model=late-flights", {"X-Headgate-Model": "late-flights"}),
    ],
)
def test_a_request_may_name_it(asked, query, headers):
    answer = asked.post(f"/invocations{query}", content=GOOD[V1], headers=headers)
    assert answer.status_code == 200
    assert answer.json()["predictions"][0] in {"late", "on time"}
    other = asked.post("/invocations?model=breast-cancer", content=GOOD[V1_X])
    assert other.json()["predictions"][0] in {0, 1}


def said(answer, status, code):
    assert answer.status_code == status
    assert answer.headers["x-headgate-release"] == "test:1"
    told = answer.json()
    assert set(told) == {"error_code", "message"}
    assert told["error_code"] == code
    return told["message"]


def test_one_that_names_none_is_told_which_there_are(asked):
    for query in ("", "?", "?x=late-flights", "?model"):
        message = said(asked.post(f"/invocations{query}", content=GOOD[V1]), 400, "BAD_REQUEST")
        assert message.startswith("/invocations: which model is meant?")
        assert message.endswith(f"with one of: {NAMES}")


@pytest.mark.parametrize(
    ("query", "headers", "where"),
    [
        ("", {"X-Headgate-Model": "nobody"}, "header X-Headgate-Model"),
        ("?model=nobody", {}, "query ?model="),
        ("", {"X-Amzn-SageMaker-Target-Model": "nobody"}, "header X-Amzn-SageMaker-Target-Model"),
        ("", {"X-Headgate-Model": "x" * 5000}, "header X-Headgate-Model"),
        ("", {"X-Headgate-Model": b"\xff\xfe"}, "header X-Headgate-Model"),
    ],
)
def test_an_unknown_one_is_not_guessed(asked, query, headers, where):
    answer = asked.post(f"/invocations{query}", content=GOOD[V1], headers=headers)
    message = said(answer, 404, "RESOURCE_DOES_NOT_EXIST")
    assert message.startswith(f"{where}: no model ")
    assert message.endswith(f"served here: {NAMES}")
    assert len(message) < 300


def test_two_that_differ_are_too_many(asked):
    headers = {"X-Headgate-Model": "late-flights"}
    answer = asked.post("/invocations?model=breast-cancer", content=GOOD[V1], headers=headers)
    message = said(answer, 400, "BAD_REQUEST")
    assert message.startswith("header X-Headgate-Model and query ?model=: two models are named")


@pytest.mark.parametrize(
    ("query", "headers", "where"),
    [
        ("?model=breast-cancer&model=late-flights", [], "query ?model="),
        ("?model=late-flights&model=nobody", [], "query ?model="),
        ("", ["late-flights", "breast-cancer"], "header X-Headgate-Model"),
    ],
)
def test_one_place_may_name_two_too(asked, query, headers, where):
    headers = [("X-Headgate-Model", name) for name in headers]
    answer = asked.post(f"/invocations{query}", content=GOOD[V1], headers=headers)
    message = said(answer, 400, "BAD_REQUEST")
    assert message.startswith(f"{where}: two models are named: ")
    assert message.endswith(f"name one of: {NAMES}")


def test_the_same_one_twice_is_one(asked):
    headers = [("X-Headgate-Model", "late-flights")] * 2
    query = "?model=late-flights&model=late-flights&model="
    assert asked.post(f"/invocations{query}", content=GOOD[V1], headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_health_is_that_of_the_model_that_is_named(asked, path, monkeypatch):
    flights = {"X-Headgate-Model": "late-flights"}
    monkeypatch.setattr(asked.worker.models["late-flights"], "_mismatch", "it answers wrongly")
    assert asked.get(path, headers=flights).status_code == 503
    assert asked.get(f"{path}?model=late-flights").status_code == 503
    assert asked.get(path).status_code == 503
    assert asked.get(f"{path}?model=breast-cancer").json() == {"status": "Healthy"}
    nope = {"X-Headgate-Model": "nope"}
    for answer in (asked.get(f"{path}?model=nope"), asked.get(path, headers=nope)):
        message = said(answer, 404, "RESOURCE_DOES_NOT_EXIST")
        assert message.endswith(f"no model 'nope' — served here: {NAMES}")


def test_too_long_a_query_is_no_fault_of_ours(asked):
    answer = asked.post(f"/invocations?{'a=b&' * 5000}", content=GOOD[V1])
    assert said(answer, 400, "BAD_REQUEST")


def test_what_is_refused_is_counted(asked):
    def count():
        asked.worker.flush()
        return metric("headgate_requests_total", surface="invocations", model="", outcome="input")

    before = count()
    asked.post("/invocations", content=GOOD[V1])
    assert count() == before + 1


def test_the_only_model_needs_no_name(tmp_path):
    name = "vols en été"
    root = make_echoes(tmp_path, {name: (Field(name="x", dtype="float64"),)})
    with serving_app(root) as asked:
        body = json.dumps({"inputs": [1, 2]})
        assert asked.post("/invocations", content=body).json() == {"predictions": [1.0, 2.0]}
        for request in (
            {"url": "/invocations", "headers": {"x-headgate-model": name.encode()}},
            {"url": f"/invocations?model={quote(name)}"},
            {"url": "/invocations?model=", "headers": {"x-headgate-model": ""}},
            {"url": "/invocations", "headers": {"x-amzn-sagemaker-target-model": ""}},
        ):
            answer = asked.post(request.pop("url"), content=body, **request)
            assert answer.json() == {"predictions": [1.0, 2.0]}
        assert asked.post("/invocations?model=other", content=body).status_code == 404
