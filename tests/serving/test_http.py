"""Bodies with a limit, and what an error means in HTTP, without a model or a server."""

from __future__ import annotations

import asyncio
import json

import pytest

from headgate import errors
from headgate.serving import http
from headgate.serving.http import (
    MediaTypeError,
    MethodError,
    TooLargeError,
    accept_json,
    deadline_s,
    discard_body,
    error_headers,
    loads,
    meaning,
    problem,
    read_body,
    reply,
    still_there,
)
from headgate.serving.job import ClientGoneError, QueueFullError

GONE = {"type": "http.disconnect"}


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


class Client:
    """Sends these messages, then nothing any more; keeps what it is sent."""

    def __init__(self, *messages):
        self.messages = list(messages)
        self.sent = []

    async def receive(self):
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message):
        self.sent.append(message)


def read(*messages, limit=10, head=None):
    client = Client(*messages)
    return asyncio.run(read_body(head or {}, client.receive, limit)), client.messages


def test_a_body_is_read_whole():
    assert read(part(b"1234567890", more=False)) == (b"1234567890", [])
    assert read({"type": "http.request"}) == (b"", [])
    assert (
        read(part(b"123"), part(b""), part(b"456"), part(b"7890", more=False))[0] == b"1234567890"
    )
    assert read(part(b"ab", more=False), head={b"content-length": b"x"})[0] == b"ab"


@pytest.mark.parametrize(
    ("messages", "head", "size", "unread", "left"),
    [
        ([part(b"1")], {b"content-length": b"11"}, "11 bytes", True, 1),
        ([part(b"1")], {b"content-length": b"1" + b"0" * 30}, f"1{'0' * 30} bytes", True, 1),
        ([part(b"12345678901", more=False)], {}, "11 bytes", False, 0),
        ([part(b"123456"), part(b"789012"), part(b"")], {}, "more than 10 bytes", True, 1),
        ([part(b"123456"), part(b"789012", more=False)], {}, "12 bytes", False, 0),
        # What it says is less than what it sends.
        ([part(b"x" * 11), part(b"")], {b"content-length": b"1"}, "more than 10 bytes", True, 1),
    ],
)
def test_a_body_over_the_limit_is_read_no_further(messages, head, size, unread, left):
    client = Client(*messages)
    with pytest.raises(TooLargeError) as caught:
        asyncio.run(read_body(head, client.receive, 10))
    assert caught.value.what == f"the body has {size}"
    assert caught.value.unread is unread
    assert len(client.messages) == left


@pytest.mark.parametrize("messages", [[GONE], [part(b"12"), GONE]])
def test_half_a_body_is_no_request(messages):
    with pytest.raises(ClientGoneError, match="before its request was complete"):
        read(*messages)


def discard(*messages, **limits):
    client = Client(*messages)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(http, name, value)
        asyncio.run(discard_body(413, b"{}", client.receive, client.send, [(b"x-y", b"z")]))
    start, body, end = client.sent
    assert start["status"] == 413
    assert {(b"connection", b"close"), (b"content-length", b"2"), (b"x-y", b"z")} <= {
        *start["headers"]
    }
    assert (body["body"], body["more_body"]) == (b"{}", True)
    assert end == {"type": "http.response.body", "body": b""}
    return client.messages


def test_what_still_comes_after_the_answer_is_thrown_away_within_bounds():
    assert discard(part(b"123"), part(b"456", more=False), part(b"next")) == [part(b"next")]
    assert discard(part(b"123"), GONE, part(b"next")) == [part(b"next")]
    assert len(discard(*[part(b"1234")] * 9, _DISCARD_BYTES=10)) == 6
    # This one neither sends nor leaves.
    assert discard(part(b"123"), _DISCARD_S=0.01) == []


ERRORS = [
    (TooLargeError("x"), 413, "too_large"),
    (MediaTypeError("x"), 415, "media_type"),
    (MethodError("x"), 405, "method"),
    (errors.UnknownModelError("x"), 404, "unknown"),
    (errors.InputError("x"), 400, "input"),
    (errors.OverloadError("x"), 503, "overload"),
    (QueueFullError("x"), 429, "overload"),
    (errors.DeadlineExceededError("x"), 504, "deadline"),
    (ClientGoneError("x"), 499, "gone"),
    (errors.ServingError("x"), 500, "engine"),
    (errors.ArtifactError("x"), 500, "internal"),
    (errors.HeadgateError("x"), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "outcome"), ERRORS)
