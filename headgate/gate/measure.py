"""Loads a release, beside another one or alone, and hands the judge what it has seen so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from collections.abc import Generator as Yielding
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np

from headgate.config import LoadProfile
from headgate.errors import GateError
from headgate.gate.answers import Answers, ModelAnswers, compare_quality
from headgate.gate.load import GENERATOR, LOOPBACK, Load
from headgate.gate.null import null_endpoint
from headgate.gate.plan import Block, Seen, Target
from headgate.gate.schedule import Schedule, Turns, closed_block, looks, open_block, peak, rates
from headgate.gate.subject import Subject, reach
from headgate.gate.tally import Tally, saturated
from headgate.records import Evidence, Generator, Quality
from headgate.stats import quantile

__all__ = ["measure"]

_CALIBRATE_S = 2.0
_PART_S = 0.25
"""Of those: what happens on the machine in one or two of them is not the generator's."""
_SAY_EVERY_S = 5.0
_LOOK_AFTER_S = 1.0


def measure(
    candidate: Subject,
    champion: Subject | None,
    profile: LoadProfile,
    *,
    workdir: Path,
    progress: Callable[[str], None],
    saturates: Callable[[], bool] = lambda: True,
    locustfile: Path = GENERATOR,
    listen: str = LOOPBACK,
    seed: int | None = None,
) -> Yielding[Evidence]:
    """Load the candidate, and the champion in turn with it, as ``profile`` says.

    Arrivals are Poisson, whatever the answers do, and latency counts from the moment a request
    was meant to go. Each evidence holds all that was seen before it. A caller that has seen enough
    closes the iterator; it ends by itself with the budget.

    Args:
        candidate: Whom to judge.
        champion: Whom to compare it with; asked only where the profile compares.
        profile: How long, and in which shape. Rates are the subjects'.
        workdir: Where Locust's output goes meanwhile; nothing stays.
        progress: Told now and then how long it still takes.
        saturates: Whether saturation still tells something; asked before each round.
        locustfile: Carries out the blocks.
        listen: ``host:port`` where generators on other machines find their work.
        seed: Draws the arrivals, the order of the rows and that of the sides; None: another
            each time.

    Raises:
        ServingError: nobody answers at a URL, or ``candidate.watch`` found it gone.
        GateError: there is nothing to send, the champion answers no more, or the generator crashed,
            was killed or hung.
    """
    compares = profile.compare and profile.shape == "steady"
    subjects = [candidate, champion] if champion and compares else [candidate]
    for subject in subjects:
        reach(subject.url)
    with ExitStack() as stack:
        idle = stack.enter_context(null_endpoint())
        targets = [
            Target(
                url=subject.url.rstrip("/"),
                asks=tuple(ask for asked in subject.asked for ask in asked.asks),
                headers=subject.headers,
            )
            for subject in subjects
        ]
        load = stack.enter_context(
            Load(
                [*targets, msgspec.structs.replace(targets[0], url=idle)],
                workdir=workdir,
                locustfile=locustfile,
                generators=profile.generators,
                remote=profile.remote_generators,
                listen=listen,
                progress=progress,
            )
        )
        run = _Run(
            load, subjects, profile, np.random.default_rng(seed), progress, saturates=saturates
        )
        yield from run.steady() if profile.shape == "steady" else run.shaped()


