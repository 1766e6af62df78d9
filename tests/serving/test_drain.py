from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from serving.tiny import TINY, ask, connect, get, refused, serving, status, until

pytestmark = pytest.mark.e2e


def test_what_is_open_is_answered_and_what_is_new_is_refused(tmp_path):
    with (
        serving(tmp_path / "log", drain_s=15) as server,
        contextlib.closing(connect(server.address)) as idle,
        contextlib.closing(connect(server.address)) as other,
        contextlib.closing(connect(server.address)) as fresh,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        assert ask(idle, "/echo")[0] == ask(other, "/echo")[0] == 200
        slow = pool.submit(get, server.address, "/echo?wait=2")
        time.sleep(0.3)  # it is in flight by now
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: refused(server.address), 3)
        assert ask(other, "/readyz")[0] == 503
        for connection in (idle, fresh):
            connection.request("GET", "/echo?wait=0.5")
            response = connection.getresponse()
            assert (response.status, response.getheader("connection")) == (200, "close")
            response.read()
            assert connection.sock is None  # the client was told, and closed it
        assert slow.result()[0] == 200
        until(lambda: not server.alive, 10)
        assert "cut off" not in server.log.read_text()


def answers_of(sock):
    """The statuses and `Connection` headers of what comes until the server closes."""
    received = b""
    while data := sock.recv(65536):
        received += data
    heads = re.findall(rb"HTTP/1.1 (\d+) .*?\r\n\r\n", received, re.DOTALL)
    return [int(status) for status in heads], received.lower().count(b"connection: close")


def test_what_comes_behind_another_request_is_answered_too(tmp_path):
    def one(wait):
        return b"GET /echo?wait=%b HTTP/1.1\r\nhost: x\r\n\r\n" % wait

    with (
        serving(tmp_path / "log", drain_s=15) as server,
        contextlib.closing(connect(server.address)) as idle,
        contextlib.closing(connect(server.address)) as busy,
    ):
        assert ask(idle, "/echo")[0] == ask(busy, "/echo")[0] == 200
        busy.sock.sendall(one(b"2"))
        time.sleep(0.3)
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: refused(server.address), 3)
        busy.sock.sendall(one(b"0.1"))
        idle.sock.sendall(one(b"0.2") * 3)
        assert answers_of(idle.sock) == ([200] * 3, 1)
        assert answers_of(busy.sock) == ([200] * 2, 1)
        until(lambda: not server.alive, 10)


def test_nobody_is_reset_while_it_stops(tmp_path):
    """Every connection attempt around the signal ends in an answer or in a refusal."""
    outcomes: list[str] = []
    stop = threading.Event()

    def client(address):
        while not stop.is_set():
            try:
                outcomes.append(str(get(address, "/echo", 5)[0]))
            except ConnectionRefusedError:
                outcomes.append("refused")
                time.sleep(0.01)
            except OSError as error:
                outcomes.append(repr(error))

    with serving(tmp_path / "log", workers=2) as server:
        clients = [threading.Thread(target=client, args=[server.address]) for _ in range(8)]
        for thread in clients:
            thread.start()
        until(lambda: outcomes.count("200") > 200, 20)
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: not server.alive, 15)
        stop.set()
        for thread in clients:
            thread.join()
    assert set(outcomes) == {"200", "refused"}


def test_the_grace_is_bounded(tmp_path):
    with serving(tmp_path / "log", drain_s=1) as server:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            endless = pool.submit(get, server.address, "/echo?wait=100", 20)
            time.sleep(0.3)
            started = time.monotonic()
            server.stop(10)
            assert 0.5 < time.monotonic() - started < 8
            # It got an answer, if not the one it wanted.
            assert endless.result()[0] == 500
        assert "cutting off 1 connections after the drain time" in server.log.read_text()


def test_a_second_signal_stops_it_at_once(tmp_path):
    with serving(tmp_path / "log") as server, contextlib.closing(connect(server.address)) as busy:
        busy.request("GET", "/echo?wait=100")
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: refused(server.address), 3)
        os.kill(server.pid, signal.SIGINT)
        until(lambda: not server.alive, 3)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            busy.getresponse()


def test_stopped_while_it_starts_it_ends_well(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-m", "headgate.serving.launcher", str(TINY), "--port", "0"],
        stderr=subprocess.PIPE,
        env={**os.environ, "TINY_GATE": str(tmp_path / "never")},
    )
    assert child.stderr is not None
    assert b"service" in child.stderr.readline()
    child.terminate()
    child.communicate(timeout=10)
    assert child.returncode == 0


def test_bentoml_serve_refuses_politely_while_it_drains(tmp_path):
    """The development path: a keep-alive client is told, instead of cut off or left hanging."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    log = (tmp_path / "log").open("wb")
    arguments = ["serve", ".", "--host", "127.0.0.1", "--port", str(port)]
    child = subprocess.Popen(
        [sys.executable, "-m", "bentoml", *arguments],
        cwd=TINY,
        env={**os.environ, "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"},
        stdout=log,
        stderr=log,
    )
    with log, concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            until(lambda: status(address) == 200, 30)
            with contextlib.closing(connect(address)) as idle:
                assert ask(idle, "/echo")[0] == 200
                slow = pool.submit(get, address, "/echo?wait=4", 20)
                time.sleep(0.3)
                child.terminate()
                until(lambda: status(address) == 503, 4)
                idle.request("GET", "/echo")
                response = idle.getresponse()
                assert (response.status, response.getheader("connection")) == (503, "close")
                assert json.loads(response.read())["remedy"] == "try again shortly"
            assert slow.result()[0] == 200
        finally:
            child.terminate()
            child.wait(20)