def test_every_error_has_a_status_and_an_outcome(error, status, outcome):
    assert meaning(error) == (status, outcome)


def test_every_error_of_the_tree_has_a_meaning():
    for name in errors.__all__:
        status, outcome = meaning(getattr(errors, name)("x"))
        assert 400 <= status <= 599
        assert outcome in {"input", "unknown", "overload", "deadline", "engine", "internal"}


def test_a_problem_says_what_where_and_what_would_be_right():
    error = errors.InputError("'x' is no int64", where="instances[0].é", remedy="send an integer")
    assert json.loads(problem(error)) == {
        "error": "'x' is no int64",
        "where": "instances[0].é",
        "remedy": "send an integer",
    }


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.OverloadError("x", retry_after_s=0.001), [(b"retry-after", b"1")]),
        (errors.OverloadError("x", retry_after_s=2.2), [(b"retry-after", b"3")]),
        (errors.DeadlineExceededError("x"), [(b"retry-after", b"1")]),
        (errors.InputError("x"), []),
        (errors.ServingError("x"), []),
    ],
)
def test_what_may_go_better_later_says_when(error, headers):
    assert error_headers(error) == headers


def test_a_reply_is_whole():
    client = Client()
    asyncio.run(reply(client.send, 404, b"{}", [(b"a", b"b")]))
    start, body = client.sent
    assert start["status"] == 404
    assert start["headers"] == [
        (b"content-type", b"application/json"),
        (b"content-length", b"2"),
        (b"a", b"b"),
    ]
    assert body == {"type": "http.response.body", "body": b"{}"}


@pytest.mark.parametrize(
    "head",
    [
        {},
        {b"content-type": b""},
        {b"content-type": b"application/json"},
        {b"content-type": b" Application/Json ;charset=utf-8"},
        {b"content-type": b"application/x-www-form-urlencoded"},
        {b"content-type": b"application/vnd.kserve+json"},
        {b"content-type": b"text/plain"},
        {b"content-type": b"text/plain;charset=UTF-8"},
        {b"content-encoding": b"identity"},
        {b"content-encoding": b"Identity"},
        {b"content-encoding": b"gzip"},
        {b"content-encoding": b"X-Gzip"},
        {b"content-encoding": b"deflate"},
    ],
)
def test_what_may_be_json_is_read(head):
    accept_json(head)


@pytest.mark.parametrize(
    ("head", "where"),
    [
        ({b"content-type": b"text/json-ish"}, "header Content-Type"),
        ({b"content-type": b"application/vnd.bentoml+pickle"}, "header Content-Type"),
        ({b"content-type": b"\xff\x00"}, "header Content-Type"),
        ({b"content-type": b";"}, None),
        ({b"content-encoding": b"br"}, "header Content-Encoding"),
        ({b"content-encoding": b"gzip, gzip"}, "header Content-Encoding"),
        ({b"content-encoding": b""}, "header Content-Encoding"),
    ],
)
def test_what_says_it_is_something_else_is_not(head, where):
    if where is None:
        accept_json(head)
        return
    with pytest.raises(MediaTypeError) as caught:
        accept_json(head)
    assert caught.value.where == where


def test_a_deadline_is_in_milliseconds():
    assert deadline_s({}, 2.5) == 2.5
    assert deadline_s({b"x-headgate-deadline-ms": b"250"}, 2.5) == 0.25
    assert deadline_s({b"x-headgate-deadline-ms": b" 0.5 "}, 2.5) == 0.0005


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "1e999", "nan", "", "{", '"\ud800"', "[" * 2000]
)
def test_json_is_json(text):
    with pytest.raises(errors.InputError) as caught:
        loads(text.encode("utf-8", "surrogatepass"))
    assert caught.value.where == "body"


def test_only_uvicorn_says_whether_the_client_is_there():
    class Cycle:
        disconnected = False

        async def receive(self):
            raise NotImplementedError

    assert still_there(Client().receive) is None
    cycle = Cycle()
    alive = still_there(cycle.receive)
    assert alive is not None
    assert alive()
    cycle.disconnected = True
    assert not alive()
