"""Offers a release one rate after the other, until it is known which it can hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from headgate.config import SloConfig
from headgate.errors import GateError
from headgate.gate.capacity import LEAST_RPS, Search
from headgate.gate.load import GENERATOR, Load
from headgate.gate.null import null_endpoint
from headgate.gate.plan import Target
from headgate.gate.schedule import closed_block, open_block
from headgate.gate.step import after, judge_step, least_requests
from headgate.gate.subject import Subject, reach
from headgate.gate.tally import Tally
from headgate.gate.wording import ms
from headgate.records import Capacity, Record, Step, StepOutcome

__all__ = ["Stepping", "find_capacity"]

_SHARE = 1 / 30
"""Of the budget, for one step."""
_SHORTEST_S = 1.0
_LONGEST_S = 4.0
"""Seconds that count in a step, unless it takes longer to send enough requests."""
_WARMUP = 0.25
"""Of the same again before that, thrown away."""
_LEAST = 2
"""Steps, however small the budget."""
_BEGIN = 0.7
"""Share of what it answers in closed loop at which the search begins."""


class Stepping(Record, frozen=True):
    """How to look for a capacity."""

    budget_s: float = 120
    """Seconds for all of it."""
    connections: int = 16
    """How many are always under way in closed loop."""
    generators: int = 1
    """Locust processes that share the load."""
    max_lateness_ms: float = 20
    """Of the generator's own P95 request, where a step did not hold."""


def find_capacity(
    subject: Subject,
    slos: Mapping[str, SloConfig],
    how: Stepping,
    *,
    workdir: Path,
    progress: Callable[[str], None],
    locustfile: Path = GENERATOR,
    seed: int = 0,
) -> Capacity:
    """The highest rate at which every model keeps its promises, all models at once.

    A few seconds in closed loop give the scale. Then Poisson arrivals at one rate after the other;
    each step is judged by :func:`judge_step`, without its first fifth.

    Args:
        subject: Whom to ask; the rates of its ``asked`` are not looked at.
        slos: The promises, by model.
        how: Within what.
        workdir: Where Locust's output goes meanwhile; nothing stays.
        progress: Told what came of each step, and how long it may still take.
        locustfile: Carries out the blocks.
        seed: Draws the arrivals and the order of the rows.

    Raises:
        ServingError: nobody answers, or ``subject.watch`` found it gone.
        GateError: it gives no right answer, or the generator crashed, was killed or hung.
    """
    ends_s = time.monotonic() + how.budget_s
    reach(subject.url)
    with ExitStack() as stack:
        idle = stack.enter_context(null_endpoint())
        target = Target(
            url=subject.url.rstrip("/"),
            asks=tuple(ask for asked in subject.asked for ask in asked.asks),
            headers=subject.headers,
        )
        targets = [target, msgspec.structs.replace(target, url=idle)]
        load = stack.enter_context(
            Load(targets, workdir=workdir, locustfile=locustfile, generators=how.generators)
        )
        return _Steps(load, subject, slos, how, np.random.default_rng(seed), progress).run(ends_s)


@dataclass(slots=True)
class _Steps:
    """One search under way."""

    load: Load
    subject: Subject
    slos: Mapping[str, SloConfig]
    how: Stepping
    random: np.random.Generator
    progress: Callable[[str], None]

    def run(self, ends_s: float) -> Capacity:
        """Step by step, while there is something to find and time for it."""
        most, scale = self.saturate(1), self.saturate(0)
        self.progress(
            f"  {scale * len(self.subject.asked):,.0f} requests/s in closed loop; "
            f"the generator itself {most * len(self.subject.asked):,.0f}"
        )
        search = Search(_BEGIN * scale, most=max(most, LEAST_RPS))
        while (rate := search.next()) is not None:
            late = time.monotonic() + self.seconds(rate) > ends_s
            if late and len(search.found().steps) >= _LEAST:
                break
            step = self.step(rate)
            search.tell(step)
            self.say(step, ends_s)
        return search.found()

    def saturate(self, target: int) -> float:
        """Right answers per second of each model when there is always a next request."""
        tally = Tally(self.subject)
        seconds = max(0.5, min(2.0, self.how.budget_s * _SHARE))
        for turn in range(1 if target else 2):  # the first wakes up a server that has just started
            block = closed_block(
                target,
                tally.asks,
                seconds=seconds,
                connections=self.how.connections * self.how.generators,
                random=self.random,
            )
            seen = self.load.send(block, self.watch if not target else lambda: None)
            if target:
                done = np.array(seen.done_s)
                return float((done <= seconds).sum()) / seconds / len(tally.asks)
            tally.add_closed(turn, seconds, seen)
        if not tally.rps[-1] or not tally.counts["answered"] > tally.counts["wrong"]:
            often = tally.errors.most_common(1)
            raise GateError(
                "it gives no right answer: "
                + (often[0][0] if often else "none is that of the reference"),
                where=self.subject.release,
                remedy="`headgate gate` tells more; mend that first, or send fewer --rows",
            )
        return tally.rps[-1] / len(tally.asks)

    def seconds(self, rate: float) -> float:
        """How long a step takes, its warm-up with it."""
        return (1 + _WARMUP) * self.counted(rate)

    def counted(self, rate: float) -> float:
        """The seconds of a step that count."""
        usual = min(_LONGEST_S, max(_SHORTEST_S, self.how.budget_s * _SHARE))
        return max(usual, least_requests(self.slos) / rate)

    def step(self, rate: float) -> Step:
        """Some seconds at ``rate`` requests per second to each model."""
        tally, whole = Tally(self.subject), self.seconds(rate)
        stages = [[(rate, whole)] for _ in tally.asks]
        seen = self.load.send(open_block(0, tally.asks, stages, self.random), self.watch)
        tally.add_open(2 * whole, 0, 0.0, seen)
        tally.duration_s = whole
        self.watch()
        return judge_step(
            [after(samples, whole - self.counted(rate)) for samples in tally.side().samples],
            self.slos,
            rate=rate,
            ends_s=whole,
            cpu=seen.cpu,
            max_lateness_ms=self.how.max_lateness_ms,
        )

    def watch(self) -> None:
        """Find out if it is gone."""
        self.subject.watch()

    def say(self, step: Step, ends_s: float) -> None:
        """What came of a step."""
        each = " each" if len(self.subject.asked) > 1 else ""
        came = {
            StepOutcome.HELD: "held",
            StepOutcome.FAILED: f"did not hold: {step.why}",
            StepOutcome.LIMITED: f"tells nothing: {step.why}",
        }[step.outcome]
        if step.outcome is StepOutcome.HELD and step.p95_ms is not None:
            came += f", P95 {ms(step.p95_ms)}"
        left_s = max(0.0, ends_s - time.monotonic())
        self.progress(f"  {step.rate:,.0f}/s{each} {came} (at most {left_s:.0f} s left)")
