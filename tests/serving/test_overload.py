"""Clients that are slow, silent or greedy, and what others notice of them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http.client
import resource
import socket
import threading
import time

import pytest
from serving.tiny import ask, connect, serving, until

from headgate.serving import drain
from headgate.serving.launch import connections


async def app(scope, receive, send):
    """Answers the length of the body, or as many bytes as the path says."""
    assert scope["type"] == "http"
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    path = scope["path"].strip("/")
    body = bytes(int(path)) if path else str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def impatient():
    """A server in this process whose patience is a fraction of a second."""
    config = drain._Config(app, lifespan="off", log_config=None, timeout_keep_alive=20)
    server = drain.DevelopmentServer(config)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    host, port = listener.getsockname()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEADER_S", 0.5)
        patch.setattr(connections, "BODY_S", 0.5)
        patch.setattr(connections, "ANSWER_S", 0.5)
        patch.setattr(connections, "IDLE_S", 3.5)
        thread.start()
        until(lambda: server.started, 5)
        yield f"{host}:{port}"
        server.should_exit = True
        thread.join(5)
    listener.close()
    drain._servers.remove(server)


@contextlib.contextmanager
def raw(address):
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        yield sock


def answer(sock):
    """Everything until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65536):
            received += data
    return received


def silent(address):
    with raw(address) as sock:
        return answer(sock)


def half(start):
    def scenario(address):
        with raw(address) as sock:
            sock.sendall(start)
            return answer(sock)

    return scenario


def byte_by_byte(address):
    """Whether it was closed while it went on sending header lines."""
    with raw(address) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(80):
            try:
                sock.sendall(b"a: b\r\n")
            except OSError:
                return True
            time.sleep(0.05)
    return False


def slow_but_steady(address):
    with raw(address) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: 20000\r\n\r\n")
        for _ in range(20):
            sock.sendall(bytes(1000))
            time.sleep(0.1)
        return answer(sock)


