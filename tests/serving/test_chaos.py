"""Everything that goes wrong, at once: nobody gets another one's answer, and it passes."""

from __future__ import annotations

import collections
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import threading
import time

import numpy as np
import psutil
import pytest
from serving.echo import make_echoes
from serving.held import limit
from serving.tiny import connect, metric, serving, until

from headgate.predictor import Field

pytestmark = pytest.mark.e2e

PATH = "/v1/models/echo:predict"
RAISES, HANGS, LOSES = -1.0, -2.0, -3.0
SERVICE = f"""
import random as _random
import time as _time

from headgate.predictor import Predictor
from headgate.serving import model as _model

_predict, _wall = Predictor.predict, _time.time


def _misbehave(predictor, batch):
    values = set(batch["x"].tolist())
    _time.sleep(0.003)
    if {HANGS} in values:
        _time.sleep(60)
    if {RAISES} in values:
        raise MemoryError("no more")
    outputs = _predict(predictor, batch)
    if {LOSES} in values:
        return {{name: array[:-1] for name, array in outputs.items()}}
    return outputs


Predictor.predict = _misbehave
_model.STALL_S = 0.5
_model.STALL_FACTOR = 0.0
# The clock on the wall is set by up to a day, forth and back, whenever somebody looks.
_time.time = lambda: _wall() + _random.uniform(-86_400, 86_400)
"""


@pytest.fixture
def server(tmp_path):
    root = make_echoes(tmp_path / "root", {"echo": (Field(name="x", dtype="float64"),)})
    limit(root, deadline_ms=2_000, max_batch_rows=8, max_queue_rows=64)
    (root / "service.py").write_text((root / "service.py").read_text() + SERVICE)
    with serving(tmp_path / "log", root, workers=2, drain_s=5) as server:
        yield server


def send(connection, *values):
    connection.request("POST", PATH, json.dumps({"instances": [{"x": value} for value in values]}))


class Crowd:
    """Clients that ask for their own values over and over, and compare."""

    def __init__(self, address):
        self.address = address
        self.numbers = itertools.count(1)
        self.seen = collections.Counter()
        self.wrong = []
        self.over = threading.Event()

    def ask(self, seed):
        rng = np.random.default_rng(seed)
        while not self.over.is_set():
            # Its worker may have been killed, or none may be there: it comes back.
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                contextlib.closing(connect(self.address, 10)) as connection,
            ):
                while not self.over.is_set() and self.ask_once(rng, connection):
                    pass
            time.sleep(0.01)

    def ask_once(self, rng, connection):
        """Whether the connection goes on."""
        values = [float(next(self.numbers)) for _ in range(rng.integers(1, 5))]
        bad = (None, RAISES, LOSES)[rng.choice(3, p=(0.94, 0.03, 0.03))]
        if bad is not None:
            values.append(bad)
        send(connection, *values)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        self.seen[answer.status] += 1
        fine = answer.status == 200 and told["predictions"] == values and bad is None
        if not fine and (answer.status == 200 or (answer.status == 500 and bad is None)):
            self.wrong.append((values, answer.status, told))
        return answer.headers.get("connection") != "close"

    def vanish(self, seed):
        """Clients that leave in the middle of a request, or without waiting for the answer."""
        rng = np.random.default_rng(seed)
        whole = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 26\r\n\r\n" % PATH.encode()
        whole += b'{"instances": [{"x": 1.5}]}'[:26]
        host, _, port = self.address.rpartition(":")
        while not self.over.is_set():
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as s:
                s.sendall(whole[: rng.integers(1, len(whole), endpoint=True)])
            time.sleep(rng.uniform(0, 0.01))


def workers(server):
    found = psutil.Process(server.pid).children()
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def hang(server):
    """Ask for what hangs the worker that happens to be asked."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = connect(server.address, 10)
        with contextlib.closing(connection):
            send(connection, HANGS)
            assert connection.getresponse().status in {503, 504}


@pytest.mark.timeout(120)
def test_chaos(server):
    crowd = Crowd(server.address)
    threads = [threading.Thread(target=crowd.ask, args=(seed,)) for seed in range(6)]
    threads.append(threading.Thread(target=crowd.vanish, args=(0,)))
    for thread in threads:
        thread.start()
    try:
        for misfortune in range(4):
            before = crowd.seen[200]
            until(lambda before=before: crowd.seen[200] > before + 100, 30)
            if misfortune % 2:
                hang(server)
            else:
                os.kill(max(workers(server), key=lambda each: each.pid).pid, signal.SIGKILL)
        until(lambda: live(server) == 2, 30)
        before = crowd.seen[200]
        until(lambda: crowd.seen[200] > before + 100, 30)
    finally:
        crowd.over.set()
        for thread in threads:
            thread.join(20)
    assert crowd.wrong == []
    assert crowd.seen[500], "what fails is told"
    # One that was killed may have been about to go anyway.
    assert metric(server.address, "headgate_worker_restarts_total", reason="died") >= 1
    assert metric(server.address, "headgate_worker_restarts_total", reason="unfit") >= 1
    until(lambda: metric(server.address, "headgate_queue_rows") == 0, 10)
    with contextlib.closing(connect(server.address, 5)) as connection:
        send(connection, 1.0, 2.0)
        assert json.loads(connection.getresponse().read())["predictions"] == [1.0, 2.0]


def live(server):
    try:
        return metric(server.address, "headgate_workers_live", service="entry")
    except OSError:
        return -1
