"""A worker's app from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import re

import httpx
import pytest
from serving.asgi import make_root, metric, serving_app


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path, kinds=("table",))


def readyz(app):
    """The answer to one request, on a loop of its own."""

    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/readyz")

    return asyncio.run(main())


def test_it_is_ready_between_its_start_and_its_end(root):
    with serving_app(root) as asked:
        assert asked.get("/readyz").json() == {"ready": True}
    answer = readyz(asked.app)
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "error": "it is starting"}


def test_a_service_that_does_not_start_is_not_ready(root):
    from headgate.serving.front import Front

    with serving_app(root) as asked:
        app = asked.app._app

        async def fails(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no"})

        front = Front(app, asked.worker)
        front._app = fails
        sent = []

        async def receive():
            return {"type": "lifespan.startup"}

        async def send(message):
            sent.append(message["type"])

        asked.run(front({"type": "lifespan"}, receive, send))
        assert sent == ["lifespan.startup.failed"]
        # The worker was stopped with it.
        assert asked.get("/readyz").status_code == 503


def test_what_is_scraped_is_up_to_date(root):
    with serving_app(root) as asked:
        before = metric("headgate_requests_total", surface="v1", outcome="input")
        asked.post("/v1/models/late-flights:predict", content=b"x")
        assert asked.get("/metrics").status_code == 200
        assert metric("headgate_requests_total", surface="v1", outcome="input") == before + 1


def test_uvicorn_prints_no_line_for_every_request(root):
    with serving_app(root):
        access = logging.getLogger("uvicorn.access")
        assert not access.propagate
        assert access.handlers == []


def test_its_page_loads_nothing_from_elsewhere(root):
    with serving_app(root) as asked:
        answer = asked.get("/")
        assert answer.headers["content-type"].startswith("text/html")
        assert "//" not in answer.text
        parts = re.findall(r'(?:src|href)="\.(.*?)"', answer.text)
        assert len(parts) == 5
        for part in parts:
            assert asked.get(part).status_code == 200, part