class _Run:
    """One load test under way."""

    def __init__(
        self,
        load: Load,
        subjects: Sequence[Subject],
        profile: LoadProfile,
        random: np.random.Generator,
        progress: Callable[[str], None],
        *,
        saturates: Callable[[], bool] = lambda: True,
    ) -> None:
        self.load = load
        self.profile = profile
        self.random = random
        self.progress = progress
        self.saturates = saturates
        self.tallies = [Tally(subject) for subject in subjects]
        seeds = {asked.model: int(random.integers(2**63)) for asked in subjects[0].asked}
        self.turns = [
            [
                Turns(mine, np.random.default_rng(seeds.get(asked.model, 0)))
                for mine, asked in zip(tally.asks, tally.subject.asked, strict=True)
            ]
            for tally in self.tallies
        ]
        """Of each side and model: both go through the same requests in the same order."""
        self.schedule = Schedule(profile, len(subjects))
        self.cpu = 0.0
        self.floor_s: float | None = None
        self.most_rps: float | None = None
        self.said_s = self.began_s = time.monotonic()

    def steady(self) -> Yielding[Evidence]:
        """Round after round, the sides in turn."""
        self.calibrate()
        self.warm_up()
        least = self.schedule.least
        most = self.schedule.most(time.monotonic() - self.began_s)
        ends_s = max(self.began_s + self.profile.budget_s, time.monotonic() + self.schedule.least_s)
        start_s = time.monotonic()
        done = 0
        shares: list[float] = []
        for rounds in looks(least, most):
            while done < rounds:
                self.round(done, start_s)
                done += 1
                self.say(ends_s)
                if self.spent() and (done >= least or self.profile.budget_s):
                    break
            shares.append(done / most)
            yield self.evidence(shares)
            if self.spent():
                return

    def spent(self) -> bool:
        """Whether the budget is gone: a slow target makes rounds longer than they were planned."""
        return time.monotonic() - self.began_s > self.profile.budget_s

    def shaped(self) -> Yielding[Evidence]:
        """One long block on the candidate alone: a queue must be able to outlast its moment."""
        self.calibrate()
        self.warm_up()
        (tally,) = self.tallies
        stages = [rates(self.profile, asked.rate) for asked in tally.subject.asked]
        start_s = time.monotonic()
        ends_s = start_s + self.profile.duration_s

        looked_s = start_s

        def look_after() -> None:
            nonlocal looked_s
            if time.monotonic() - looked_s >= _LOOK_AFTER_S:
                tally.look_after()
                looked_s = time.monotonic()
            self.say(ends_s)

        block = open_block(0, self.turns[0], stages, self.random)
        seen = self.load.send(block, look_after)
        self.cpu = seen.cpu
        tally.add_open(self.schedule.block_s, 0, 0.0, seen)
        tally.duration_s = self.profile.duration_s
        tally.look_after()
        yield self.evidence([1.0])

    def calibrate(self) -> None:
        """What the generator sees of an endpoint that does nothing."""
        idle, tally = len(self.tallies), self.tallies[0]
        seconds = min(_CALIBRATE_S, self.profile.duration_s)
        stages = [[(asked.rate, seconds)] for asked in tally.subject.asked]
        seen = self.load.send(open_block(idle, tally.asks, stages, self.random))
        if seen.at_s:
            at_s = np.array(seen.at_s)
            latency_s = np.array(seen.done_s) - at_s
            part = (at_s / _PART_S).astype(np.int64)
            self.floor_s = float(
                np.median([quantile(latency_s[part == each], 0.95) for each in np.unique(part)])
            )
        if self.profile.saturate_s:
            found = []
            for _ in range(2):  # something else on the machine may disturb one
                seen = self.load.send(self.saturating(idle, tally))
                done = np.array(seen.done_s)
                found.append(saturated(done, self.profile.saturate_s, np.isfinite(done)))
            self.most_rps = max(found)

    def warm_up(self) -> None:
        """The same load as later, thrown away."""
        if not self.profile.warmup_s:
            return
        for index, tally in enumerate(self.tallies):
            block = self.opened(index, tally.asks, self.profile.warmup_s, self.random)
            self.load.send(block)
            tally.look_after()

    def round(self, number: int, start_s: float) -> None:
        """One block on each side, in random order; then the same in closed loop, while that tells."""
        seed = int(self.random.integers(2**63))
        for index in self.random.permutation(len(self.tallies)).tolist():
            tally = self.tallies[index]
            began_s = time.monotonic() - start_s
            # The same moments for both sides: what happens to come together cancels too.
            random = np.random.default_rng(seed)
            block = self.opened(index, self.turns[index], self.schedule.block_s, random)
            seen = self.load.send(block)
            self.hold_that_it_answers(index, seen)
            self.cpu = max(self.cpu, seen.cpu)
            tally.add_open(self.schedule.block_s, number, began_s, seen)
            tally.duration_s += self.schedule.block_s
            tally.look_after()
        if not self.profile.saturate_s or not self.saturates():
            return
        for index in self.random.permutation(len(self.tallies)).tolist():
            tally = self.tallies[index]
            seen = self.load.send(self.saturating(index, tally))
            self.hold_that_it_answers(index, seen)
            tally.add_closed(number, self.profile.saturate_s, seen)
            tally.look_after()

    def hold_that_it_answers(self, index: int, seen: Seen) -> None:
        """A champion that is gone is no yardstick: everybody is faster than it."""
        if index and seen.status and not any(seen.status):
            why = seen.answers[seen.answer[0]].decode(errors="replace")
            raise GateError(
                f"the champion answers no more: {why}",
                where=self.tallies[index].subject.release,
                remedy="see that it serves, and measure again",
            )

    def opened(
        self,
        index: int,
        asks: Sequence[Sequence[int] | Turns],
        seconds: float,
        random: np.random.Generator,
    ) -> Block:
        """A block in open loop."""
        stages = [[(asked.rate, seconds)] for asked in self.tallies[index].subject.asked]
        return open_block(index, asks, stages, random)

    def saturating(self, index: int, tally: Tally) -> Block:
        """A block in closed loop, of the models that both sides have.

        One that the champion has not would make all the difference by being slow.
        """
        known = [{asked.model for asked in each.subject.asked} for each in self.tallies]
        both = set.intersection(*known) or known[index % len(known)]
        asks = zip(tally.asks, tally.subject.asked, strict=True)
        return closed_block(
            index,
            [mine for mine, asked in asks if asked.model in both],
            seconds=self.profile.saturate_s,
            connections=self.profile.connections,
            random=self.random,
        )

    def evidence(self, shares: Sequence[float]) -> Evidence:
        """All that was seen so far."""
        champion = self.tallies[1].side() if len(self.tallies) > 1 else None
        return Evidence(
            candidate=self.tallies[0].side(),
            champion=champion,
            generator=Generator(cpu=self.cpu, p95_s=self.floor_s, most_rps=self.most_rps),
            quality=self.quality(),
            looks=tuple(shares),
            peak=peak(self.profile),
        )

    def quality(self) -> tuple[Quality, ...]:
        """Of each model with labels; beside the champion where it was asked for the same rows."""
        found = []
        theirs: dict[str, Answers] = {}
        if len(self.tallies) > 1:
            theirs = {asked.model: asked.answers for asked in self.tallies[1].subject.asked}
        for asked in self.tallies[0].subject.asked:
            own, other = asked.answers, theirs.get(asked.model)
            if isinstance(own, ModelAnswers):
                same = (
                    other
                    if isinstance(other, ModelAnswers) and other.reference is own.reference
                    else None
                )
                found.append(compare_quality(asked.model, own, same))
        return tuple(each for each in found if each)

    def say(self, ends_s: float) -> None:
        """Now and then, how long it may still take."""
        now = time.monotonic()
        if now - self.said_s >= _SAY_EVERY_S and now < ends_s:
            self.said_s = now
            most = "at most " if self.profile.budget_s else ""
            self.progress(f"  {most}{ends_s - now:.0f} s left")
