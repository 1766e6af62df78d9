"""Answers of endpoints that Headgate knows nothing of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from headgate.errors import InputError
from headgate.gate.plan import Ask, Target
from headgate.gate.replies import Replies, first_replies

FIRST = {"y": 1.5, "at": 100, "labels": ["a", "b"], "more": {"id": "x1", "left": None}}
SECOND = {**FIRST, "at": 101, "more": {"id": "x2", "left": None}}


def judged(document: Any, *, same: bool = True, status: int = 200) -> tuple[bool, bool, str]:
    replies = Replies([(FIRST, SECOND)], same=same)
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    found = replies.compare([0], [status], [body])
    return bool(found.ok[0]), bool(found.matched[0]), found.cause[0]


def test_the_same_but_for_what_differs_between_equal_requests() -> None:
    later = {**FIRST, "at": 999, "more": {"id": "y7", "left": None}}
    assert judged(later) == (True, True, "")
    assert judged({**FIRST, "y": 1.5 + 1e-12}) == (True, True, "")
    assert judged({**FIRST, "y": 1.6}) == (True, False, "")
    assert judged({**FIRST, "labels": ["b", "a"]}) == (True, False, "")
    assert judged({**FIRST, "labels": ["a"]}) == (True, False, "")
    assert judged({**FIRST, "more": {"id": "x1", "left": "now"}}) == (True, False, "")


def test_of_the_same_shape() -> None:
    assert judged({**FIRST, "y": 99, "labels": ["c", "d", "e"]}, same=False) == (True, True, "")
    assert judged({**FIRST, "y": 2}, same=False) == (True, True, "")
    more = {"id": "x1", "left": "anything fits where there was null"}
    assert judged({**FIRST, "more": more}, same=False) == (True, True, "")


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(
    ("document", "cause"),
    [
        ({"error": "out of memory"}, "HTTP 200 of another shape at ."),
        ({**FIRST, "y": "1.5"}, "HTTP 200 of another shape at .y"),
        ({**FIRST, "y": True}, "HTTP 200 of another shape at .y"),
        (None, "HTTP 200 of another shape at ."),
        ({**FIRST, "y": None}, "HTTP 200 of another shape at .y"),
        ({**FIRST, "more": None}, "HTTP 200 of another shape at .more"),
        ({**FIRST, "y": [1.5]}, "HTTP 200 of another shape at .y"),
        ({**FIRST, "labels": "ab"}, "HTTP 200 of another shape at .labels"),
        ({**FIRST, "labels": []}, "HTTP 200 of another shape at .labels"),
        ({**FIRST, "labels": ["a", 2]}, "HTTP 200 of another shape at .labels.1"),
        ({**FIRST, "more": {"id": "x1"}}, "HTTP 200 of another shape at .more"),
        (b"<html>It works!</html>", "HTTP 200 without JSON"),
        (b"[" * 100_000, "HTTP 200 without JSON"),
        (b"", "HTTP 200 without JSON"),
    ],
    ids=[
        "error",
        "string",
        "flag",
        "null",
        "null in it",
        "null for more",
        "list",
        "no list",
        "empty",
        "mixed",
        "less",
        "html",
        "deep",
        "nothing",
    ],
)
def test_another_shape_is_an_error(document: Any, cause: str, same: bool) -> None:
    assert judged(document, same=same) == (False, False, cause)


def test_one_and_one_point_nothing_are_equal() -> None:
    for first, second in ((1, 1.0), (1.0, 1)):
        replies = Replies([({"y": first}, {"y": first})], same=True)
        body = json.dumps({"y": second}).encode()
        assert replies.compare([0], [200], [body]).matched.all()


def test_where_all_is_noise_nothing_can_be_compared() -> None:
    assert not Replies([(FIRST, SECOND)], same=True).noisy()
    assert Replies([(FIRST, SECOND), ({"at": 1}, {"at": 2})], same=True).noisy()
    assert not Replies([({}, {})], same=True).noisy()


def test_another_status_is_an_error() -> None:
    assert judged(FIRST, status=500) == (False, False, "HTTP 500")
    assert judged(FIRST, status=302) == (False, False, "HTTP 302")
    assert judged(FIRST, status=201) == (True, True, "")
    assert judged(b"connection refused", status=0) == (False, False, "connection refused")


def test_each_request_has_its_own_answer() -> None:
    replies = Replies([({"y": 1}, {"y": 1}), ({"y": 2}, {"y": 2})], same=True)
    found = replies.compare(
        [0, 1, 0, 1], [200] * 4, [b'{"y":1}', b'{"y":2}', b'{"y":2}', b'{"y":1}']
    )
    assert found.ok.all()
    assert found.matched.tolist() == [True, True, False, False]
    assert replies.noise == frozenset()


@contextmanager
def answering(answer: Callable[[str, dict[str, str], bytes], tuple[int, bytes]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, said = answer(self.path, dict(self.headers.items()), body)
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def target(url: str, *bodies: bytes) -> Target:
    asks = tuple(Ask(path="/score?v=2", body=body) for body in bodies)
    return Target(url=url, asks=asks, headers=(("x-key", "s3cret"),))


def test_the_first_answers_are_asked_for_twice() -> None:
    seen = []

    def answer(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        seen.append((path, headers["x-key"], headers["content-type"], body))
        return 200, json.dumps({"asked": json.loads(body), "count": len(seen)}).encode()

    with answering(answer) as url:
        first, second = first_replies(target(url, b"1", b'{"a": 2}'), 60)
    assert first == ({"asked": 1, "count": 1}, {"asked": 1, "count": 2})
    assert second == ({"asked": {"a": 2}, "count": 3}, {"asked": {"a": 2}, "count": 4})
    assert {(path, key, kind) for path, key, kind, _ in seen} == {
        ("/score?v=2", "s3cret", "application/json")
    }
    assert Replies([first, second], same=True).noise == {("count",)}


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (404, b"no such page", r"answered HTTP 404 before any load: 'no such page'"),
        (200, b"hello", r"did not answer with JSON: 'hello'"),
    ],
    ids=["404", "text"],
)
def test_what_cannot_be_compared_with_is_refused(status: int, said: bytes, words: str) -> None:
    with (
        answering(lambda *_: (status, said)) as url,
        pytest.raises(InputError, match=words) as caught,
    ):
        first_replies(target(url, b"{}"), 60)
    assert caught.value.where == f"{url}/score?v=2, request 1"


def test_nobody_answers() -> None:
    with answering(lambda *_: (200, b"{}")) as url:
        pass
    with pytest.raises(InputError, match="it did not answer") as caught:
        first_replies(target(url, b"{}"), 60)
    assert caught.value.where == url
