"""The pool with workers that do nothing but speak its language, or fail to."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from serving.tiny import until

from headgate.serving.launch.census import Census
from headgate.serving.launch.listening import listen_tcp
from headgate.serving.launch.standin import StandIn
from headgate.serving.supervisor import Command, Pool, Timing

PREAMBLE = """
import json, os, signal, socket, sys, time
channel = socket.socket(fileno=int(sys.argv[-1]))
def say(event, **more):
    channel.send(json.dumps({"event": event, **more}).encode() + b"\\n")
"""
STEADY = (
    PREAMBLE
    + """
say("ready")
received = 0
channel.settimeout(0.1)
connections = []
while True:
    say("beat", connections=len(connections), received=received)
    try:
        data, fds, _, _ = socket.recv_fds(channel, 1, 1)
    except TimeoutError:
        continue
    if data != b"c":
        sys.exit()
    received += 1
    connections.append(socket.socket(fileno=fds[0]))
    connections[-1].recv(65536)
    body = str(os.getpid()).encode()
    connections[-1].send(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (len(body), body))
"""
)
BROKEN = PREAMBLE + 'say("failed", reason="no model"); sys.exit(1)'
SEGFAULTS = PREAMBLE + "os.kill(os.getpid(), signal.SIGSEGV)"
STUBBORN = PREAMBLE + 'say("ready")\nwhile True:\n    say("beat"); time.sleep(0.1)'
UNFIT_AT_ONCE = PREAMBLE + 'say("retire", reason="parity"); time.sleep(60)'


class Bench:
    """A pool in this process, and what it said."""

    def __init__(self, folder: Path, scripts: list[str], timing: Timing, most: int) -> None:
        self.lines: list[str] = []
        self.given_up: list[str] = []
        self.listener = listen_tcp("127.0.0.1", 0)
        self.address = self.listener.getsockname()
        self.census = Census(folder)
        self.pool = Pool(
            "test",
            [
                Command(argv=[sys.executable, "-c", script], cwd=folder, env=dict(os.environ))
                for script in scripts
            ],
            self.listener,
            timing=timing,
            most_connections=most,
            census=self.census,
            standin=StandIn(self.census.text),
            say=self.lines.append,
            give_up=self.given_up.append,
        )

    async def until(self, condition, seconds=5):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.lines
            await asyncio.sleep(0.02)

    async def get(self, keep=False):
        """Status and body of one request, asked from another thread."""

        def ask():
            connection = http.client.HTTPConnection(*self.address, timeout=3)
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            answer = response.status, response.read().decode()
            if not keep:
                connection.close()
            return (*answer, connection) if keep else answer

        return await asyncio.to_thread(ask)


@contextlib.asynccontextmanager
async def bench(folder, *scripts, most=100, **timing):
    it = Bench(folder, list(scripts), Timing(**{"drain_s": 0.5, **timing}), most)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, it.pool.reap)
    try:
        it.pool.start()
        yield it
    finally:
        it.pool.kill()
        if it.listener.fileno() != -1:  # the test has not drained it
            await it.pool.drain()
        it.census.close()
        loop.remove_signal_handler(signal.SIGCHLD)


def run(test):
    asyncio.run(test)


def test_it_gives_up_with_the_workers_own_reason(tmp_path):
    async def test():
        async with bench(tmp_path, BROKEN) as it:
            await it.until(lambda: it.given_up)
            assert it.given_up == ["no model"]
            assert len(it.lines) == 3

    run(test())


def test_a_crash_is_named(tmp_path):
    async def test():
        async with bench(tmp_path, SEGFAULTS) as it:
            await it.until(lambda: it.given_up)
            assert it.given_up == ["killed by SIGSEGV"]

    run(test())


def test_a_worker_that_is_never_fit_counts_as_dying(tmp_path):
    async def test():
        async with bench(tmp_path, UNFIT_AT_ONCE) as it:
            await it.until(lambda: it.given_up)
            assert it.given_up == ["parity"]

    run(test())


def test_while_one_lives_the_other_is_tried_again_ever_more_rarely(tmp_path):
    async def test():
        async with bench(tmp_path, STEADY, BROKEN) as it:
            await it.until(lambda: len(it.lines) >= 4, 10)
            assert it.given_up == []
            assert not it.pool.ready.is_set()
            assert (await it.get())[0] == 200
            assert it.census.text().count(b'reason="unready",service="test"} 4.0') == 1

    run(test())


def test_a_worker_with_as_many_connections_as_it_may_gets_no_more(tmp_path):
    async def test():
        async with bench(tmp_path, STEADY, most=2) as it:
            await it.pool.ready.wait()
            *_, one = await it.get(keep=True)
            *_, two = await it.get(keep=True)
            code, body = await it.get()
            assert code == 503
            assert "every worker has as many connections" in body
            one.close()
            two.close()

    run(test())


def test_a_worker_that_will_not_end_is_killed_after_the_drain_time(tmp_path):
    async def test():
        async with bench(tmp_path, STUBBORN) as it:
            await it.pool.ready.wait()
            started = time.monotonic()
            assert not await it.pool.drain()
            assert 1.4 < time.monotonic() - started < 4
            await it.pool.ended()
            assert "cut off" in it.lines[-1]

    run(test())


def test_torn_lines_of_a_worker_are_skipped(tmp_path):
    torn = STEADY.replace('say("ready")', 'channel.send(b"\\x00{torn\\n"); say("ready")')

    async def test():
        async with bench(tmp_path, torn) as it:
            await asyncio.wait_for(it.pool.ready.wait(), 5)
            assert (await it.get())[0] == 200

    run(test())


def test_the_files_of_a_worker_that_never_served_do_not_pile_up(tmp_path):
    writes = (
        PREAMBLE + f"open({str(tmp_path)!r} + f'/counter_{{os.getpid()}}.db', 'w'); sys.exit(1)"
    )

    async def test():
        async with bench(tmp_path, writes) as it:
            await it.until(lambda: it.given_up)
            assert {path.name for path in tmp_path.glob("counter_*")} == {
                f"counter_{os.getpid()}.db"
            }

    run(test())


@pytest.mark.parametrize("reason", ["died", "hung"])
def test_a_worker_that_served_is_replaced_at_once(tmp_path, reason):
    async def test():
        async with bench(tmp_path, STEADY, stale_s=0.5, hung_s=1) as it:
            await it.pool.ready.wait()
            pid = int((await it.get())[1])
            os.kill(pid, signal.SIGKILL if reason == "died" else signal.SIGSTOP)
            started = time.monotonic()
            answer = (0, "")
            while answer[0] != 200 or answer[1] == str(pid):
                assert time.monotonic() - started < 4
                with contextlib.suppress(OSError):  # given to it in its last moment
                    answer = await it.get()
                await asyncio.sleep(0.05)
            expected = f'reason="{reason}",service="test"}} 1.0'.encode()
            await it.until(lambda: expected in it.census.text())

    run(test())


def test_until_waits_no_longer_than_told():
    with pytest.raises(AssertionError, match="not within"):
        until(lambda: False, 0.05)


def test_a_launcher_that_was_stopped_itself_blames_nobody(tmp_path):
    async def test():
        async with bench(tmp_path, STEADY, STEADY, hung_s=0.5, stale_s=0.4) as it:
            await it.until(it.pool.ready.is_set)
            before = {worker.process.pid for worker in it.pool._current.values()}
            time.sleep(2)  # noqa: ASYNC251 - as a machine that is frozen
            await asyncio.sleep(0.3)
            assert {worker.process.pid for worker in it.pool._current.values()} == before
            assert it.lines == []
            assert (await it.get())[0] == 200

    run(test())


def test_a_worker_whose_channel_is_full_hears_that_it_is_to_drain(tmp_path):
    async def test():
        async with bench(tmp_path, STEADY) as it:
            await it.until(it.pool.ready.is_set)
            (worker,) = it.pool._current.values()
            os.kill(worker.process.pid, signal.SIGSTOP)
            near, far = socket.socketpair()
            with near, far:
                while worker.take(far):
                    pass
                worker.drain(time.monotonic() + 10)
                await asyncio.sleep(0.1)
                os.kill(worker.process.pid, signal.SIGCONT)
                near.sendall(b"x" * 4096)
                near.shutdown(socket.SHUT_WR)
                await it.until(lambda: worker.process.poll() is not None)
            assert worker.process.returncode == 0

    run(test())
