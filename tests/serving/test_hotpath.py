"""Paths and methods: which are answered, what is said about the others, and what is counted."""

from __future__ import annotations

import json

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.asgi import make_root, metric, serving_app
from serving.refusals import told

GETS = [
    "/livez",
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/models",
    "/v1/models/late-flights",
    "/v1/models/late-flights/versions/1",
    "/v1/models/late-flights/metadata",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models",
    "/v2/models/late-flights",
    "/v2/models/late-flights/config",
    "/v2/models/late-flights/ready",
    "/ping",
    "/health",
    "/version",
    "/models",
    "/models/late-flights",
]
POSTS = [
    "/v1/models/late-flights:predict",
    "/v1/models/late-flights/versions/1:predict",
    "/v2/models/late-flights/infer",
    "/late_flights",
    "/invocations",
    "/models/late-flights/invoke",
    "/predictions/late-flights",
    "/predictions/late-flights/1",
    "/v2/repository/index",
    "/v2/repository/models/late-flights/load",
]
PAGES = ["/", "/docs.json", "/schema.json", "/static_content/swagger-ui.css"]
SEE = "see /docs.json, /v1/models and /v2 for what there is"
MODELS = "served here: breast-cancer, late-flights"
VERSION = "served here: version 1"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(make_root(tmp_path_factory.mktemp("hotpath"))) as asked:
        yield asked


def said(answer):
    """What, where and the remedy."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-headgate-release"] == "test:1"
    path = protocol(answer.request.url.path)
    where, what, remedy = told(path, answer.json(), answer.status_code)
    return what, where, remedy


def protocol(path):
    """The path of a protocol with errors of its own, else V1's."""
    ours = ("/v2", "/models", "/predictions", "/invocations")
    return path if path.startswith(ours) else "/v1"


def to(asked, path, method="GET", kind="http"):
    """The messages that answer a request whose path is not put in order by a client."""
    sent = []
    scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "subprotocols": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
        "extensions": {},
    }
    messages = [{"type": f"{kind}.disconnect"}]
    messages.append({"type": "http.request"} if kind == "http" else {"type": "websocket.connect"})

    async def receive():
        return messages.pop() if len(messages) > 1 else messages[0]

    async def send(message):
        sent.append(message)

    asked.run(asked.app(scope, receive, send))
    return sent


@pytest.mark.parametrize("path", GETS)
def test_what_can_be_read_is_json_and_has_no_other_method(asked, path):
    answer = asked.get(path)
    assert answer.status_code == 200
    if path != "/metrics":
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() is not None
    assert asked.get(f"{path}?x=1").status_code == 200
    head = asked.request("HEAD", path)
    assert head.status_code == 200
    assert head.headers["content-type"] == answer.headers["content-type"]
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        refused = asked.request(method, path)
        assert refused.status_code == 405
        assert refused.headers["allow"] == "GET, HEAD"
        assert said(refused) == (f"{method} is not allowed", path, "use GET, HEAD")


@pytest.mark.parametrize("path", POSTS)
def test_what_can_be_asked_has_no_other_method(asked, path):
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"):
        refused = asked.request(method, path)
        assert refused.status_code == 405
        assert refused.headers["allow"] == "POST"
        if method != "HEAD":
            assert said(refused) == (f"{method} is not allowed", path, "use POST")


def test_a_long_method_is_not_repeated(asked):
    start, body = to(asked, "/livez", method="X" * 5000)
    assert start["status"] == 405
    assert len(body["body"]) < 200


@pytest.mark.parametrize("path", PAGES)
def test_bentoml_s_pages_are_there(asked, path):
    assert asked.get(path).status_code == 200
    assert asked.request("HEAD", path).status_code == 200
    refused = asked.post(path, content=b"x" * 1000)
    assert refused.status_code == 405


def test_a_page_says_which_method_it_takes(asked):
    refused = asked.post("/docs.json")
    assert refused.headers["allow"] == "GET, HEAD"
    assert said(refused) == ("POST is not allowed", "/docs.json", "use GET, HEAD")


@pytest.mark.parametrize("path", ["/livez", "/v1/models", "/v2", "/v1/models/late-flights"])
def test_a_slash_at_the_end_changes_nothing(asked, path):
    assert asked.get(f"{path}/").content == asked.get(path).content


def test_a_slash_after_what_is_asked_changes_nothing(asked):
    row = {"carrier": None, "distance": 1, "wind": None}
    for path in POSTS:
        body = {"instances": [row]}
        assert asked.post(f"{path}/", json=body).content == asked.post(path, json=body).content


def test_a_percent_encoded_path_is_the_path(asked):
    assert asked.get("/v1/models/late%2Dflights").status_code == 200
    assert asked.get("/v1%2Fmodels").json() == asked.get("/v1/models").json()


