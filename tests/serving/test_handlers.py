"""What is no prediction: small requests, and readiness while a worker stops."""

from __future__ import annotations

import asyncio
import gzip
import json
from types import SimpleNamespace

import pytest

from headgate.errors import InputError
from headgate.serving import drain
from headgate.serving.handlers import asked, ready, told

WHO = [(b"x-headgate-release", b"r:1")]
GZIP = (b"content-encoding", b"gzip")


def answer(handler, *messages, path="/x", head=()):
    """Status, body and headers of what a handler says to a request that comes in these messages."""
    sent = []
    waiting = list(messages)

    async def receive():
        if not waiting:
            raise AssertionError("more is asked for than there is")
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(head)}
    asyncio.run(handler(scope, receive, send))
    if not sent:
        return None
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(body), sent[0]["headers"]


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def upper(body):
    if not body:
        raise InputError("nothing", where="body", remedy="send something")
    return body.upper()


def problem(error):
    return json.dumps(str(error)).encode()


def test_a_small_request_is_answered():
    status, body, headers = answer(asked(upper, problem, WHO), part(b'"a', more=True), part(b'b"'))
    assert (status, body) == (200, "AB")
    assert WHO[0] in headers


@pytest.mark.parametrize(
    ("messages", "head", "status", "what"),
    [
        ([part(b"")], [], 400, "body: nothing"),
        ([part(b"x" * 70_000)], [], 413, "body: the body has 70000 bytes"),
        (
            [part(b"x" * 40_000, more=True), part(b"x" * 40_000)],
            [],
            413,
            "body: the body has 80000",
        ),
        ([part(b"")], [(b"content-length", b"2000000000")], 413, "body: the body has 2000000000"),
        ([], [(b"content-type", b"text/csv")], 415, "header Content-Type"),
        ([part(b"x")], [GZIP], 400, "header Content-Encoding: the body"),
        ([part(gzip.compress(b"x" * 65_537))], [GZIP], 413, "body: the body has more than 65536"),
    ],
)
def test_one_that_is_wrong_is_told_in_the_protocol_s_words(messages, head, status, what):
    found, body, headers = answer(asked(upper, problem, WHO), *messages, head=head)
    assert found == status
    assert body.startswith(what)
    assert WHO[0] in headers


def test_a_small_request_may_be_compressed():
    found = answer(asked(upper, problem, WHO), part(gzip.compress(b'"ab"')), head=[GZIP])
    assert found[:2] == (200, "AB")


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b"x" * 65_537, []),
        (gzip.compress(b"x" * 65_537), [GZIP]),
        (b"", [(b"content-length", b"65537")]),
    ],
    ids=["sent", "packed", "announced"],
)
def test_the_limit_of_a_small_request_is_no_setting(body, head):
    found = answer(asked(upper, problem, WHO), part(body), head=head)
    assert found[0] == 413
    assert found[1].endswith("send at most 65536 bytes")


def test_nothing_is_said_to_a_client_that_left():
    assert answer(asked(upper, problem, WHO), {"type": "http.disconnect"}) is None


def test_trouble_is_503():
    found = []
    handler = ready(
        lambda: found[0] if found else None,
        lambda: b'"good"',
        WHO,
        wrong=lambda trouble: json.dumps(trouble).encode(),
    )
    assert answer(handler)[:2] == (200, "good")
    found.append("it hangs")
    assert answer(handler)[:2] == (503, "it hangs")


def test_a_worker_that_stops_is_not_ready_and_answers_all_the_same(monkeypatch):
    handler = ready(
        lambda: None, lambda: b'"good"', WHO, wrong=lambda why: json.dumps(why).encode()
    )
    assert answer(handler)[0] == 200
    monkeypatch.setattr(drain, "_servers", [SimpleNamespace(leaving=True)])
    assert answer(handler)[:2] == (503, "this server is stopping")
    app = drain._without_sockets(told(lambda: b'"good"', WHO))
    assert answer(app, path="/readyz")[0] == 503
    for path in ("/ping", "/predictions/ping", "/v2/health/live"):
        assert answer(app, path=path)[0] == 200
