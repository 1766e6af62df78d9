"""BentoML's middleware, mended: nothing is left behind, and nothing grows."""

from __future__ import annotations

import asyncio
import json

import prometheus_client
import pytest
from serving.asgi import make_root, serving_app

from headgate.serving.middleware import Timeout

HTTP = {"type": "http", "path": "/slow"}


def play(app, seconds, scope=HTTP):
    """What is sent, and how many timers are left."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    async def main():
        await Timeout(app, seconds)(scope, receive, send)
        loop = asyncio.get_running_loop()
        return [timer for timer in loop._scheduled if not timer.cancelled()]

    return sent, asyncio.run(main())


async def quick(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def never(scope, receive, send):
    await asyncio.Event().wait()


def test_what_is_quick_leaves_no_timer():
    sent, timers = play(quick, 60)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert timers == []


def test_what_takes_too_long_gets_504_and_leaves_no_timer():
    (start, body), timers = play(never, 0.01)
    assert start["status"] == 504
    assert json.loads(body["body"]) == {
        "error": "no answer within 0.01 s",
        "where": "/slow",
        "remedy": "try again later",
    }
    assert timers == []


def test_the_clock_stops_when_the_answer_begins():
    async def begins(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"done"})

    sent, _ = play(begins, 0.01)
    assert [message.get("status") for message in sent] == [200, None]


def test_a_timeout_of_the_app_itself_is_its_own():
    async def raises(scope, receive, send):
        raise TimeoutError("of a database")

    with pytest.raises(TimeoutError, match="of a database"):
        play(raises, 60)


def test_what_is_no_request_takes_as_long_as_it_likes():
    async def socket(scope, receive, send):
        await asyncio.sleep(0.05)
        await send({"type": "websocket.close"})

    sent, _ = play(socket, 0.01, scope={"type": "websocket", "path": "/"})
    assert sent == [{"type": "websocket.close"}]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(make_root(tmp_path_factory.mktemp("middleware"))) as asked:
        yield asked


def endpoints():
    return {
        sample.labels["endpoint"]
        for family in prometheus_client.REGISTRY.collect()
        for sample in family.samples
        if "endpoint" in sample.labels
    }


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_bentoml_counts_its_own_paths_alone(asked, kind):
    from headgate.serving.middleware import BoundedMetrics

    passed = []

    async def app(scope, receive, send):
        passed.append(scope["path"])
        await quick(scope, receive, send)

    async def send(message):
        """Nobody reads it."""

    counts = BoundedMetrics(app, frozenset({"/known"}), namespace=f"bentoml_{kind}")
    for path in ("/known", "/unknown", "/known/not"):
        scope = {"type": kind, "path": path, "method": "GET"}
        asked.run(counts(scope, None, send))
    assert passed == ["/known", "/unknown", "/known/not"]
    assert "/known" in endpoints()
    assert not {"/unknown", "/known/not"} & endpoints()


def test_opentelemetry_wraps_nothing_where_nothing_is_sampled(asked):
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    from headgate.serving.front import Front

    assert isinstance(asked.app, Front)
    inner, found = asked.app._app.middleware_stack, []
    while inner is not None:
        found.append(type(inner))
        inner = getattr(inner, "app", getattr(inner, "_app", None))
    assert Timeout in found
    assert OpenTelemetryMiddleware not in found
