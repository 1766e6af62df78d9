from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gate.makers import PROFILE, SLO, evidence, judged, outcomes, samples

from headgate.config import LoadProfile, SloConfig
from headgate.records import Outcome

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def mixed(slow: int, count: int = 1_000, *, slow_ms: float = 250.0, **other: Any) -> Any:
    """So many slow requests among quick ones, evenly spread."""
    latency_ms = np.full(count, 20.0)
    latency_ms[np.linspace(0, count - 1, slow).astype(int)] = slow_ms
    return samples(latency_ms, count=count, **other)


class TestP95:
    def test_fails_where_the_whole_interval_is_beyond_the_limit(self) -> None:
        check = judged(mixed(100))["p95"]
        assert check.outcome is FAIL
        assert check.reason == (
            "P95 250 ms is over the limit of 100 ms "
            "(97 % interval 250 ms to 250 ms, 1,000 requests)."
        )
        assert (check.observed, check.limit, check.unit) == (250, 100, "ms")

    @pytest.mark.parametrize("slow", [60, 40])
    def test_near_the_limit_is_inconclusive(self, slow: int) -> None:
        """Observed above with 6 % slow, below with 4 %; neither is shown by 1,000 requests."""
        check = judged(mixed(slow))["p95"]
        assert check.outcome is INCONCLUSIVE
        observed = "250 ms" if slow == 60 else "20.0 ms"
        assert check.reason == (
            f"P95 {observed} is too near to the limit of 100 ms to tell "
            "(97 % interval 20.0 ms to 250 ms, 1,000 requests): measure longer."
        )
        assert check.interval == (20, 250)

    def test_ten_times_the_data_tells(self) -> None:
        assert judged(mixed(600, 10_000))["p95"].outcome is FAIL
        assert judged(mixed(400, 10_000))["p95"].outcome is PASS

    def test_slow_requests_that_come_together_tell_less(self) -> None:
        """Ten times the data again, but all slow requests in two of fifty blocks."""
        latency_ms = np.full(10_000, 20.0)
        latency_ms[1_000:1_350] = 250.0
        assert judged(samples(latency_ms, count=10_000))["p95"].outcome is INCONCLUSIVE

    def test_all_far_below_the_limit_passes_on_few_however_noisy(self) -> None:
        latency_ms = np.repeat([20.0, 60.0, 20.0], [200, 100, 200])
        assert judged(samples(latency_ms, count=500))["p95"].outcome is PASS

    def test_more_looks_ask_for_more(self) -> None:
        once, often = (
            judged(evidence(mixed(30, 1_000), looks=looks))["p95"]
            for looks in ((1.0,), (0.1, 0.11, 0.12))
        )
        assert (once.outcome, often.outcome) == (PASS, INCONCLUSIVE)

    def test_a_request_without_an_answer_takes_for_ever(self) -> None:
        check = judged(samples(ok=np.arange(1_000) % 10 > 0))["p95"]
        assert check.outcome is FAIL
        assert check.reason == (
            "P95 is over the limit of 100 ms (100 of 1,000 requests had no right answer)."
        )
        assert (check.observed, check.interval) == (None, None)

    def test_a_quick_error_is_no_quick_answer(self) -> None:
        quick_s = np.full(1_000, 0.001)
        checks = judged(samples(ok=np.arange(1_000) % 10 > 0, latency_s=quick_s))
        assert checks["p95"].outcome is checks["throughput"].outcome is FAIL
        assert checks["throughput"].observed == pytest.approx(90)

    def test_an_open_end_is_said(self) -> None:
        check = judged(samples(count=60), profile=LoadProfile(min_requests=50))["p95"]
        assert check.outcome is INCONCLUSIVE
        assert "(97 % interval 20.0 ms upwards, 60 requests)" in check.reason

    def test_no_end_at_all_is_said(self) -> None:
        check = judged(samples(count=20), profile=LoadProfile(min_requests=1))["p95"]
        assert check.outcome is INCONCLUSIVE
        assert "(97 % interval 20.0 ms upwards, 20 requests)" in check.reason
        again = judged(
            evidence(samples(count=20), looks=(0.5, 0.5)), profile=LoadProfile(min_requests=1)
        )["p95"]
        assert "(no interval yet, 20 requests)" in again.reason

    def test_at_the_limit_is_within_it(self) -> None:
        assert judged(samples(125.0), SloConfig(p95_ms=125, min_rps=50))["p95"].outcome is PASS

    def test_the_generators_own_lateness_fails_nobody(self) -> None:
        late = judged(samples(110.0, late_ms=15.0))["p95"]
        assert late.outcome is INCONCLUSIVE
        assert "P95 110 ms is too near" in late.reason
        assert judged(samples(116.0, late_ms=15.0))["p95"].outcome is FAIL


