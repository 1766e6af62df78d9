from __future__ import annotations

import math

import numpy as np
import pytest
from gate.makers import evidence, judged, outcomes, samples, saturation

from headgate.config import LoadProfile, SloConfig
from headgate.gate import judge
from headgate.records import Generator, Outcome

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


class TestErrorRate:
    @pytest.mark.parametrize(
        ("failed", "expected"), [(10, PASS), (13, INCONCLUSIVE), (18, INCONCLUSIVE), (30, FAIL)]
    )
    def test_outcomes(self, failed: int, expected: Outcome) -> None:
        assert judged(samples(failed=failed))["error_rate"].outcome is expected

    def test_reason(self) -> None:
        check = judged(samples(failed=30))["error_rate"]
        assert check.reason == (
            "30 of 1,000 requests failed (30 x no answer in time); at most 1 % may "
            "(97 % interval 1.79 % to 4.26 %)."
        )
        assert (check.observed, check.limit) == (0.03, 0.01)

    def test_names_the_most_frequent_causes(self) -> None:
        errors = {f"HTTP {500 + kind}": kind for kind in range(1, 9)}
        reason = judged(samples(failed=36, errors=errors))["error_rate"].reason
        assert (
            "(8 x HTTP 508, 7 x HTTP 507, 6 x HTTP 506, 5 x HTTP 505, 4 x HTTP 504, "
            "6 of 3 other kinds)" in reason
        )

    def test_an_early_look_fails_only_what_is_far_beyond(self) -> None:
        early = judged(evidence(samples(failed=22), looks=(0.05,)))
        assert early["error_rate"].outcome is INCONCLUSIVE
        assert judged(samples(failed=22))["error_rate"].outcome is FAIL

    def test_a_clean_quick_run_passes_a_strict_limit(self) -> None:
        """An upper bound of 0.1 % would take 3,700 requests."""
        slo = SloConfig(p95_ms=100, min_rps=50, max_error_rate=0.001)
        assert judged(samples(count=500), slo)["error_rate"].outcome is PASS

    def test_at_the_limit_is_within_it(self) -> None:
        """0.29 * 100 is 28.999999999999996."""
        slo = SloConfig(p95_ms=100, min_rps=50, max_error_rate=0.29)
        few = LoadProfile(min_requests=50)
        assert judged(samples(count=100, failed=29), slo, few)["error_rate"].outcome is PASS
        assert judged(samples(count=100, failed=30), slo, few)["error_rate"].outcome is INCONCLUSIVE

    def test_no_tolerance_forgives_no_error(self) -> None:
        slo = SloConfig(p95_ms=100, min_rps=50, max_error_rate=0)
        assert judged(samples(failed=1), slo)["error_rate"].outcome is FAIL
        assert judged(samples(), slo)["error_rate"].outcome is PASS

    def test_fails_with_however_few_answers(self) -> None:
        assert outcomes(samples(count=50, failed=50)) == {
            "p95": INCONCLUSIVE,
            "throughput": INCONCLUSIVE,
            "error_rate": FAIL,
            "load_time": PASS,
            "parity": INCONCLUSIVE,
        }


class TestParity:
    @pytest.mark.parametrize("count", [1_000, 60])
    def test_one_wrong_answer_fails(self, count: int) -> None:
        check = judged(samples(count=count, wrong=1))["parity"]
        assert check.outcome is FAIL
        assert check.reason == (
            f"1 of {count:,} answers differ from the model as trained; none may."
        )
        assert (check.observed, check.limit, check.samples) == (1, 0, count)

    def test_an_error_is_no_wrong_answer(self) -> None:
        check = judged(samples(failed=5))["parity"]
        assert check.outcome is PASS
        assert check.reason == "All 995 answers are those of the model as trained."

    def test_answers_at_saturation_count(self) -> None:
        profile = LoadProfile(min_requests=200, min_checked=5_000)
        few = judged(evidence(saturated=(saturation(300), None)), profile=profile)["parity"]
        assert few.outcome is INCONCLUSIVE
        assert few.reason == (
            "Whether its answers are those of the model as trained is unknown: "
            "4,600 answers are fewer than the 5,000 that the profile wants compared."
        )
        enough = judged(evidence(saturated=(saturation(400), None)), profile=profile)["parity"]
        assert (enough.outcome, enough.samples) == (PASS, 5_800)
        wrong = evidence(saturated=(saturation(400, wrong=1), None))
        assert judged(wrong, profile=profile)["parity"].outcome is FAIL

    def test_of_several_models_nobody_knows_whose_it_was(self) -> None:
        seen = evidence((samples(), samples(model="n")), saturated=(saturation(400, wrong=2), None))
        slo = SloConfig(p95_ms=100, min_rps=50)
        checks = judge(seen, {"m": slo, "n": slo}, {}, LoadProfile(), max_generator_lateness_ms=20)
        parity = {check.model: check for check in checks if check.name == "parity"}
        assert {model: check.outcome for model, check in parity.items()} == {
            "m": PASS,
            "n": PASS,
            "": FAIL,
        }
        assert parity["m"].samples == 1_000 + 2_400
        assert parity[""].reason == (
            "2 of 4,800 answers at saturation, over all models, differ from the model as trained; "
            "none may."
        )


