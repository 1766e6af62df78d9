"""The load generator of the gate, a Locust user: gevent patches the process that imports it.

Locust's own figures are not used: its statistics round response times to two digits and know no
intended send time. Its ``constant_throughput`` waits for answers, so a slow server would be asked
less. Here one user sends every request of a block at its moment, each in a greenlet of its own.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import math
import os
import time

import gevent
import gevent.pool
import gevent.queue
from locust import FastHttpUser, task

from headgate.gate.link import LOAD, Link
from headgate.gate.plan import TIMEOUT_S, Block, Seen, Target

__all__ = ["PlannedLoad"]

CONNECTIONS = 448
"""Connections to one target that may be open at once; a request beyond them waits, and that counts
as latency. Those to two targets stay below 1,024 files, where select() ends: geventhttpclient asks
it whether a connection is still alive, and opens a new one for each request beyond."""
LEAD_S = 0.05
"""Between reading a block and its first moment."""
HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}

logger = logging.getLogger(__name__)


class PlannedLoad(FastHttpUser):  # type: ignore[misc]
    """One user that sends every request of a block at its moment, answered or not."""

    concurrency = CONNECTIONS
    fixed_count = 1
    network_timeout = TIMEOUT_S
    connection_timeout = TIMEOUT_S
    max_redirects = 0  # an answer from elsewhere is none of the target's

    @task  # type: ignore[untyped-decorator]
    def follow(self) -> None:
        """Carry out block after block, until the gate has hung up.

        It ends whatever happens: Locust would begin a task that fails anew.
        """
        try:
            agent = self.client.client
            # Any status is an answer; as an error it would be quoted, and need to be text.
            agent.valid_response_codes = range(1000)
            # Requests are strangers to each other: a cookie could bind all to one replica.
            agent.cookiejar = None
            link = Link.to(os.environ[LOAD])
            self.targets = link.receive(tuple[Target, ...])
            blocks: gevent.queue.Queue[Block] = gevent.queue.Queue()
            gevent.spawn(self.read_blocks, link, blocks)
            # A collection in the middle would be the generator's pause, not the server's.
            gc.disable()
            gc.collect()
            gc.freeze()
            while True:
                link.send(self.carry_out(blocks.get()))
                gc.collect()
        except Exception:
            # Ending the run ends this greenlet, and with it an exception that nobody has told.
            logger.exception("the plan was not carried out")
        finally:
            self.environment.runner.quit()

    def read_blocks(self, link: Link, blocks: gevent.queue.Queue[Block]) -> None:
        """Read on while a block is carried out: whoever hangs up ends that as well."""
        try:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    blocks.put(link.receive(Block))
        finally:
            self.environment.runner.quit()

    def carry_out(self, block: Block) -> Seen:
        """Send a block."""
        self.target = self.targets[block.target]
        self.headers = {**HEADERS, **dict(self.target.headers)}
        self.ask: list[int] = []
        self.sent_s: list[float] = []
        self.done_s: list[float] = []
        self.status: list[int] = []
        self.answers: dict[bytes, int] = {}
        self.answer: list[int] = []
        self.flights = gevent.pool.Group()
        self.start = time.perf_counter() + LEAD_S
        used = self.send_open(block) if block.at_s is not None else self.send_closed(block)
        self.flights.join(timeout=TIMEOUT_S + 1)
        self.flights.kill()
        return Seen(
            ask=tuple(self.ask),
            at_s=tuple(self.sent_s) if block.at_s is None else block.at_s,
            sent_s=tuple(self.sent_s),
            done_s=tuple(self.done_s),
            status=tuple(self.status),
            answer=tuple(self.answer),
            answers=tuple(self.answers),
            cpu=used,
        )

    def send_open(self, block: Block) -> float:
        """At the intended moments; returns the share of a core that it took."""
        cpu, began = time.process_time(), time.perf_counter()
        for ask, at_s in zip(block.order, block.at_s or (), strict=True):
            # Sleeping for nothing still lets those fly that were sent before.
            gevent.sleep(max(0.0, self.start + at_s - time.perf_counter()))
            self.flights.spawn(self.send, self.begin(ask))
        gevent.sleep(max(0.0, self.start + block.seconds - time.perf_counter()))
        return (time.process_time() - cpu) / (time.perf_counter() - began)

    def send_closed(self, block: Block) -> float:
        """One after the other on each connection."""
        cpu, began = time.process_time(), time.perf_counter()
        order = itertools.cycle(block.order)
        end = self.start + block.seconds

        def go_on() -> None:
            gevent.sleep(max(0.0, self.start - time.perf_counter()))
            while time.perf_counter() < end:
                self.send(self.begin(next(order)))

        for _ in range(block.connections):
            self.flights.spawn(go_on)
        gevent.sleep(max(0.0, end - time.perf_counter()))
        return (time.process_time() - cpu) / (time.perf_counter() - began)

    def begin(self, ask: int) -> int:
        """Write down a request that has not been answered yet; returns its place."""
        self.ask.append(ask)
        self.sent_s.append(math.inf)
        self.done_s.append(math.inf)
        self.status.append(0)
        self.answer.append(self.known(b"no answer in time"))
        return len(self.ask) - 1

    def send(self, place: int) -> None:
        """Send one request and note what came of it."""
        self.sent_s[place] = time.perf_counter() - self.start
        try:
            with gevent.Timeout(TIMEOUT_S, exception=False):
                self.exchange(place)
        except Exception as error:  # noqa: BLE001 - whatever it is, it happened instead of an answer
            self.answer[place] = self.known(_cause(error).encode())
            # Its frames hold it, and nothing is collected before the end of the block.
            error.__traceback__ = error.__context__ = None

    def exchange(self, place: int) -> None:
        """Send one request and note its answer; raises what happened instead."""
        asked = self.target.asks[self.ask[place]]
        with self.client.post(
            self.target.url + asked.path,
            data=asked.body,
            headers=self.headers,
            catch_response=True,
        ) as reply:
            # A body cut off in the middle is no answer.
            if (error := reply.request_meta["exception"]) is not None:
                raise error
            self.answer[place] = self.known(reply.content or b"")
            self.status[place] = reply.status_code
            self.done_s[place] = time.perf_counter() - self.start

    def known(self, answer: bytes) -> int:
        """Its index; most answers come more than once."""
        return self.answers.setdefault(answer, len(self.answers))


def _cause(error: BaseException) -> str:
    """In words, why there was no answer."""
    original = getattr(error, "original", None) or error
    if isinstance(original, (TimeoutError, gevent.Timeout)):
        return "no answer in time"
    if isinstance(original, OSError) and original.strerror:
        return original.strerror.lower()
    # A parser's error has a number beside its words.
    words = next((each for each in original.args if isinstance(each, str)), str(original))
    return words.rstrip(".") or type(original).__name__
