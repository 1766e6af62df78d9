"""A noisy machine and the servers on it, drawn instead of run: time passes at no cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SAME", "Change", "Machine", "Seen", "Server"]

_STEP_S = 0.01
_PART = 500
_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """In what a candidate differs from its champion."""

    slower: float = 1.0
    """Factor of every latency of its own."""
    errors: float = 0.0
    """Share of requests that fail."""
    wrong: float = 0.0
    """Share of answers that are not the reference's."""
    pauses: float = 0.0
    """Chance that it pauses for a quarter of a second in a block, as none but it does."""


SAME = Change()


class Machine:
    """How much slower everything is than on a quiet machine, at each moment of a job."""

    def __init__(self, random: np.random.Generator, seconds: float, *, shared: bool = True) -> None:
        """Draw a job: its own level, and what changes meanwhile.

        Jobs differ by 10 %. The level wanders by 3 % within 20 s, by 2 % within 1 s and by 5 %
        within 50 ms. Every 40 s on average all stands still for some 60 ms. Where the machine is
        ``shared``, another process is on for 15 s and off for 30 s on average, and makes
        everything 15 to 60 % slower and a tenth of the requests far more.
        """
        count = math.ceil(seconds / _STEP_S) + 1
        self.log_level = np.full(count, random.normal(0, 0.1))
        for spread, time_s in ((0.03, 20.0), (0.02, 1.0), (0.05, 0.05)):
            self.log_level += spread * _smooth(random, count, time_s)
        self.busy = _switched(random, count) if shared else np.zeros(count, dtype=bool)
        more = math.log(random.uniform(1.15, 1.6))
        self.log_level += more * self.busy
        self.pauses = self._pauses(random, seconds)

    @staticmethod
    def _pauses(random: np.random.Generator, seconds: float) -> list[tuple[float, float]]:
        begins = np.cumsum(random.exponential(40, size=4 + int(seconds / 10)))
        return [
            (float(begin), float(begin + min(0.5, random.exponential(0.06))))
            for begin in begins[begins < seconds]
        ]

    def at(self, moments: _Numbers) -> tuple[_Numbers, npt.NDArray[np.bool_]]:
        """The logarithm of the level, and whether the other process is on."""
        step = np.minimum((moments / _STEP_S).astype(np.int64), len(self.log_level) - 1)
        return self.log_level[step], self.busy[step]


def _smooth(random: np.random.Generator, count: int, time_s: float) -> _Numbers:
    """An Ornstein-Uhlenbeck process of variance 1."""
    keep = math.exp(-_STEP_S / time_s)
    pushes = random.normal(0, math.sqrt(1 - keep * keep), count)
    value, smooth = random.normal(), np.empty(count)
    # In parts so short that the powers of `keep` stay numbers.
    powers = keep ** np.arange(1, _PART + 1)
    for begin in range(0, count, _PART):
        part = pushes[begin : begin + _PART]
        known = powers[: len(part)]
        smooth[begin : begin + _PART] = known * (value + np.cumsum(part / known))
        value = smooth[min(begin + _PART, count) - 1]
    return smooth


def _switched(random: np.random.Generator, count: int) -> npt.NDArray[np.bool_]:
    busy = np.zeros(count, dtype=bool)
    on, step = bool(random.random() < 1 / 3), 0
    while step < count:
        length = 1 + int(random.exponential(15 if on else 30) / _STEP_S)
        busy[step : step + length] = on
        on, step = not on, step + length
    return busy


@dataclass(frozen=True)
class Seen:
    """What came of the requests of a block."""

    at_s: _Numbers
    sent_s: _Numbers
    latency_s: _Numbers
    ok: npt.NDArray[np.bool_]
    right: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Server:
    """A release on a machine."""

    machine: Machine
    median_s: float
    """Of its latency on a quiet machine."""
    spread: float
    """Standard deviation of the logarithm of its latency."""
    change: Change = SAME

    def asked(
        self, random: np.random.Generator, begin_s: float, rate: float, seconds: float
    ) -> Seen:
        """A block in open loop."""
        count = math.ceil(rate * seconds - 1e-9)
        at_s = begin_s + np.sort(random.uniform(0, seconds, count))
        log_level, busy = self.machine.at(at_s)
        own = random.normal(0, self.spread, count)
        # One request in a hundred has more to do.
        own += np.where(random.random(count) < 0.01, random.uniform(0, 2, count), 0)
        hit = busy & (random.random(count) < 0.1)
        latency_s = self.median_s * self.change.slower * np.exp(log_level + own)
        latency_s *= 1 + np.where(hit, random.exponential(0.3, count), 0)
        pauses = list(self.machine.pauses)
        if random.random() < self.change.pauses:
            began = begin_s + random.uniform(0, seconds)
            pauses.append((began, began + 0.25))
        for began, ended in pauses:
            # What is under way when all stands still ends that much later.
            under_way = (at_s < ended) & (at_s + latency_s > began)
            latency_s[under_way] += ended - np.maximum(at_s[under_way], began)
        late_s = random.exponential(0.0002, count)
        overhead_s = random.exponential(0.0003, count)
        ok = random.random(count) >= self.change.errors
        return Seen(
            at_s=at_s,
            sent_s=at_s + late_s,
            latency_s=np.where(ok, latency_s + late_s + overhead_s, np.inf),
            ok=ok,
            right=ok & (random.random(count) >= self.change.wrong),
        )

    def saturated(
        self, random: np.random.Generator, begin_s: float, seconds: float, connections: int
    ) -> tuple[float, int]:
        """Right answers per second in closed loop, and how many of them were wrong."""
        moments = begin_s + np.arange(0, seconds, _STEP_S)
        log_level, _ = self.machine.at(moments)
        still_s = sum(
            max(0.0, min(ended, begin_s + seconds) - max(began, begin_s))
            for began, ended in self.machine.pauses
        )
        # Twice as slow as alone: everybody waits for everybody.
        alone = connections / (2 * self.median_s * self.change.slower)
        rps = alone * float(np.exp(-log_level).mean()) * (1 - still_s / seconds)
        rps *= math.exp(random.normal(0, 0.015 / math.sqrt(seconds))) * (1 - self.change.errors)
        return rps, int(random.binomial(int(rps * seconds), self.change.wrong))