class TestLoadTime:
    @pytest.mark.parametrize(
        ("took_s", "expected", "reason"),
        [
            (10.0, PASS, "Ready 10.0 s after its start; 10 s are allowed."),
            (10.5, FAIL, "Ready 10.5 s after its start; 10 s are allowed."),
            (math.nan, INCONCLUSIVE, "How long it took to get ready is unknown."),
            (math.inf, INCONCLUSIVE, "How long it took to get ready is unknown."),
        ],
    )
    def test_outcomes(self, took_s: float, expected: Outcome, reason: str) -> None:
        check = judged(evidence(load_time_s=took_s))["load_time"]
        assert (check.outcome, check.reason) == (expected, reason)
        assert (check.samples, check.observed is None) == (
            (0, True) if "unk" in reason else (1, False)
        )

    def test_is_not_asked_of_what_somebody_else_started(self) -> None:
        assert "load_time" not in judged(evidence(load_time_s=None))


class TestMemory:
    SLO = SloConfig(p95_ms=100, min_rps=50, max_memory_mb=1_500)

    @pytest.mark.parametrize(
        ("held_mb", "expected", "reason"),
        [
            (1_500.0, PASS, "It held 1,500 MiB at most; 1,500 MiB are allowed."),
            (1_501.0, FAIL, "It held 1,501 MiB at most; 1,500 MiB are allowed."),
            (math.nan, INCONCLUSIVE, "How much memory it held is unknown."),
        ],
    )
    def test_outcomes(self, held_mb: float, expected: Outcome, reason: str) -> None:
        check = judged(evidence(memory_mb=held_mb), self.SLO)["memory"]
        assert (check.outcome, check.reason, check.unit) == (expected, reason, "MiB")

    def test_only_where_it_is_asked_for_and_known(self) -> None:
        assert "memory" not in judged(evidence(memory_mb=9_000))
        assert "memory" not in judged(evidence(memory_mb=None), self.SLO)


class TestTrust:
    def test_zero_requests(self) -> None:
        checks = judged(samples(count=0))
        assert checks["p95"].reason == (
            "P95 is unknown: no request was sent, and no data never passes."
        )
        del checks["load_time"]  # rests on no request
        assert {check.outcome for check in checks.values()} == {INCONCLUSIVE}
        assert {check.samples for check in checks.values()} == {0}

    def test_a_model_that_was_never_asked(self) -> None:
        slo = SloConfig(p95_ms=100, min_rps=50)
        checks = judge(
            evidence(), {"m": slo, "n": slo}, {}, LoadProfile(), max_generator_lateness_ms=20
        )
        of_n = {check.name: check.outcome for check in checks if check.model == "n"}
        assert of_n["p95"] is of_n["parity"] is of_n["error_rate"] is INCONCLUSIVE

    def test_too_few(self) -> None:
        enough, few = samples(count=200), samples(count=210, failed=11)
        assert set(outcomes(enough).values()) == {PASS}
        reason = "199 answers are fewer than the 200 that the profile asks for"
        for name in ("p95", "throughput", "parity"):
            check = judged(few)[name]
            assert check.outcome is INCONCLUSIVE
            assert check.reason.endswith(f" unknown: {reason}.")

    def test_a_late_generator(self) -> None:
        late_ms = np.zeros(1_000)
        late_ms[:40] = 500.0
        assert set(outcomes(samples(late_ms=late_ms)).values()) == {PASS}
        late_ms[:60] = 30.0
        checks = judged(samples(late_ms=late_ms))
        for name in ("p95", "throughput"):
            assert checks[name].outcome is INCONCLUSIVE
            assert checks[name].reason.endswith(
                "unknown: the load generator itself was 30.0 ms late (P95; 20 ms are allowed)."
            )
        assert {checks[name].outcome for name in ("error_rate", "parity")} == {PASS}

    @pytest.mark.parametrize(("cpu", "words"), [(0.95, "95%"), (math.nan, "nan%")])
    def test_a_busy_generator(self, cpu: float, words: str) -> None:
        checks = judged(evidence(generator=Generator(cpu=cpu)))
        assert checks["p95"].outcome is checks["throughput"].outcome is INCONCLUSIVE
        assert checks["p95"].reason == (
            f"P95 is unknown: the load generator used {words} of its core (90% is allowed)."
        )

    def test_a_slow_release_is_not_blamed_by_a_late_generator(self) -> None:
        assert judged(samples(500.0, late_ms=450.0))["p95"].outcome is INCONCLUSIVE

    def test_times_that_are_no_numbers(self) -> None:
        latency_ms = np.full(1_000, 20.0)
        latency_ms[3] = math.nan
        checks = judged(samples(latency_ms))
        del checks["load_time"]
        assert {check.outcome for check in checks.values()} == {INCONCLUSIVE}
        assert checks["parity"].reason.endswith("1 of the recorded times are not numbers.")
        late_ms = np.zeros(1_000)
        late_ms[:2] = math.nan
        assert judged(samples(late_ms=late_ms))["error_rate"].outcome is INCONCLUSIVE

    def test_what_was_never_sent_is_an_error(self) -> None:
        sent_s = np.arange(1_000) / 100
        sent_s[:30] = math.inf
        assert outcomes(samples(failed=30, sent_s=sent_s))["error_rate"] is FAIL