def unread(address):
    """What arrives of 50 MB when the client begins to read too late."""
    with raw(address) as sock:
        sock.sendall(b"GET /50000000 HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(3)
        return len(answer(sock))


def read_slowly(address):
    with raw(address) as sock:
        sock.sendall(b"GET /20000000 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        size = 0
        while data := sock.recv(300_000):
            size += len(data)
            time.sleep(0.03)
        return size


def too_long(pieces):
    def scenario(address):
        with raw(address) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
                for piece in range(pieces):
                    sock.sendall(b"h%d: " % piece + b"x" * (80_000 // pieces) + b"\r\n")
            return answer(sock)

    return scenario


def kept_alive(address):
    with contextlib.closing(connect(address)) as connection:
        first = ask(connection, "/")[0]
        time.sleep(2.5)
        assert connection.sock is not None
        return first, ask(connection, "/")[0]


def stray(address):
    """Whether it was closed, though a byte that begins no request came after the answer."""
    with raw(address) as sock:
        sock.sendall(b"GET /2 HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        while not received.endswith(bytes(2)):
            received += sock.recv(100)
        sock.sendall(b"\r\n")
        return answer(sock) == b""


def endless_trailer(address):
    """Lines after a body in chunks, until the server has enough."""
    with raw(address) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
        with contextlib.suppress(OSError):
            for _ in range(100):
                sock.sendall(b"a: %b\r\n" % bytes(1000).replace(b"\0", b"x"))
                time.sleep(0.01)
        return answer(sock)


def trailer(address):
    with raw(address) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            b"3\r\nabc\r\n0\r\nchecksum: 1\r\n\r\n"
        )
        return answer(sock)


def pipelined(address):
    with raw(address) as sock:
        request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n" + bytes(
            3_000_000
        )
        last = b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab"
        sock.sendall(request * 2 + last)
        return answer(sock)


SCENARIOS = {
    "silent": silent,
    "half method": half(b"G"),
    "half header": half(b"GET / HTTP/1.1\r\nhost: x\r\n"),
    "half body": half(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc"),
    "byte by byte": byte_by_byte,
    "slow but steady": slow_but_steady,
    "unread": unread,
    "read slowly": read_slowly,
    "too long in one piece": too_long(1),
    "too long in many pieces": too_long(40),
    "kept alive": kept_alive,
    "pipelined": pipelined,
    "stray": stray,
    "trailer": trailer,
    "endless trailer": endless_trailer,
}


@pytest.fixture(scope="module")
def outcome():
    """What came of each scenario, all of them played at the same time."""
    with impatient() as address, concurrent.futures.ThreadPoolExecutor(len(SCENARIOS)) as pool:
        plays = {name: pool.submit(play, address) for name, play in SCENARIOS.items()}
        return {name: play.result() for name, play in plays.items()}


def test_a_connection_that_says_nothing_is_closed(outcome):
    assert outcome["silent"] == b""


@pytest.mark.parametrize("what", ["half method", "half header", "half body"])
def test_half_a_request_gets_408(outcome, what):
    assert outcome[what].startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in outcome[what]
    assert outcome[what].count(b"HTTP/1.1") == 1


def test_a_header_byte_by_byte_is_cut_off(outcome):
    assert outcome["byte by byte"]


def test_a_body_that_comes_slowly_but_steadily_is_read(outcome):
    assert outcome["slow but steady"].endswith(b"\r\n\r\n20000")


def test_a_client_that_does_not_read_its_answer_is_dropped(outcome):
    assert outcome["unread"] < 50_000_000


def test_a_client_that_reads_slowly_gets_its_answer(outcome):
    assert outcome["read slowly"] > 20_000_000


@pytest.mark.parametrize("how", ["one piece", "many pieces"])
def test_a_header_that_is_too_long_gets_431(outcome, how):
    assert outcome[f"too long in {how}"].startswith(b"HTTP/1.1 431 ")


def test_a_connection_that_is_kept_alive_may_be_silent(outcome):
    assert outcome["kept alive"] == (200, 200)


def test_pipelined_requests_and_large_bodies_pass(outcome):
    assert outcome["pipelined"].count(b"200 OK") == 3
    assert outcome["pipelined"].count(b"3000000") == 2


@pytest.mark.e2e
def test_a_connection_whose_timer_was_cancelled_ends_all_the_same(outcome):
    assert outcome["stray"]


def test_a_trailer_is_read_and_bounded(outcome):
    assert outcome["trailer"].endswith(b"\r\n\r\n3")
    assert outcome["endless trailer"][:13] in (b"HTTP/1.1 431 ", b"")
    assert b"HTTP/1.1 200" not in outcome["endless trailer"]


def test_a_thousand_slow_sockets_disturb_nobody_and_are_closed(tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    starts = [b"", b"POST /echo HTTP/1.1\r\nhost: x\r\n", b"POST /echo HTTP/1.1\r\ncontent-le"]
    with (
        serving(tmp_path / "log", env={"TINY_PATIENCE": "2"}) as server,
        contextlib.ExitStack() as stack,
    ):
        slow = []
        for i in range(1000):
            sock = stack.enter_context(raw(server.address))
            sock.sendall(starts[i % len(starts)])
            slow.append(sock)
        # One request each on a new connection and on an old one, until the slow ones are gone.
        kept = stack.enter_context(contextlib.closing(connect(server.address)))
        end = time.monotonic() + 5
        answered = 0
        while time.monotonic() < end:
            assert ask(kept, "/echo")[0] == 200
            with contextlib.closing(connect(server.address)) as new:
                assert ask(new, "/echo")[0] == 200
            answered += 2
            if answered % 200 == 0:
                for sock in slow[::30]:
                    with contextlib.suppress(OSError):
                        sock.sendall(b"x")
        assert answered > 100
        for sock in slow:
            with contextlib.suppress(http.client.HTTPException):
                assert b" 200 " not in answer(sock)[:20]