UNKNOWN = [
    ("/nothing", "no such path", "/nothing", SEE),
    ("/v1", "no such path", "/v1", SEE),
    ("/v3/models", "no such path", "/v3/models", SEE),
    ("/V1/models", "no such path", "/V1/models", SEE),
    ("//livez", "no such path", "//livez", SEE),
    ("/livez/../readyz", "no such path", "/livez/../readyz", SEE),
    ("/v1/models/../../etc/passwd", "no model '..'", "/v1/models/../../etc/passwd", MODELS),
    ("/späti ✈", "no such path", "/späti ✈", SEE),
    ("/nul\x00l", "no such path", "/nul\x00l", SEE),
    ("", "no such path", "", SEE),
    ("*", "no such path", "*", SEE),
    ("/" + "x" * 30_000, "no such path", "/" + "x" * 99 + "…", SEE),
    ("/v1/models/nobody", "no model 'nobody'", "/v1/models/nobody", MODELS),
    ("/v1/models/nobody:predict", "no model 'nobody'", "/v1/models/nobody:predict", MODELS),
    ("/v2/models/nobody/infer", "no model 'nobody'", "/v2/models/nobody/infer", MODELS),
    ("/v2/models/Late-Flights", "no model 'Late-Flights'", "/v2/models/Late-Flights", MODELS),
    (f"/v1/models/{'y' * 200}", f"no model '{'y' * 60}'", f"/v1/models/{'y' * 89}…", MODELS),
    ("/v2/models/ünknown", "no model 'ünknown'", "/v2/models/ünknown", MODELS),
    (
        "/v1/models/late-flights/versions/2:predict",
        "no version '2' of late-flights",
        "/v1/models/late-flights/versions/2:predict",
        VERSION,
    ),
    (
        "/v2/models/late-flights/versions/latest/infer",
        "no version 'latest' of late-flights",
        "/v2/models/late-flights/versions/latest/infer",
        VERSION,
    ),
    ("/v1/models/late-flights:explain", "no such path", "/v1/models/late-flights:explain", SEE),
    ("/v2/models/late-flights/versions", "no such path", "/v2/models/late-flights/versions", SEE),
    ("/late_flights/submit", "no such path", "/late_flights/submit", SEE),
    ("/predictions", "no such path", "/predictions", SEE),
    ("/predictions/nobody", "no model 'nobody'", "/predictions/nobody", MODELS),
    ("/models/nobody/invoke", "no model 'nobody'", "/models/nobody/invoke", MODELS),
    (
        "/predictions/late-flights/2",
        "no version '2' of late-flights",
        "/predictions/late-flights/2",
        VERSION,
    ),
    (
        "/v2/repository/models/nobody/load",
        "no model 'nobody'",
        "/v2/repository/models/nobody/load",
        MODELS,
    ),
    ("/invocations/x", "no such path", "/invocations/x", SEE),
]


@pytest.mark.parametrize("case", UNKNOWN, ids=lambda case: case[0][:40])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_told_what_there_is(asked, method, case):
    path, what, where, remedy = case
    start, body = to(asked, path, method)
    assert start["status"] == 404
    assert told(protocol(path), json.loads(body["body"]), 404) == (where, what, remedy)
    assert (b"x-headgate-release", b"test:1") in start["headers"]


def labels():
    """Every series there is, by name and labels."""
    return {
        (sample.name, *sample.labels.items())
        for family in prometheus_client.REGISTRY.collect()
        for sample in family.samples
    }


def test_strangers_do_not_grow_the_metrics(asked):
    asked.get("/docs.json")
    to(asked, "/ws/known", kind="websocket")
    asked.worker.flush()
    before = labels()
    refused = metric("headgate_requests_total", surface="other", outcome="unknown")
    for number in range(50):
        for path in (f"/scan/{number}", f"/v1/models/m{number}", f"/static_content/{number}"):
            assert asked.get(path).status_code == 404
        asked.request(f"M{number}", "/livez")
        asked.post(f"/late_flights?{number}", content=f"{number}")
        to(asked, f"/ws/{number}", kind="websocket")
    asked.worker.flush()
    assert labels() == before
    assert metric("headgate_requests_total", surface="other", outcome="unknown") == refused + 150


def test_what_becomes_of_a_request_is_counted(asked):
    def counts():
        asked.worker.flush()
        return {
            outcome: metric("headgate_requests_total", outcome=outcome)
            for outcome in ("ok", "input", "media_type", "method", "unknown")
        }

    before = counts()
    row = {"carrier": None, "distance": 1, "wind": None}
    for path in (POSTS[0], POSTS[3]):
        asked.post(path, json={"instances": [row]})
        asked.post(path, json={"instances": []})
        asked.post(path, content=b"x", headers={"content-type": "text/html"})
        asked.get(path)
        asked.get(f"{path}x")
    after = counts()
    assert {outcome: after[outcome] - before[outcome] for outcome in before} == dict.fromkeys(
        before, 2
    )
    for surface in ("v1", "typed"):
        ours = {"surface": surface, "model": "late-flights"}
        assert metric("headgate_requests_total", outcome="ok", **ours) >= 1
        assert metric("headgate_request_seconds_count", **ours) >= 3


def test_a_web_socket_that_is_none_is_told_where_there_are(asked):
    start, body = to(asked, "/livez", kind="websocket")
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
    assert "/ws/late-flights" in json.loads(body["body"])["remedy"]


@settings(max_examples=200)
@given(
    path=st.text(st.characters(codec="utf-8"), max_size=60).map(lambda text: f"/{text}")
    | st.lists(
        st.sampled_from(
            ["/v1", "/v2", "/models", "/late-flights", "/versions", "/1", ":predict", "//"]
        )
    ).map("".join),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD"]),
)
def test_no_path_is_too_much(asked, path, method):
    start, *_ = to(asked, path, method)
    assert start["type"] == "http.response.start"
    assert start["status"] in {200, 307, 400, 404, 405}
