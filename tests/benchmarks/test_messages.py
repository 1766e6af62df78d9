"""The WebSocket's load, against a server that keeps count."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import orjson
import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from benchmarks.harness import messages
from benchmarks.harness.messages import SocketError

FIRST = 1_000_000
BODIES = [orjson.dumps({"instances": [[n] * size]}) for n, size in enumerate((1, 40, 30_000))]


@contextlib.contextmanager
def server(*, fail_every=0):
    """Answers in reverse within what it has at hand; every so many with an error."""
    seen = []
    port = None
    ready, over = threading.Event(), None

    async def handle(socket):
        held = []
        async for text in socket:
            held.append(orjson.loads(text))
            if len(held) < 3 and socket.request.path != "/single":
                continue
            for message in reversed(held):
                seen.append(message)
                wrong = fail_every and len(seen) % fail_every == 0
                told = {"status": 400} if wrong else {"predictions": message["instances"]}
                with contextlib.suppress(ConnectionClosed):
                    await socket.send(orjson.dumps({"id": message["id"], **told}).decode())
            held.clear()

    async def run():
        nonlocal port, over
        over = asyncio.Event()
        async with serve(handle, "127.0.0.1", 0, max_size=2**24, close_timeout=1) as listening:
            port = next(iter(listening.sockets)).getsockname()[1]
            ready.set()
            await over.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(10)
    yield port, seen
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


@pytest.mark.parametrize("in_flight", [3, 12])
def test_every_message_has_an_id_and_a_body_of_its_turn(in_flight):
    with server() as (port, seen):
        measured = messages.load(port, "/", BODIES, in_flight=in_flight, seconds=0.3)
    assert measured.errors == 0
    assert measured.rps > 0
    ids = [each["id"] for each in seen]
    assert len(set(ids)) == len(ids)
    for each in seen:
        assert {"instances": each["instances"]} == orjson.loads(BODIES[(each["id"] - FIRST) % 3])


def test_errors_are_counted_and_are_no_answers():
    with server(fail_every=5) as (port, seen):
        measured = messages.load(port, "/", BODIES[:1], in_flight=6, seconds=0.3)
    answered = len(seen) - len(seen) % 3
    assert measured.errors == pytest.approx(answered / 5, abs=3)


def test_one_is_asked_and_answered():
    with server() as (port, _):
        answer = orjson.loads(messages.ask(port, "/single", BODIES[2]))
        assert answer["predictions"] == orjson.loads(BODIES[2])["instances"]
    with server(fail_every=1) as (port, _), pytest.raises(SocketError, match="400"):
        messages.ask(port, "/single", BODIES[0])
