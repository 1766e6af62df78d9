"""Dead, slow and greedy peers of a real server, and its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import threading
import time

import pytest
from serving.asgi import make_root
from serving.frames import CLOSE, PING, PONG, TEXT, frame, handshake, raw_socket
from serving.refusals import ROW
from serving.tiny import connect, metric, refused, serving, until

from headgate.serving import drain
from headgate.serving.launch import websocket

PATH = "/ws/late-flights"
SLOW = """
import time
from pathlib import Path
from headgate.predictor import Predictor

_predict = Predictor.predict

def _slowly(predictor, batch):
    time.sleep(0.03)  # too dear for the event loop
    if len(next(iter(batch.values()))) == 7:
        Path("running").touch()
        time.sleep(1)
    return _predict(predictor, batch)

Predictor.predict = _slowly
"""


async def app(scope, receive, send):
    """Answers each message with as many bytes as it says; ``close`` closes."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "close":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.send", "text": "x" * int(message["text"])})


@contextlib.contextmanager
def impatient():
    """A server in this process whose patience is a fraction of a second."""
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in (("PING_S", 0.3), ("PONG_S", 0.6), ("STALL_S", 1), ("CLOSING_S", 1)):
            patch.setattr(websocket, name, seconds)
        config = drain._Config(app, lifespan="off", log_config=None)
        server = drain.DevelopmentServer(config)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        host, port = listener.getsockname()
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        until(lambda: server.started, 5)
        yield f"{host}:{port}", server
        server.should_exit = True
        thread.join(10)
        listener.close()
        drain._servers.remove(server)


def seconds_until_closed(sock):
    """How long until the server hangs up."""
    start = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65_536):
            pass
    return time.monotonic() - start


def answering_nothing(address):
    """No pong ever."""
    with raw_socket(address, "/") as peer:
        kinds = [(each.opcode, each) for each in peer.frames()]
        return [kind for kind, _ in kinds], kinds[-1][1]


def answering_pings(address):
    """For several times as long as a dead peer has; what it was asked, and said after all."""
    with raw_socket(address, "/") as peer:
        for kind, payload in itertools.islice(peer.frames(), 6):
            assert kind == PING
            peer.send(frame(payload, PONG))
        peer.send(frame(b"3"))
        return next(each for each in peer.frames() if each.opcode == TEXT).payload


def in_the_middle_of_a_message(address):
    """A large one that takes long, but comes: no pong can come in between."""
    size = 200_000
    with raw_socket(address, "/") as peer:
        whole = frame(b"1" + b" " * size)
        for start in range(0, len(whole), 10_000):
            peer.send(whole[start : start + 10_000])
            time.sleep(0.1)
        return next(each for each in peer.frames() if each.opcode == TEXT).payload


def byte_by_byte(address):
    """Too slowly to count as alive; whether it was cut off."""
    with raw_socket(address, "/") as peer:
        peer.send(frame(b" " * 100, declared=1000)[:8])
        for _ in range(100):
            try:
                peer.send(b" ")
            except OSError:
                return True
            time.sleep(0.05)
    return False


def reading_nothing(address):
    """Asks for far more than buffers hold and reads none of it; how much arrives later on."""
    with raw_socket(address, "/") as peer:
        peer.send(frame(b"50000000") * 3)
        time.sleep(4)
        return sum(len(payload) for _, payload in peer.frames())


def closing_and_reading_nothing(address):
    """Asks for much and for the end; the server must not keep what it cannot get rid of."""
    with raw_socket(address, "/") as peer:
        peer.send(frame(b"30000000"), frame(b"close"), frame(struct.pack("!H", 1000), CLOSE))
        time.sleep(4)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while data := peer.sock.recv(65_536):
                received += len(data)
        return received


PLAYS = (
    answering_nothing,
    answering_pings,
    in_the_middle_of_a_message,
    byte_by_byte,
    reading_nothing,
    closing_and_reading_nothing,
)


@pytest.fixture(scope="module")
def outcome():
    """What came of each play, all of them at the same time; and what was open afterwards."""
    with impatient() as (address, server), concurrent.futures.ThreadPoolExecutor() as pool:
        plays = {play.__name__: pool.submit(play, address) for play in PLAYS}
        found = {name: play.result(30) for name, play in plays.items()}
        with contextlib.suppress(AssertionError):
            until(lambda: not server.server_state.connections, 5)
        found["open"] = len(server.server_state.connections)
        return found


def test_a_peer_that_answers_no_ping_is_dead(outcome):
    kinds, last = outcome["answering_nothing"]
    assert kinds == [PING, CLOSE]
    assert last.code == 1011


def test_a_peer_that_answers_pings_stays(outcome):
    assert outcome["answering_pings"] == b"xxx"


def test_a_peer_in_the_middle_of_a_message_is_alive(outcome):
    assert outcome["in_the_middle_of_a_message"] == b"x"


def test_a_message_byte_by_byte_is_cut_off(outcome):
    assert outcome["byte_by_byte"]


def test_a_peer_that_reads_nothing_is_cut_off(outcome):
    assert outcome["reading_nothing"] < 50_000_000
    assert outcome["closing_and_reading_nothing"] < 30_000_000


def test_nothing_stays_open(outcome):
    assert outcome["open"] == 0


@pytest.fixture
def slow_server(tmp_path):
    root = make_root(tmp_path / "root")
    (root / "service.py").write_text((root / "service.py").read_text() + SLOW)
    with serving(tmp_path / "log", root) as server:
        yield server


@pytest.mark.e2e
def test_what_is_in_flight_is_answered_when_the_server_stops(slow_server, tmp_path):
    address = slow_server.address
    with (
        raw_socket(address, PATH) as peer,
        raw_socket(address, PATH) as idle,
        contextlib.closing(connect(address, 20)) as kept,
    ):
        idle.say({"id": 0, "instances": [ROW]})
        assert idle.hear()["id"] == 0
        for number in range(3):
            peer.say({"id": number, "deadline_ms": 20_000, "instances": [ROW] * 7})
            if number == 0:
                until((tmp_path / "root" / "running").exists, 10)
        until(lambda: metric(address, "headgate_queue_rows", model="late-flights") == 14, 10)
        os.kill(slow_server.pid, signal.SIGTERM)
        until(lambda: refused(address), 5)
        # A connection from before that becomes a WebSocket only now.
        kept.sock.sendall(handshake(PATH))
        said = kept.sock.recv(65_536)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after" in said
        last = next(idle.frames())
        assert (last.opcode, last.code) == (CLOSE, 1001)
        idle.send(frame(last.payload, CLOSE))
        assert list(idle.frames()) == []
        heard = peer.frames()
        answers = [json.loads(next(heard).payload) for _ in range(3)]
        assert {each["id"] for each in answers} == {0, 1, 2}
        assert all(len(each["predictions"]) == 7 for each in answers)
        last = next(heard)
        assert (last.opcode, last.code) == (CLOSE, 1001)
        peer.send(frame(last.payload, CLOSE))
        assert list(heard) == []
    until(lambda: not slow_server.alive, 10)
