from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import json
import os
import signal
import time

import pytest
from serving.tiny import ask, connect, echo, get, metric, serving, status, until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log, workers=2, drain_s=5) as server:
        yield server


def workers(server):
    """The processes behind a dozen connections that are open at a time."""
    with contextlib.ExitStack() as stack:
        dozen = [
            stack.enter_context(contextlib.closing(connect(server.address, 1))) for _ in range(12)
        ]
        return {json.loads(ask(connection, "/echo")[1])["pid"] for connection in dozen}


def live(server):
    """How many serve; -1 where the question went to one that just died or hangs."""
    try:
        return metric(server.address, "headgate_workers_live", service="entry")
    except OSError:
        return -1


def both_live(server):
    return live(server) == 2


def test_a_killed_worker_is_back_while_the_other_serves(server):
    victim = min(workers(server))
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    answers = 0
    while (now := workers_seen(server)) is None or victim in now or len(now) < 2:
        assert time.monotonic() - killed < 5
        answers += status(server.address) == 200
        time.sleep(0.05)
    assert answers > 5
    assert metric(server.address, "headgate_worker_restarts_total", reason="died") == 1
    assert both_live(server)


def workers_seen(server):
    """As `workers`, or None where a connection was just given to one that died."""
    try:
        return workers(server)
    except OSError:
        return None


def test_with_every_worker_killed_it_says_so_until_one_is_back(server):
    victims = workers(server)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    until(lambda: status(server.address) == 503, 2)
    code, body = get(server.address, "/echo")
    assert (code, json.loads(body)["error"]) == (
        503,
        "no worker can answer; they are being replaced",
    )
    assert metric(server.address, "headgate_workers_live") == 0
    until(lambda: status(server.address) == 200, 5)
    until(lambda: both_live(server), 5)


def test_workers_that_hang_get_no_connections_and_are_replaced(server):
    one, two = workers(server)
    os.kill(one, signal.SIGSTOP)
    until(lambda: live(server) == 1, 5)
    assert workers(server) == {two}
    os.kill(two, signal.SIGSTOP)
    until(lambda: status(server.address) == 503, 5)
    until(lambda: status(server.address) == 200, 15)
    until(lambda: both_live(server), 10)
    assert not {one, two} & workers(server)
    assert metric(server.address, "headgate_worker_restarts_total", reason="hung") == 2


def test_an_unfit_worker_is_replaced_after_it_has_answered(server):
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor())
        of_worker = collections.defaultdict(list)
        for _ in range(3):  # two workers, so that one has two of them
            connection = stack.enter_context(contextlib.closing(connect(server.address)))
            of_worker[json.loads(ask(connection, "/echo")[1])["pid"]].append(connection)
        pid, (slow, other, *_) = max(of_worker.items(), key=lambda item: len(item[1]))
        waiting = pool.submit(ask, slow, "/echo?wait=1.5")
        assert json.loads(ask(other, "/misbehave/unfit")[1])["pid"] == pid
        answered = waiting.result()
        assert answered[0] == 200
        assert json.loads(answered[1])["pid"] == pid
        until(lambda: both_live(server) and pid not in workers(server), 5)
    assert metric(server.address, "headgate_worker_restarts_total", reason="unfit") == 1
    assert "leaves: a test says so" in server.log.read_text()


def test_sigterm_to_a_worker_costs_nothing(server):
    pid = echo(server.address)["pid"]
    with contextlib.closing(connect(server.address)) as connection:
        os.kill(pid, signal.SIGTERM)
        assert ask(connection, "/echo?wait=0.5")[0] == 200
    until(lambda: both_live(server) and pid not in workers(server), 5)
