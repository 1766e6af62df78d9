"""Whole gate runs on the drawn machine, by the real judge and the real schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.harness.gate_machine import Change, Machine, Seen, Server
from headgate import records
from headgate.config import DemandConfig, LoadProfile, SloConfig
from headgate.gate.judge import judge
from headgate.gate.schedule import BETWEEN_S, Schedule, looks
from headgate.gate.trial import Trial
from headgate.records import Check, Evidence, Outcome, Samples, Saturation, Side
from headgate.stats import quantile

__all__ = ["JOB_S", "PROFILE", "Ended", "simulate"]

PROFILE = LoadProfile(
    rate=200,
    duration_s=9,
    block_s=0.75,
    budget_s=300,
    warmup_s=5,
    min_requests=500,
    min_checked=5_000,
    compare=True,
    saturate_s=0.5,
)
"""As `headgate gate --url --rate 200` has it: what a target of 10 to 50 ms serves easily."""
BEFORE_S = 2 + 0.5 + 2 * 5 + 2
"""Calibration, warm-up of both and what lies between."""
_MODEL = "m"
_GENERATOR = records.Generator(cpu=0.3, p95_s=0.0012, most_rps=6_000)
"""P95 of what :class:`Server` adds for it."""
JOB_S = 60.0
"""How long a fixed check measures."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    outcome: str
    seconds: float
    """From its start to the verdict."""
    rounds: int
    decisive: tuple[str, ...]
    """The checks that failed or stayed open."""
    fixed: bool
    """Whether a fixed threshold lets it pass: its P95 against one of an earlier job."""
    same_job: bool
    """The same against the champion's P95 of the same job."""
    p95_ratio: float | None
    """As estimated at the end."""


def simulate(
    change: Change, seed: int, profile: LoadProfile = PROFILE, *, shared: bool = True
) -> Ended:
    """One run: a target of 10 to 50 ms on a machine of its own, judged until it is decided.

    ``shared`` says whether another process comes and goes on it.
    """
    random = np.random.default_rng(seed)
    machine = Machine(random, profile.budget_s + 10, shared=shared)
    p95_s = math.exp(random.uniform(math.log(0.01), math.log(0.05)))
    spread = random.uniform(0.15, 0.35)
    champion = Server(machine, p95_s * math.exp(-1.645 * spread), spread)
    slo = SloConfig(p95_ms=1000 * p95_s * 4, min_rps=profile.rate)
    trial = Trial()
    run = _Run(replace(champion, change=change), champion, random, profile, trial.saturates)
    trial.follow(
        run.looks(),
        lambda evidence: judge(
            evidence, {_MODEL: slo}, {_MODEL: DemandConfig()}, profile, max_generator_lateness_ms=20
        ),
    )
    return _ended(trial.checks, run)


class _Run:
    """Both sides of one run."""

    def __init__(
        self,
        candidate: Server,
        champion: Server,
        random: np.random.Generator,
        profile: LoadProfile,
        saturates: Callable[[], bool],
    ) -> None:
        self.candidate, self.champion = _Side(candidate, profile), _Side(champion, profile)
        self.random = random
        self.profile = profile
        self.saturates = saturates
        self.schedule = Schedule(profile, sides=2)
        self.clock_s = float(BEFORE_S)
        self.rounds = 0

    def looks(self) -> Generator[Evidence]:
        """What the judge is shown, until the budget is spent."""
        most = self.schedule.most(BEFORE_S)
        shares: list[float] = []
        for rounds in looks(self.schedule.least, most):
            while self.rounds < rounds and self.clock_s <= self.profile.budget_s:
                self._round()
            shares.append(self.rounds / most)
            yield Evidence(
                candidate=self.candidate.side(),
                champion=self.champion.side(),
                generator=_GENERATOR,
                looks=tuple(shares),
            )
            if self.clock_s > self.profile.budget_s:
                return

    def _round(self) -> None:
        """Load both sides in turn."""
        profile, sides = self.profile, (self.candidate, self.champion)
        for index in self.random.permutation(2):
            seen = sides[index].server.asked(
                self.random, self.clock_s, profile.rate, self.schedule.block_s
            )
            sides[index].add(self.rounds, seen)
            self.clock_s += self.schedule.block_s + BETWEEN_S
        self.rounds += 1
        if not self.saturates():
            return
        for index in self.random.permutation(2):
            seconds = profile.saturate_s
            rps, wrong = sides[index].server.saturated(
                self.random, self.clock_s, seconds, profile.connections
            )
            sides[index].add_saturated(self.rounds - 1, rps, int(rps * seconds), wrong)
            self.clock_s += seconds + BETWEEN_S


