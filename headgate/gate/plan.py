"""What the gate's load generator is told, and what it tells: files between two processes."""

from __future__ import annotations

import math
import os
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from headgate.records import Record

__all__ = [
    "PLAN",
    "TIMEOUT_S",
    "Plan",
    "Run",
    "arrivals",
    "read_plan",
    "read_run",
    "write_plan",
    "write_run",
]

PLAN = "HEADGATE_LOAD_PLAN"
"""Environment variable that names the folder with the plan, and makes the generator follow it."""
TIMEOUT_S = 10.0
"""How long one answer is waited for, seconds; later it is none."""
_PLAN = "plan.msgpack"
_RUN = "run.msgpack"


class Plan(Record, frozen=True):
    """Which requests to send, and when."""

    path: str
    bodies: tuple[bytes, ...]
    """The different requests."""
    order: tuple[int, ...]
    """Index into ``bodies`` for each request."""
    at_s: tuple[float, ...]
    """Intended send time of each request, seconds from the start, rising."""


class Run(Record, frozen=True):
    """What the generator did: one entry a request, in the order of the plan."""

    sent_s: tuple[float, ...]
    """Actual send times, seconds from the start."""
    done_s: tuple[float, ...]
    """When the last byte of the answer was there; infinite where there was none."""
    status: tuple[int, ...]
    """HTTP status; 0 where there was no answer."""
    answer: tuple[int, ...]
    """Index into ``answers``."""
    answers: tuple[bytes, ...]
    """The different bodies; for requests without an answer, why, in words."""
    cpu: float
    """Share of one core that the generator used while it sent."""


def arrivals(rate: float, duration_s: float, seed: int) -> npt.NDArray[np.float64]:
    """Poisson arrivals: rising times in ``[0, duration_s)``, seconds, ``rate`` a second.

    Open loop: they do not wait for answers, as people do not, so a slow server builds up a
    queue instead of a quieter load (B. Schroeder, A. Wierman and M. Harchol-Balter, "Open versus
    closed: a cautionary tale", NSDI 2006). The process is conditioned on its number, which leaves
    the times uniform (J. F. C. Kingman, "Poisson Processes", 1993, section 2.4): so a run never
    offers less than ``rate``, nor fewer requests than asked for, by chance.
    """
    count = math.ceil(rate * duration_s - 1e-9)
    times: npt.NDArray[np.float64] = np.sort(
        np.random.default_rng(seed).uniform(0.0, duration_s, count)
    )
    return times


def write_plan(folder: Path, plan: Plan) -> None:
    """Write it where :func:`read_plan` finds it."""
    (folder / _PLAN).write_bytes(msgspec.msgpack.encode(plan))


def read_plan(folder: Path) -> Plan:
    """The plan in the folder."""
    return msgspec.msgpack.decode((folder / _PLAN).read_bytes(), type=Plan)


def write_run(folder: Path, run: Run) -> None:
    """Write it, complete or not at all."""
    partial = folder / "run.partial"
    with partial.open("wb") as file:
        file.write(msgspec.msgpack.encode(run))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder / _RUN)


def read_run(folder: Path) -> Run:
    """What the generator wrote; raises FileNotFoundError where it did not get that far."""
    return msgspec.msgpack.decode((folder / _RUN).read_bytes(), type=Run)
