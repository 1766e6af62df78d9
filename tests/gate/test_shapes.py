from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gate.makers import evidence, judged, outcomes, samples, scattered

from headgate.config import LoadProfile, SloConfig
from headgate.records import Check, Evidence, Outcome, Samples

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
SPIKE = LoadProfile(shape="spike", min_requests=200)
RAMP = LoadProfile(shape="ramp", min_requests=200)
SOAK = LoadProfile(shape="soak", min_requests=200)


def spiked(after_ms: npt.ArrayLike, *, during_ms: float = 500.0, **other: Any) -> Evidence:
    """Eight calm seconds, eight of the peak, and what comes then, 100 requests/s."""
    latency_ms = np.concatenate((np.full(800, 20.0), np.full(800, during_ms), after_ms))
    return evidence(samples(latency_ms, count=len(latency_ms), **other), peak=(8.0, 16.0))


def falling(seconds: float, total: int = 800) -> npt.NDArray[np.float64]:
    """From 500 ms to 20 in so long, then 20."""
    count = int(100 * seconds)
    return np.concatenate((np.linspace(500, 20, count), np.full(total - count, 20.0)))


class TestRecovery:
    def test_says_how_long_it_took(self) -> None:
        checks = judged(spiked(falling(3.0)), profile=SPIKE)
        assert checks["recovery"].outcome is PASS
        # The limit of 100 ms is reached after 2.5 s, and a second may hold five slow requests.
        assert checks["recovery"].reason == (
            "P95 was back within 100 ms 2.4 s after the peak's end (800 requests after it)."
        )
        assert checks["recovery"].observed == pytest.approx(2.45, abs=0.02)
        assert checks["recovery"].unit == "s"

    def test_the_promise_holds_for_all_but_the_peak_and_the_recovery(self) -> None:
        checks = judged(spiked(falling(3.0)), profile=SPIKE)
        assert {check.outcome for check in checks.values()} == {PASS}
        assert checks["p95"].samples == checks["throughput"].samples == 1_355
        assert checks["throughput"].observed == pytest.approx(100, rel=0.01)
        steady = judged(spiked(falling(3.0)), profile=LoadProfile(min_requests=200))
        assert steady["p95"].outcome is FAIL

    def test_slow_again_afterwards_is_seen_by_p95(self) -> None:
        after = falling(1.0)
        after[300:] = 300.0
        checks = judged(spiked(after), profile=SPIKE)
        assert (checks["recovery"].outcome, checks["p95"].outcome) == (PASS, FAIL)

    def test_never(self) -> None:
        check = judged(spiked(np.full(800, 300.0)), profile=SPIKE)["recovery"]
        assert check.outcome is FAIL
        assert check.reason == (
            "P95 did not come back within 100 ms in the 8.0 s measured after the peak's end "
            "(800 requests)."
        )
        assert check.observed is None

    def test_at_once(self) -> None:
        check = judged(spiked(np.full(800, 20.0)), profile=SPIKE)["recovery"]
        assert check.outcome is PASS
        assert check.reason == (
            "P95 was within 100 ms as soon as the peak ended (800 requests after it)."
        )

    @pytest.mark.parametrize("peak", [None, (8.0, 99.0), (float("nan"), float("nan"))])
    def test_nothing_measured_after_it(self, peak: tuple[float, float] | None) -> None:
        check = judged(evidence(samples(), peak=peak), profile=SPIKE)["recovery"]
        assert check.outcome is INCONCLUSIVE
        assert check.reason == (
            "How long it takes to recover from a peak is unknown: "
            "nothing was measured after the peak."
        )

    @pytest.mark.parametrize(
        ("cause", "expected"),
        [
            ("HTTP 429 (the queue is full)", PASS),
            ("HTTP 503", PASS),
            ("HTTP 500", FAIL),
            ("no answer in time", FAIL),
        ],
    )
    def test_refusals_at_the_peak_are_right_and_errors_are_not(
        self, cause: str, expected: Outcome
    ) -> None:
        ok = np.ones(2_400, dtype=bool)
        ok[1_000:1_300] = False
        checks = judged(spiked(np.full(800, 20.0), ok=ok, errors={cause: 300}), profile=SPIKE)
        assert checks["error_rate"].outcome is expected
        if expected is PASS:
            assert "300 refusals at the peak not counted" in checks["error_rate"].reason
            assert checks["error_rate"].samples == 2_100

    def test_refusals_of_calm_traffic_are_errors(self) -> None:
        ok = np.ones(2_400, dtype=bool)
        ok[100:400] = False
        checks = judged(spiked(np.full(800, 20.0), ok=ok, errors={"HTTP 429": 300}), profile=SPIKE)
        assert checks["error_rate"].outcome is FAIL


