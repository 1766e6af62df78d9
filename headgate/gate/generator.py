"""The load generator of the gate, a Locust user: gevent patches the process that imports it.

Locust's own figures are not used: its statistics round response times to two digits and know no
intended send time. Its ``constant_throughput`` waits for answers, so a slow server would be asked
less. Here one user sends every request of a plan at its moment, each in a greenlet of its own.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import time
from pathlib import Path

import gevent
import gevent.pool
from locust import FastHttpUser, task
from locust.contrib.fasthttp import LocustBadStatusCode

from headgate.gate.plan import PLAN, TIMEOUT_S, Plan, Run, read_plan, write_run

__all__ = ["PlannedLoad"]

CONNECTIONS = 512
"""Connections that may be open at once; a request beyond them waits, and that counts as latency."""
LEAD_S = 0.2
"""Between reading the plan and its first moment."""
HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}

logger = logging.getLogger(__name__)


class PlannedLoad(FastHttpUser):  # type: ignore[misc]
    """One user that sends every request of the plan at its moment, answered or not."""

    concurrency = CONNECTIONS
    fixed_count = 1
    network_timeout = TIMEOUT_S
    connection_timeout = TIMEOUT_S

    @task  # type: ignore[untyped-decorator]
    def follow_plan(self) -> None:
        """Send everything, write down what came of it, and end the run.

        It ends whatever happens: Locust would begin a task that fails anew.
        """
        gevent.spawn(self.end_with, os.getppid())
        try:
            folder = Path(os.environ[PLAN])
            self.plan = read_plan(folder)
            write_run(folder, self.send_all(self.plan))
        except Exception:
            # Ending the run ends this greenlet, and with it an exception that nobody has told.
            logger.exception("the plan was not carried out")
        finally:
            self.environment.runner.quit()

    def end_with(self, parent: int) -> None:
        """End the run when the gate that started it is gone."""
        while os.getppid() == parent:
            gevent.sleep(0.5)
        self.environment.runner.quit()

    def send_all(self, plan: Plan) -> Run:
        """Follow the plan."""
        count = len(plan.at_s)
        self.sent_s, self.done_s = [math.inf] * count, [math.inf] * count
        self.status = [0] * count
        self.answers: dict[bytes, int] = {}
        self.answer = [self.known(b"no answer in time")] * count
        # A full collection in the middle would be the generator's pause, not the server's.
        gc.collect()
        gc.freeze()
        flights = gevent.pool.Group()
        cpu, began = time.process_time(), time.perf_counter()
        self.start = began + LEAD_S
        for index, at_s in enumerate(plan.at_s):
            # Sleeping for nothing still lets those fly that were sent before.
            gevent.sleep(max(0.0, self.start + at_s - time.perf_counter()))
            flights.spawn(self.send, index)
        used = (time.process_time() - cpu) / (time.perf_counter() - began)
        flights.join(timeout=TIMEOUT_S + 1)
        flights.kill()
        return Run(
            sent_s=tuple(self.sent_s),
            done_s=tuple(self.done_s),
            status=tuple(self.status),
            answer=tuple(self.answer),
            answers=tuple(self.answers),
            cpu=used,
        )

    def send(self, index: int) -> None:
        """Send one request and note what came of it."""
        self.sent_s[index] = time.perf_counter() - self.start
        body = self.plan.bodies[self.plan.order[index]]
        with (
            gevent.Timeout(TIMEOUT_S, exception=False),
            self.client.post(
                self.plan.path, data=body, headers=HEADERS, catch_response=True
            ) as reply,
        ):
            error = reply.request_meta["exception"]
            # A status that Locust calls bad is an answer; a body cut off in the middle is none.
            if error is not None and not isinstance(error, LocustBadStatusCode):
                self.answer[index] = self.known(_cause(error).encode())
                return
            self.answer[index] = self.known(reply.content or b"")
            self.status[index] = reply.status_code
            self.done_s[index] = time.perf_counter() - self.start

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
    return str(original).rstrip(".") or type(original).__name__
