"""Evidence of a load test, written out instead of measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headgate.config import DemandConfig, LoadProfile, SloConfig
from headgate.gate import judge
from headgate.records import Check, Evidence, Generator, Outcome, Samples, Saturation, Side

SLO = SloConfig(p95_ms=100, min_rps=50, max_error_rate=0.01, max_load_s=10)
PROFILE = LoadProfile(rate=100, duration_s=10, min_requests=200)
COMPARE = LoadProfile(rate=100, duration_s=12, min_requests=200, budget_s=300, compare=True)
GENERATOR = Generator(cpu=0.2, p95_s=0.001, most_rps=5_000)


def samples(
    latency_ms: float | npt.ArrayLike = 20.0,
    *,
    count: int = 1_000,
    failed: int = 0,
    wrong: int = 0,
    late_ms: float | npt.ArrayLike = 0.0,
    **other: Any,
) -> Samples:
    """100 requests/s in blocks of 2 s, the first ``failed`` without an answer, the last ``wrong``
    with a wrong one."""
    intended_s = np.asarray(other.get("intended_s", np.arange(count) / 100))
    ok = np.arange(count) >= failed
    latency_s = np.broadcast_to(np.asarray(latency_ms, dtype=float) / 1000, count)
    whole = {
        "model": "m",
        "release": "r:1",
        "block": np.arange(count) // 200,
        "intended_s": intended_s,
        "sent_s": intended_s + np.asarray(late_ms, dtype=float) / 1000,
        "latency_s": np.where(ok, latency_s, np.inf),
        "ok": ok,
        "matched": ok & (np.arange(count) < count - wrong),
        "rows": np.ones(count, dtype=np.int64),
        "duration_s": count / 100,
        "errors": {"no answer in time": failed} if failed else {},
    }
    return Samples(**{**whole, **other})


def scattered(level_ms: float = 20.0, *, rounds: int = 12, seed: int = 0, **other: Any) -> Samples:
    """Latencies around ``level_ms``, 200 in each round."""
    random = np.random.default_rng(seed)
    count = 200 * rounds
    return samples(level_ms * random.lognormal(0, 0.25, count), count=count, **other)


def saturation(rps: float | npt.ArrayLike, *, rounds: int = 12, **other: Any) -> Saturation:
    """Answers per second, for all rounds or for each."""
    each = np.broadcast_to(np.asarray(rps, dtype=float), rounds)
    return Saturation(block=np.arange(rounds), rps=each, **{"answered": int(each.sum()), **other})


def evidence(
    measured: Samples | tuple[Samples, ...] | None = None,
    champion: Samples | tuple[Samples, ...] | None = None,
    *,
    load_time_s: float | None = 2.0,
    memory_mb: float | None = None,
    saturated: tuple[Saturation | None, Saturation | None] = (None, None),
    paired: bool = True,
    **other: Any,
) -> Evidence:
    """What a load test saw of a release, and of a champion beside it where there is one."""
    mine = samples() if measured is None else measured
    side = Side(
        release="r:1",
        samples=mine if isinstance(mine, tuple) else (mine,),
        saturation=saturated[0],
        load_time_s=load_time_s,
        memory_mb=memory_mb,
        paired=paired,
    )
    beside = None
    if champion is not None:
        theirs = champion if isinstance(champion, tuple) else (champion,)
        beside = Side(release="r:0", samples=theirs, saturation=saturated[1], paired=paired)
    return Evidence(**{"candidate": side, "champion": beside, "generator": GENERATOR, **other})


def judged(
    measured: Samples | Evidence,
    slo: SloConfig = SLO,
    profile: LoadProfile = PROFILE,
    *,
    demand: DemandConfig | None = None,
    lateness_ms: float = 20,
) -> dict[str, Check]:
    """The checks of one model and of the release, by name."""
    seen = measured if isinstance(measured, Evidence) else evidence(measured)
    models = {each.model for each in seen.candidate.samples} or {"m"}
    checks = judge(
        seen,
        dict.fromkeys(models, slo),
        {} if demand is None else dict.fromkeys(models, demand),
        profile,
        max_generator_lateness_ms=lateness_ms,
    )
    return {check.name: check for check in checks}


def outcomes(measured: Samples | Evidence, **how: Any) -> dict[str, Outcome]:
    """Each check's outcome by its name."""
    return {name: check.outcome for name, check in judged(measured, **how).items()}
