"""Samples of a load test, written out instead of measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headgate.config import LoadProfile, SloConfig
from headgate.gate import judge
from headgate.records import Check, Outcome, Samples

SLO = SloConfig(p95_ms=100, min_rps=50, max_error_rate=0.01, max_load_s=10)
PROFILE = LoadProfile(rate=100, duration_s=10, min_requests=200)


def samples(
    latency_ms: float | npt.ArrayLike = 20.0,
    *,
    count: int = 1_000,
    failed: int = 0,
    wrong: int = 0,
    late_ms: float | npt.ArrayLike = 0.0,
    **other: Any,
) -> Samples:
    """100 requests/s, the first ``failed`` without an answer, the last ``wrong`` with a wrong one."""
    intended_s = np.arange(count) / 100
    ok = np.arange(count) >= failed
    latency_s = np.broadcast_to(np.asarray(latency_ms, dtype=float) / 1000, count)
    whole = {
        "model": "m",
        "release": "r:1",
        "intended_s": intended_s,
        "sent_s": intended_s + np.asarray(late_ms, dtype=float) / 1000,
        "latency_s": np.where(ok, latency_s, np.inf),
        "ok": ok,
        "matched": ok & (np.arange(count) < count - wrong),
        "rows": np.ones(count, dtype=np.int64),
        "duration_s": count / 100,
        "load_time_s": 2.0,
        "errors": {"no answer in time": failed} if failed else {},
        "generator_cpu": 0.2,
    }
    return Samples(**{**whole, **other})


def judged(
    measured: Samples,
    slo: SloConfig = SLO,
    profile: LoadProfile = PROFILE,
    *,
    lateness_ms: float = 20,
) -> dict[str, Check]:
    """The checks by name."""
    checks = judge(measured, slo, profile, max_generator_lateness_ms=lateness_ms)
    return {check.name: check for check in checks}


def outcomes(measured: Samples, **how: Any) -> dict[str, Outcome]:
    """Each check's outcome by its name."""
    return {name: check.outcome for name, check in judged(measured, **how).items()}