def ramped(left_at: int, *, dips: tuple[int, ...] = (), **other: Any) -> Samples:
    """Blocks of 2 s with 50, 100 … 500 requests/s, slow from block ``left_at`` on."""
    sizes = np.array([100, 200, 300, 400, 500, 600, 700, 800, 900, 1_000])
    block = np.repeat(np.arange(10), sizes)
    slow = (block >= left_at) | np.isin(block, dips)
    return samples(
        np.where(slow, 900.0, 20.0),
        count=len(block),
        block=block,
        intended_s=np.concatenate(
            [2 * number + np.arange(size) * 2 / size for number, size in enumerate(sizes)]
        ),
        duration_s=20.0,
        **other,
    )


class TestRamp:
    SLO = SloConfig(p95_ms=100, min_rps=120)

    def check(self, measured: Samples) -> Check:
        return judged(measured, self.SLO, RAMP)["ramp"]

    def test_says_where_it_was_left(self) -> None:
        check = self.check(ramped(6))
        assert check.outcome is PASS
        assert check.reason == (
            "P95 left 100 ms for good at 350 requests/s, where it was 900 ms; 120 requests/s are "
            "required (5,500 requests in 10 blocks)."
        )
        assert (check.observed, check.limit) == (300, 120)

    def test_held_to_the_end(self) -> None:
        check = self.check(ramped(10))
        assert check.outcome is PASS
        assert check.reason == (
            "P95 stayed within 100 ms up to 483 requests/s, the end of the ramp "
            "(5,500 requests in 10 blocks)."
        )

    @pytest.mark.parametrize(("left_at", "expected"), [(0, FAIL), (1, FAIL), (3, PASS)])
    def test_fails_only_below_what_is_required(self, left_at: int, expected: Outcome) -> None:
        assert self.check(ramped(left_at)).outcome is expected

    def test_a_moment_is_not_the_end(self) -> None:
        assert self.check(ramped(10, dips=(1, 2))).observed == pytest.approx(483, abs=1)

    def test_its_own_question_stands_for_those_of_latency(self) -> None:
        checks = judged(ramped(6), self.SLO, RAMP)
        assert list(checks) == ["error_rate", "load_time", "parity", "ramp"]

    def test_refusals_beyond_what_is_required_are_right(self) -> None:
        ok = np.arange(5_500) < 4_000
        wanted = outcomes(ramped(10, ok=ok, errors={"HTTP 429": 1_500}), slo=self.SLO, profile=RAMP)
        assert (wanted["error_rate"], wanted["ramp"]) == (PASS, PASS)
        ok = np.arange(5_500) >= 100
        early = outcomes(ramped(10, ok=ok, errors={"HTTP 429": 100}), slo=self.SLO, profile=RAMP)
        assert early["error_rate"] is FAIL

    def test_too_little(self) -> None:
        check = judged(samples(count=20), self.SLO, RAMP)["ramp"]
        assert check.outcome is INCONCLUSIVE
        assert judged(samples(count=0), self.SLO, RAMP)["ramp"].outcome is INCONCLUSIVE


class TestDriftOverTime:
    def rising(self, by: float, **other: Any) -> Check:
        level = np.repeat(np.linspace(1, 1 + by, 40), 200)
        flat = scattered(rounds=40)
        latency_ms = 1000 * flat.latency_s * level
        return judged(samples(latency_ms, count=8_000, **other), profile=SOAK)["drift_over_time"]

    def test_flat(self) -> None:
        check = self.rising(0.0)
        assert check.outcome is PASS
        assert check.reason.startswith("P95 changed by ")
        assert "from begin to end; 10 % may be (97 % interval -" in check.reason

    def test_a_leak(self) -> None:
        check = self.rising(1.0)
        assert check.outcome is FAIL
        assert check.observed == pytest.approx(1.0, abs=0.15)
        assert check.interval is not None
        assert check.interval[0] > 0.1

    def test_too_near(self) -> None:
        check = self.rising(0.11)
        assert check.outcome is INCONCLUSIVE
        assert check.reason.endswith(": measure longer.")

    def test_a_bad_spell_is_no_leak(self) -> None:
        latency_ms = 1000 * scattered(rounds=40).latency_s
        latency_ms[6_000:7_000] *= 4
        measured = samples(latency_ms, count=8_000)
        assert judged(measured, profile=SOAK)["drift_over_time"].outcome is PASS

    def test_hours_are_joined(self) -> None:
        """A thousand blocks make half a million pairs, and a day far more."""
        measured = scattered(rounds=1_000)
        check = judged(measured, profile=SOAK)["drift_over_time"]
        assert (check.outcome, check.samples) == (PASS, 200_000)

    def test_few_blocks_show_no_trend(self) -> None:
        check = judged(scattered(rounds=9), profile=SOAK)["drift_over_time"]
        assert check.outcome is INCONCLUSIVE
        assert check.reason == "Whether P95 rises over time is unknown: 9 blocks show no trend."

    def test_without_answers_it_is_open(self) -> None:
        never = self.rising(0.0, ok=np.zeros(8_000, dtype=bool))
        assert never.outcome is INCONCLUSIVE
