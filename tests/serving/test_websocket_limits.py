"""How much of one WebSocket is taken on at a time, and how it ends. The app without a server."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from serving.asgi import make_root, metric
from serving.held import held_app
from serving.refusals import ROW

from headgate.serving.launch.websocket import DRAIN, EXTENSION
from headgate.serving.protocols.websocket import MOST_IN_FLIGHT

PATH = "/ws/late-flights"


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("root"), serving="max_queue_rows = 10_000\n")
    with held_app(root) as (asked, held):
        yield asked, held


class Peer:
    """One connection, played by hand: what the app was given, and what it said."""

    def __init__(self, app):
        self.inbox = asyncio.Queue()
        self.outbox = asyncio.Queue()
        self.writable = asyncio.Event()
        self.writable.set()
        self.polite = self.busy = False
        self.extension = {EXTENSION: self}
        scope = {
            "type": "websocket",
            "path": PATH,
            "headers": [(b"host", b"x")],
            "extensions": self.extension,
            "state": {},
        }
        self.inbox.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app(scope, self.inbox.get, self.outbox.put))

    async def say(self, text):
        """As the connection that the app finds in its scope."""
        await self.writable.wait()
        await self.outbox.put({"type": "websocket.send", "text": text.decode()})

    def put(self, **message):
        self.inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    async def accepted(self):
        assert (await self.outbox.get())["type"] == "websocket.accept"

    async def hear(self):
        message = await self.outbox.get()
        assert message["type"] == "websocket.send", message
        return json.loads(message["text"])


def play(held, scenario):
    """Run ``scenario(peer, held)`` on the app's loop."""
    asked, engine = held

    async def run():
        peer = Peer(asked.app)
        await peer.accepted()
        try:
            await scenario(peer, engine)
        finally:
            engine.go.set()
            peer.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
            peer.writable.set()
            await peer.task

    asked.run(run())


async def settled(peer):
    """Everything that can run has."""
    left = None
    while left != peer.inbox.qsize():
        left = peer.inbox.qsize()
        for _ in range(5):
            await asyncio.sleep(0)


def test_answers_come_when_they_are_ready(held):
    async def scenario(peer, engine):
        with engine.back():
            peer.put(id="slow", instances=[ROW])
            peer.put(id="wrong", instances=[])
            assert (await peer.hear())["id"] == "wrong"
            assert peer.busy
        assert (await peer.hear())["id"] == "slow"
        await settled(peer)
        assert not peer.busy

    play(held, scenario)


def test_so_many_are_in_flight_and_the_rest_is_not_read(held):
    async def scenario(peer, engine):
        extra = 50
        with engine.back():
            for number in range(MOST_IN_FLIGHT + extra):
                peer.put(id=number, deadline_ms=60_000, instances=[ROW])
            await settled(peer)
            assert peer.inbox.qsize() == extra
        found = [(await peer.hear()) for _ in range(MOST_IN_FLIGHT + extra)]
        assert all("predictions" in each for each in found)
        assert {each["id"] for each in found} == set(range(MOST_IN_FLIGHT + extra))

    play(held, scenario)


def test_so_many_bytes_are_in_flight(held):
    asked, _ = held
    large = ROW | {"carrier": "x" * (asked.worker.max_body // 4)}

    async def scenario(peer, engine):
        with engine.back():
            for number in range(20):
                peer.put(id=number, deadline_ms=60_000, instances=[large])
            await settled(peer)
            assert peer.inbox.qsize() == 16  # four of them fill it
        assert {(await peer.hear())["id"] for _ in range(20)} == set(range(20))

    play(held, scenario)


def test_a_client_that_reads_nothing_is_not_read_from(held):
    async def scenario(peer, engine):
        del engine
        peer.writable.clear()
        for number in range(MOST_IN_FLIGHT + 30):
            peer.put(id=number, instances=[])
        await settled(peer)
        assert peer.outbox.qsize() == 0
        assert peer.inbox.qsize() == 30
        peer.writable.set()
        found = {(await peer.hear())["id"] for _ in range(MOST_IN_FLIGHT + 30)}
        assert found == set(range(MOST_IN_FLIGHT + 30))

    play(held, scenario)


def test_what_a_client_that_left_wanted_is_given_up(held):
    before = metric("headgate_requests_total", surface="ws", outcome="gone")
    asked, engine = held

    async def run():
        peer = Peer(asked.app)
        await peer.accepted()
        with engine.back():
            peer.put(id=1, instances=[ROW])  # in the engine
            await engine.waiting(asked, "late-flights", 0)
            for number in range(2, 12):
                peer.put(id=number, instances=[ROW])
            await engine.waiting(asked, "late-flights", 10)
            peer.inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})
            await peer.task
            await settled(peer)
            assert asked.worker.models["late-flights"].batcher.queued_rows == 0
        assert peer.outbox.qsize() == 0

    asked.run(run())
    asked.worker.flush()
    assert metric("headgate_requests_total", surface="ws", outcome="gone") == before + 11
    assert engine.calls == [1]


def test_what_came_before_the_drain_is_answered(held):
    async def scenario(peer, engine):
        assert peer.polite
        with engine.back():
            for number in range(5):
                peer.put(id=number, instances=[ROW])
            peer.inbox.put_nowait({"type": DRAIN})
            peer.put(id="too late", instances=[ROW])
            await settled(peer)
            assert peer.outbox.qsize() == 0
        assert {(await peer.hear())["id"] for _ in range(5)} == set(range(5))
        assert await peer.outbox.get() == {"type": "websocket.close", "code": 1001}
        await peer.task

    play(held, scenario)


def test_messages_beyond_the_queue_are_told_so(tmp_path):
    with held_app(make_root(tmp_path, serving="max_queue_rows = 3\n")) as held:

        async def scenario(peer, engine):
            with engine.back():
                peer.put(id=0, instances=[ROW])
                await engine.waiting(held[0], "late-flights", 0)
                for number in range(1, 10):
                    peer.put(id=number, instances=[ROW])
                shed = [await peer.hear() for _ in range(6)]
                assert {each["status"] for each in shed} == {429}
                assert all(each["retry_after_s"] >= 1 for each in shed)
            found = [await peer.hear() for _ in range(4)]
            assert {each["id"] for each in found + shed} == set(range(10))
            assert all("predictions" in each for each in found)

        play(held, scenario)


def test_another_server_will_do(held):
    """One without our connection: the app sends by ASGI alone."""
    asked, _ = held

    async def run():
        inbox, outbox = asyncio.Queue(), asyncio.Queue()
        scope = {"type": "websocket", "path": PATH, "headers": []}
        task = asyncio.create_task(asked.app(scope, inbox.get, outbox.put))
        inbox.put_nowait({"type": "websocket.connect"})
        assert (await outbox.get())["type"] == "websocket.accept"
        text = json.dumps({"id": 1, "instances": [ROW]})
        inbox.put_nowait({"type": "websocket.receive", "text": text})
        assert json.loads((await outbox.get())["text"])["id"] == 1
        inbox.put_nowait({"type": "websocket.disconnect", "code": 1005})
        await task

    asked.run(run())


def test_a_client_that_leaves_before_it_is_accepted(held):
    asked, _ = held

    async def run():
        inbox, outbox = asyncio.Queue(), asyncio.Queue()
        inbox.put_nowait({"type": "websocket.disconnect", "code": 1006})
        scope = {"type": "websocket", "path": PATH, "headers": []}
        with contextlib.suppress(asyncio.CancelledError):
            await asked.app(scope, inbox.get, outbox.put)
        assert outbox.empty()

    asked.run(run())
