"""How the number of clients changes over time: `HEADGATE_SHAPE=spike locust -f load_tests/locustfile.py`."""

from __future__ import annotations

from typing import ClassVar

from locust import LoadTestShape


class Stages(LoadTestShape):  # type: ignore[misc]
    """Goes through ``stages``: until so many seconds, so many clients."""

    abstract = True
    stages: ClassVar[list[tuple[float, int]]] = []
    spawn_rate = 50.0

    def tick(self) -> tuple[int, float] | None:
        """Clients wanted now; None ends the test."""
        now = self.get_run_time()
        for until, clients in self.stages:
            if now < until:
                return clients, self.spawn_rate
        return None


class Steady(Stages):
    """The same for a minute."""

    stages: ClassVar = [(60, 10)]


class Ramp(Stages):
    """A little more every ten seconds: where does latency begin to rise?"""

    stages: ClassVar = [(10 * step, 4 * step) for step in range(1, 13)]


class Spike(Stages):
    """Quiet, ten times as much, quiet again: how long until it has recovered?"""

    stages: ClassVar = [(20, 5), (35, 50), (75, 5)]


class Soak(Stages):
    """Half an hour of the same: does anything leak?"""

    stages: ClassVar = [(1800, 10)]


SHAPES = {"steady": Steady, "ramp": Ramp, "spike": Spike, "soak": Soak}
