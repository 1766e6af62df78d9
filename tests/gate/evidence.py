"""Evidence of a load that never was, for what draws and tells it."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np

from headgate.records import (
    Check,
    Evidence,
    Generator,
    Moment,
    Outcome,
    Samples,
    Saturation,
    Side,
    Verdict,
)

AT = dt.datetime(2026, 3, 1, 12, 5, tzinfo=dt.UTC)


def samples(
    model: str = "m",
    *,
    rounds: int = 6,
    each: int = 50,
    factor: float = 1.0,
    failed: int = 0,
    errors: dict[str, int] | None = None,
) -> Samples:
    """Blocks of 2 s, log-normal around 20 ms times ``factor``; the first ``failed`` unanswered."""
    count = rounds * each
    draw = np.random.default_rng(1)
    block = np.repeat(np.arange(rounds), each)
    intended_s = block * 4.0 + np.tile(np.linspace(0, 2, each, endpoint=False), rounds)
    ok = np.arange(count) >= failed
    latency_s = factor * draw.lognormal(math.log(0.02), 0.4, count)
    return Samples(
        model=model,
        release="r:1",
        block=block,
        intended_s=intended_s,
        sent_s=intended_s + 0.001,
        latency_s=np.where(ok, latency_s, np.inf),
        ok=ok,
        matched=ok,
        rows=np.ones(count, dtype=np.int64),
        duration_s=2.0 * rounds,
        errors=errors or ({"no answer in time": failed} if failed else {}),
    )


def side(release: str, *each: Samples, **other: Any) -> Side:
    return Side(release=release, samples=each, **other)


def saturation(rps: float, rounds: int = 6) -> Saturation:
    return Saturation(block=np.arange(rounds), rps=rps + 10.0 * np.arange(rounds), answered=1000)


def evidence(candidate: Side, champion: Side | None = None, **other: Any) -> Evidence:
    generator = Generator(cpu=0.31, p95_s=0.0011, most_rps=21_000)
    return Evidence(candidate=candidate, champion=champion, generator=generator, **other)


def check(
    name: str, outcome: str = "pass", reason: str = "As it should be.", **other: Any
) -> Check:
    told = {"model": "m", "samples": 300, **other}
    return Check(name=name, outcome=Outcome(outcome), reason=reason, **told)


def verdict(*checks: Check, outcome: str = "pass", reason: str = "All is well.") -> Verdict:
    return Verdict(
        release="headgate:1",
        digest="sha256:abc",
        outcome=Outcome(outcome),
        reason=reason,
        samples=2_000,
        profile="quick",
        at=AT,
        checks=checks,
    )


def course(name: str, *observed: float, model: str = "m", limit: float = 1.05) -> list[Moment]:
    """A look every 10 s, its interval narrower each time."""
    return [
        Moment(
            at_s=10.0 * number,
            checks=(
                check(
                    name,
                    model=model,
                    observed=value,
                    limit=limit,
                    interval=(value - 0.2 / number, value + 0.2 / number),
                ),
            ),
        )
        for number, value in enumerate(observed, 1)
    ]