def _ended(checks: tuple[Check, ...], run: _Run) -> Ended:
    outcomes = {check.outcome for check in checks}
    worst = next(
        (each for each in (Outcome.FAIL, Outcome.INCONCLUSIVE) if each in outcomes), Outcome.PASS
    )
    ratio = next(check.observed for check in checks if check.name == "p95_ratio")
    fixed, same_job = _fixed(run)
    return Ended(
        outcome=worst.value,
        seconds=run.clock_s,
        rounds=run.rounds,
        decisive=tuple(
            check.name for check in checks if check.outcome is worst and worst is not Outcome.PASS
        ),
        fixed=fixed,
        same_job=same_job,
        p95_ratio=ratio,
    )


def _fixed(run: _Run) -> tuple[bool, bool]:
    """What a fixed threshold says of the candidate, measured for a minute as k6 would.

    Against the champion's P95 of an earlier job, or against its P95 in the gate's own run. At most
    one request in a thousand may fail, and answers are not looked at.
    """
    margin = DemandConfig().max_p95_ratio
    candidate, champion = (
        replace(side.server, machine=Machine(run.random, JOB_S + 5)).asked(
            run.random, 0.0, run.profile.rate, JOB_S
        )
        for side in (run.candidate, run.champion)
    )
    few_errors = float((~candidate.ok).mean()) <= 0.001
    mine, theirs = (
        quantile(np.concatenate([each.latency_s for each in side.seen]), 0.95)
        for side in (run.candidate, run.champion)
    )
    ok = np.concatenate([each.ok for each in run.candidate.seen])
    return (
        _p95(candidate) <= margin * _p95(champion) and few_errors,
        mine <= margin * theirs and float((~ok).mean()) <= 0.001,
    )


def _p95(seen: Seen) -> float:
    return quantile(seen.latency_s, 0.95)


class _Side:
    """What was seen of one server so far."""

    def __init__(self, server: Server, profile: LoadProfile) -> None:
        self.server = server
        self.profile = profile
        self.seen: list[Seen] = []
        self.blocks: list[npt.NDArray[np.int64]] = []
        self.rps: list[float] = []
        self.saturated: list[int] = []
        self.answered = 0
        self.wrong = 0

    def add(self, number: int, seen: Seen) -> None:
        """A block in open loop."""
        self.seen.append(seen)
        self.blocks.append(np.full(len(seen.ok), number))

    def add_saturated(self, number: int, rps: float, answered: int, wrong: int) -> None:
        """A block in closed loop."""
        self.saturated.append(number)
        self.rps.append(rps)
        self.answered += answered
        self.wrong += wrong

    def side(self) -> Side:
        """As the judge takes it."""
        ok = np.concatenate([each.ok for each in self.seen])
        failed = int((~ok).sum())
        samples = Samples(
            model=_MODEL,
            release="r",
            block=np.concatenate(self.blocks),
            intended_s=np.concatenate([each.at_s for each in self.seen]),
            sent_s=np.concatenate([each.sent_s for each in self.seen]),
            latency_s=np.concatenate([each.latency_s for each in self.seen]),
            ok=ok,
            matched=np.concatenate([each.right for each in self.seen]),
            rows=np.ones(len(ok), dtype=np.int64),
            duration_s=len(self.seen) * self.profile.block_s,
            errors={"HTTP 500": failed} if failed else {},
        )
        return Side(
            release="r",
            samples=(samples,),
            saturation=Saturation(
                block=np.array(self.saturated),
                rps=np.array(self.rps),
                answered=self.answered,
                wrong=self.wrong,
            ),
            load_time_s=2.0,
        )