class TestP99:
    SLO = SloConfig(p95_ms=100, p99_ms=200, min_rps=50)

    def test_only_where_it_is_asked_for(self) -> None:
        assert "p99" not in judged(samples())
        check = judged(samples(), self.SLO)["p99"]
        assert check.outcome is PASS
        assert check.reason == (
            "P99 20.0 ms is within the limit of 200 ms "
            "(97 % interval 20.0 ms to 20.0 ms, 1,000 requests)."
        )

    def test_what_p95_does_not_see(self) -> None:
        checks = judged(mixed(30), self.SLO)
        assert (checks["p95"].outcome, checks["p99"].outcome) == (PASS, FAIL)


class TestThroughput:
    def test_fails_where_a_queue_grows(self) -> None:
        growing_ms = np.arange(1_000) * 5.0
        check = judged(samples(growing_ms), SloConfig(p95_ms=1_000, min_rps=50))["throughput"]
        assert check.outcome is FAIL
        assert check.reason == (
            "60.2 requests/s were answered in time of 100.0 offered "
            "(60.2 % of 1,000 requests; 99 % must be)."
        )
        assert check.observed == pytest.approx(60.2)

    def test_late_is_after_its_own_block(self) -> None:
        """A queue that outlasts a block does so in every block, not only in the last."""
        within = np.arange(1_000) % 200
        growing_ms = np.maximum(0.0, (within - 100) * 20.0) + 20
        slo = SloConfig(p95_ms=500, min_rps=50)
        assert judged(samples(growing_ms), slo)["throughput"].outcome is FAIL

    def test_a_promise_of_long_latencies_is_no_trap(self) -> None:
        """P95 as promised, a second: what ends two seconds after its block is in time."""
        late_ms = np.where(np.arange(1_000) % 25 == 24, 1_500.0, 900.0)
        checks = judged(samples(late_ms), SloConfig(p95_ms=1_000, min_rps=50))
        assert checks["throughput"].outcome is PASS

    def test_near_is_inconclusive(self) -> None:
        def spread(failed: int) -> Outcome:
            ok = np.ones(1_000, dtype=bool)
            ok[np.linspace(0, 999, failed).astype(int)] = False
            return outcomes(samples(ok=ok))["throughput"]

        assert [spread(10), spread(15), spread(40)] == [PASS, INCONCLUSIVE, FAIL]

    def test_near_is_said(self) -> None:
        check = judged(samples(failed=15))["throughput"]
        assert check.reason.endswith("; too near to tell: measure longer.")

    def test_one_bad_moment_is_no_fail(self) -> None:
        """Three per cent not in time, but all at once."""
        assert judged(samples(failed=30))["throughput"].outcome is INCONCLUSIVE

    def test_a_rate_that_was_not_offered_is_not_shown(self) -> None:
        check = judged(samples(), SloConfig(p95_ms=100, min_rps=150))["throughput"]
        assert check.outcome is INCONCLUSIVE
        assert check.reason.endswith("but the limit is 150 requests/s: offer more.")
        assert judged(samples(), SloConfig(p95_ms=100, min_rps=100))["throughput"].outcome is PASS

    @pytest.mark.parametrize("duration_s", [0.0, -1.0, math.nan])
    def test_no_time_is_no_rate(self, duration_s: float) -> None:
        assert judged(samples(duration_s=duration_s))["throughput"].outcome is not PASS


def test_the_makers_are_as_they_say() -> None:
    assert set(outcomes(samples(), slo=SLO, profile=PROFILE).values()) == {PASS}
