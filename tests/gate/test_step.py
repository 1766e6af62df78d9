"""When a rate holds: literal steps of ten seconds at 100 requests/s."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from headgate.config import SloConfig
from headgate.gate.step import after, judge_step, least_requests
from headgate.records import Samples, Step, StepOutcome

HELD, FAILED, LIMITED = StepOutcome.HELD, StepOutcome.FAILED, StepOutcome.LIMITED
COUNT = 1_000
SLO = SloConfig(p95_ms=100, min_rps=1, max_error_rate=0.001)


def seen(
    latency_ms: float | npt.ArrayLike = 20.0, *, wrong: int = 0, failed: int = 0, **other: Any
) -> Samples:
    at_s = np.arange(COUNT) / 100
    latency_s = np.broadcast_to(np.asarray(latency_ms, dtype=float) / 1000, COUNT)
    ok = np.arange(COUNT) >= failed
    whole = {
        "model": "m",
        "release": "r:1",
        "block": np.zeros(COUNT, dtype=np.int64),
        "intended_s": at_s,
        "sent_s": at_s,
        "latency_s": latency_s,
        "ok": ok,
        "matched": ok & (np.arange(COUNT) < COUNT - wrong),
        "rows": np.ones(COUNT, dtype=np.int64),
        "duration_s": 10.0,
        "errors": {"no answer in time": failed} if failed else {},
    }
    return Samples(**{**whole, **other})


def judged(*samples: Samples, slo: SloConfig = SLO, **how: Any) -> Step:
    slos = {each.model: slo for each in samples}
    settings = {"rate": 100, "ends_s": 10.0, "cpu": 0.2, "max_lateness_ms": 20, **how}
    return judge_step(samples, slos, **settings)


def test_a_steady_step_holds() -> None:
    step = judged(seen())
    assert (step.outcome, step.why, step.requests) == (HELD, "", COUNT)
    assert step.p95_ms == pytest.approx(20)


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (seen(101), "P95 101 ms (at most 101 ms), over 100 ms"),
        # 4.5 % are slow: P95 itself is within, its upper bound is not.
        (seen(np.where(np.arange(COUNT) % 22 == 0, 150, 20)), "P95 20.0 ms (at most 150 ms)"),
        (seen(failed=9), "9 of 1,000 requests had no right answer (no answer in time)"),
        (seen(wrong=9), "9 of 1,000 requests had no right answer"),
        (seen(np.where(np.arange(COUNT) < 970, 20, 900)), "only 97 % were answered in time"),
        (seen(np.linspace(10, 60, COUNT)), "latency rose from beginning to end"),
    ],
)
def test_what_gives_way(samples: Samples, why: str) -> None:
    step = judged(samples)
    assert step.outcome is FAILED
    assert why in step.why


def test_a_backlog_at_the_end() -> None:
    """The last 60 of 1,000 wait together, and are answered just in time."""
    slo = SloConfig(p95_ms=300, min_rps=1)
    at_s = np.arange(COUNT) / 100
    at_s[-60:] = 9.9
    latency = np.where(np.arange(COUNT) >= COUNT - 60, 290.0, 20.0)
    step = judged(seen(latency, intended_s=at_s, sent_s=at_s), slo=slo)
    assert (step.outcome, step.why) == (FAILED, "60 requests had piled up at the end")


def test_two_failures_in_a_thousand_are_no_proof() -> None:
    assert judged(seen(failed=2)).outcome is HELD


def test_noise_is_no_rise() -> None:
    random = np.random.default_rng(0)
    rises = sum(
        judged(seen(20 * random.lognormal(0, 0.4, COUNT))).outcome is FAILED for _ in range(200)
    )
    assert rises == 0  # it is at least half as high again that counts


def test_answers_that_are_missing_in_a_row_have_no_trend() -> None:
    latency = np.where(np.arange(COUNT) < 30, np.inf, 20.0)
    lenient = SloConfig(p95_ms=100, min_rps=1, max_error_rate=0.5)
    ok = np.isfinite(latency)
    step = judged(seen(latency, ok=ok, matched=ok), slo=lenient)
    assert "only 97 % were answered in time" in step.why


def test_p99_where_it_is_promised() -> None:
    latency = np.where(np.arange(COUNT) % 60 == 0, 90, 20)
    strict = SloConfig(p95_ms=100, p99_ms=50, min_rps=1)
    assert judged(seen(latency)).outcome is HELD
    assert "P99 90.0 ms" in judged(seen(latency), slo=strict).why
    assert least_requests({"m": strict}) > least_requests({"m": SLO}) > 59


def test_a_busy_generator_proves_nothing() -> None:
    step = judged(seen(150), cpu=0.95)
    assert (step.outcome, step.why) == (LIMITED, "the load generator used 95% of its core")


def test_a_late_generator_proves_nothing() -> None:
    late = seen(150, sent_s=np.arange(COUNT) / 100 + 0.14)
    step = judged(late)
    assert (step.outcome, step.why) == (LIMITED, "the load generator was 140 ms late (P95)")


def test_what_was_never_sent_is_no_fault_of_the_release() -> None:
    unsent = np.arange(COUNT) >= 960
    latency = np.where(unsent, np.inf, 20.0)
    ok = ~unsent
    at_s = np.arange(COUNT) / 100
    sent_s = np.where(unsent, np.inf, at_s)
    assert judged(seen(latency, ok=ok, matched=ok, sent_s=sent_s)).outcome is LIMITED


def test_one_model_that_gives_way_is_enough() -> None:
    late = seen(150, sent_s=np.arange(COUNT) / 100 + 0.14)
    step = judged(late, seen(150, model="other"))
    assert (step.outcome, step.why[:10]) == (FAILED, "other: P95")


def test_what_holds_holds_however_busy_the_generator() -> None:
    assert judged(seen(), cpu=0.99).outcome is HELD


def test_the_model_that_gives_way_is_named() -> None:
    step = judged(seen(), seen(150, model="other"))
    assert step.why.startswith("other: P95 150 ms")
    assert step.p95_ms == pytest.approx(150)
    assert step.requests == 2 * COUNT


def test_nothing_seen_is_no_hold() -> None:
    empty = after(seen(), 11)
    assert judged(empty).outcome is not HELD


def test_the_warm_up_does_not_count() -> None:
    cold = seen(np.where(np.arange(COUNT) < 200, 500, 20))
    assert judged(cold).outcome is FAILED
    rest = after(cold, 2.0)
    assert (len(rest.ok), rest.duration_s) == (800, 8.0)
    assert judged(rest).outcome is HELD
