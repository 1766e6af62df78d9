"""Bytes that no WebSocket client should send: the connection is closed for it, and nobody else's."""

from __future__ import annotations

import json
import os
import socket
import struct

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.asgi import make_root
from serving.frames import BINARY, CLOSE, PING, PONG, TEXT, RawSocket, frame, handshake, raw_socket
from serving.refusals import ROW
from serving.tiny import metric, serving

from headgate.serving.launch.websocket import MAX_FRAGMENTS

pytestmark = pytest.mark.e2e

PATH = "/ws/late-flights"
GOOD = json.dumps({"id": 1, "instances": [ROW]}).encode()
MAX_BYTES = 65_536


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("server"))
    settings_file = root / "headgate.toml"
    limited = f"[server]\nmax_body_mb = {MAX_BYTES / 2**20}\n"
    settings_file.write_text(limited + settings_file.read_text())
    with serving(root / "log", root) as server:
        yield server


@pytest.fixture
def bystander(server):
    """A connection that was there before, and is answered afterwards."""
    with raw_socket(server.address, PATH) as other:
        other.say({"id": "before", "instances": [ROW]})
        assert other.hear()["id"] == "before"
        yield other
        other.say({"id": "after", "instances": [ROW]})
        assert other.hear()["id"] == "after"
    assert metric(server.address, "headgate_requests_total", outcome="internal") == 0


CLOSED = {
    "an unmasked frame": (frame(GOOD, mask=None), 1002),
    "a reserved bit, as compression sets it": (frame(GOOD, reserved=4), 1002),
    "an unknown opcode": (frame(GOOD, 3), 1002),
    "an unknown control opcode": (frame(b"", 11), 1002),
    "a continuation of nothing": (frame(GOOD, 0), 1002),
    "a message within a message": (frame(b"{", fin=False) + frame(GOOD), 1002),
    "a fragmented ping": (frame(b"x", PING, fin=False), 1002),
    "a long ping": (frame(b"x" * 126, PING), 1002),
    "a close frame of one byte": (frame(b"x", CLOSE), 1002),
    "a close code that is none": (frame(struct.pack("!H", 999), CLOSE), 1002),
    "invalid UTF-8": (frame(b"\xff\xfe"), 1007),
    "invalid UTF-8 across fragments": (
        frame(b'"\xc3', fin=False) + frame(b'("', 0),
        1007,
    ),
    "2 GB declared": (frame(b"{", declared=2**31), 1009),
    "2^63 bytes declared": (frame(b"{", declared=2**63 - 1), 1009),
    "a length with its highest bit set": (frame(b"{", declared=2**64 - 1), 1009),
    "a message over the limit": (frame(b" " * (MAX_BYTES + 1)), 1009),
    "binary over the limit": (frame(b" " * (MAX_BYTES + 1), BINARY), 1009),
    "fragments over the limit": (
        frame(b" " * 40_000, fin=False) + frame(b" " * 40_000, 0),
        1009,
    ),
}


@pytest.mark.parametrize("what", CLOSED)
def test_a_breach_of_the_protocol_closes_the_connection(server, bystander, what):
    sent, code = CLOSED[what]
    with raw_socket(server.address, PATH) as socket:
        socket.send(sent)
        assert socket.closed().code == code


def test_more_fragments_than_anybody_needs(server, bystander):
    with raw_socket(server.address, PATH) as socket:
        socket.send(frame(b"{", fin=False), frame(b"", 0, fin=False) * (MAX_FRAGMENTS + 1))
        assert socket.closed().code == 1009


ANSWERED = {
    "fragments": [frame(GOOD[:5], fin=False), frame(GOOD[5:9], 0, fin=False), frame(GOOD[9:], 0)],
    "byte by byte": [
        frame(GOOD[:1], fin=False),
        *(frame(GOOD[n : n + 1], 0, fin=False) for n in range(1, len(GOOD))),
        frame(b"", 0),
    ],
    "a ping between fragments": [frame(GOOD[:5], fin=False), frame(b"?", PING), frame(GOOD[5:], 0)],
    "a character across fragments": [
        frame('{"id": 1, "instances": [], "parameters": "\u4e2d"}'.encode()[:43], fin=False),
        frame('{"id": 1, "instances": [], "parameters": "\u4e2d"}'.encode()[43:], 0),
    ],
    "a pong that nobody asked for": [frame(b"x", PONG), frame(GOOD)],
    "no mask to speak of": [frame(GOOD, mask=b"\0\0\0\0")],
    "as large as may be": [frame(GOOD + b" " * (MAX_BYTES - len(GOOD)))],
    "as small as may be": [frame(b"")],
}


@pytest.mark.parametrize("what", ANSWERED)
def test_what_is_merely_odd_is_answered(server, what):
    with raw_socket(server.address, PATH) as socket:
        for piece in ANSWERED[what]:
            socket.send(piece)
        answers = socket.frames()
        kinds = [next(answers)]
        while kinds[-1].opcode != TEXT:
            kinds.append(next(answers))
        assert [kind for kind, _ in kinds[:-1]] == ([PONG] if "ping" in what else [])
        socket.say({"id": "after", "instances": [ROW]})
        assert json.loads(next(answers).payload)["id"] == "after"


@given(noise=st.binary(min_size=1, max_size=300), good_first=st.booleans())
@settings(max_examples=150, deadline=None)
def test_noise_harms_nobody(server, noise, good_first):
    with raw_socket(server.address, PATH) as socket:
        # No frame may wait for more than came.
        socket.send(frame(GOOD) if good_first else b"", noise)
        socket.sock.shutdown(1)
        found = list(socket.frames())
        assert [kind for kind, _ in found if kind not in (TEXT, PONG, CLOSE)] == []
        answers = [json.loads(payload) for kind, payload in found if kind == TEXT]
        assert all("predictions" in each or each["status"] == 400 for each in answers)
    assert metric(server.address, "headgate_requests_total", outcome="internal") == 0


def test_what_comes_before_the_handshake_is_answered_is_not_read(server, bystander):
    """A client must wait for the answer; one that does not is not misunderstood either."""
    host, _, port = server.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(handshake(PATH) + os.urandom(2000))
        said = sock.recv(65_536)
        assert said.startswith(b"HTTP/1.1 101 ")
        raw = RawSocket(sock, said.partition(b"\r\n\r\n")[2])
        raw.send(frame(GOOD))
        assert raw.hear()["id"] == 1


def test_clients_that_vanish(server, bystander):
    for number in range(30):
        with raw_socket(server.address, PATH) as socket:
            socket.send(frame(GOOD) * 20, frame(GOOD)[: number * 2])


def test_a_flood_of_pings_that_are_never_read_is_not_kept(server, bystander):
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]

    def memory():
        return sum(process.memory_info().rss for process in family)

    before = memory()
    flood = frame(b"x" * 125, PING) * 5000
    sent = 0
    with raw_socket(server.address, PATH, timeout=1) as socket:
        try:
            while sent < 200 * 2**20:
                sent += socket.sock.send(flood)
        except TimeoutError:
            pass  # the server reads no more
        assert sent < 200 * 2**20
    assert memory() - before < 30 * 2**20
