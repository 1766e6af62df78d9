from __future__ import annotations

import dataclasses
import datetime as dt
import math

import msgspec
import numpy as np
import pytest
from gate.makers import judged, outcomes, samples
from hypothesis import given
from hypothesis import strategies as st

from headgate.config import LoadProfile, SloConfig
from headgate.gate import conclude, judge
from headgate.records import Check, Outcome, Release, Samples, Verdict

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
NAMES = ("p95", "throughput", "error_rate", "load_time", "parity")
RELEASE = Release(tag="headgate:1", digest="sha256:1", models=())
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def test_a_healthy_release_passes_every_check() -> None:
    checks = judged(samples())
    assert tuple(checks) == NAMES
    assert {name: check.reason for name, check in checks.items()} == {
        "p95": (
            "P95 20.0 ms is within the limit of 100 ms "
            "(95 % interval 20.0 ms to 20.0 ms, 1,000 requests)."
        ),
        "throughput": (
            "100.0 requests/s were answered in time of 100.0 offered "
            "(100 % of 1,000 requests; 99 % must be); 50 requests/s are required."
        ),
        "error_rate": (
            "0 of 1,000 requests failed; at most 1 % may (95 % interval 0 % to 0.368 %)."
        ),
        "load_time": "Ready 2.0 s after its start; 10 s are allowed.",
        "parity": "All 1,000 answers are those of the model as trained.",
    }
    assert {check.outcome for check in checks.values()} == {PASS}
    assert {check.model for check in checks.values()} == {"m"}
    assert [check.samples for check in checks.values()] == [1_000, 1_000, 1_000, 1, 1_000]
    assert checks["p95"].interval == pytest.approx((20, 20))
    assert checks["throughput"].observed == pytest.approx(100)
    assert checks["error_rate"].interval == pytest.approx((0, 0.003682), abs=1e-6)


class TestP95:
    def test_fails_where_the_whole_interval_is_beyond_the_limit(self) -> None:
        check = judged(samples([20] * 900 + [250] * 100))["p95"]
        assert check.outcome is FAIL
        assert check.reason == (
            "P95 250 ms is over the limit of 100 ms "
            "(95 % interval 250 ms to 250 ms, 1,000 requests)."
        )
        assert (check.observed, check.limit, check.unit) == (250, 100, "ms")

    @pytest.mark.parametrize("slow", [60, 40])
    def test_near_the_limit_is_inconclusive(self, slow: int) -> None:
        """Observed above with 6 % slow, below with 4 %; neither is shown by 1,000 requests."""
        check = judged(samples([20] * (1_000 - slow) + [250] * slow))["p95"]
        assert check.outcome is INCONCLUSIVE
        observed = "250 ms" if slow == 60 else "20.0 ms"
        assert check.reason == (
            f"P95 {observed} is too near to the limit of 100 ms to tell "
            "(95 % interval 20.0 ms to 250 ms, 1,000 requests): measure longer."
        )
        assert check.interval == (20, 250)

    def test_ten_times_the_data_tells(self) -> None:
        assert judged(samples([20] * 9_400 + [250] * 600, count=10_000))["p95"].outcome is FAIL
        assert judged(samples([20] * 9_600 + [250] * 400, count=10_000))["p95"].outcome is PASS

    def test_a_request_without_an_answer_takes_for_ever(self) -> None:
        check = judged(samples(failed=100))["p95"]
        assert check.outcome is FAIL
        assert check.reason == (
            "P95 is over the limit of 100 ms (100 of 1,000 requests had no right answer)."
        )
        assert (check.observed, check.interval) == (None, None)

    def test_a_quick_error_is_no_quick_answer(self) -> None:
        quick_s = np.full(1_000, 0.001)
        checks = judged(samples(failed=100, latency_s=quick_s))
        assert checks["p95"].outcome is checks["throughput"].outcome is FAIL
        assert checks["throughput"].observed == pytest.approx(90)

    def test_an_open_end_is_said(self) -> None:
        check = judged(samples(count=60), profile=LoadProfile(min_requests=50))["p95"]
        assert check.outcome is INCONCLUSIVE
        assert "(95 % interval 20.0 ms upwards, 60 requests)" in check.reason

    def test_at_the_limit_is_within_it(self) -> None:
        assert judged(samples(125.0), SloConfig(p95_ms=125, min_rps=50))["p95"].outcome is PASS

    def test_the_generators_own_lateness_fails_nobody(self) -> None:
        late = judged(samples(110.0, late_ms=15.0))["p95"]
        assert late.outcome is INCONCLUSIVE
        assert "P95 110 ms is too near" in late.reason
        assert judged(samples(116.0, late_ms=15.0))["p95"].outcome is FAIL


class TestThroughput:
    def test_fails_where_a_queue_grows(self) -> None:
        growing_ms = np.arange(1_000) * 5.0
        check = judged(samples(growing_ms), SloConfig(p95_ms=1_000, min_rps=50))["throughput"]
        assert check.outcome is FAIL
        assert check.reason == (
            "73.4 requests/s were answered in time of 100.0 offered "
            "(73.4 % of 1,000 requests; 99 % must be)."
        )
        assert check.observed == pytest.approx(73.4)

    def test_near_is_inconclusive(self) -> None:
        check = judged(samples(failed=15))["throughput"]
        assert check.outcome is INCONCLUSIVE
        assert check.reason.endswith("; too near to tell: measure longer.")
        assert judged(samples(failed=10))["throughput"].outcome is PASS
        assert judged(samples(failed=30))["throughput"].outcome is FAIL

    def test_a_rate_that_was_not_offered_is_not_shown(self) -> None:
        check = judged(samples(), SloConfig(p95_ms=100, min_rps=150))["throughput"]
        assert check.outcome is INCONCLUSIVE
        assert check.reason.endswith("but the limit is 150 requests/s: offer more.")
        assert judged(samples(), SloConfig(p95_ms=100, min_rps=100))["throughput"].outcome is PASS

    @pytest.mark.parametrize("duration_s", [0.0, -1.0, math.nan])
    def test_no_time_is_no_rate(self, duration_s: float) -> None:
        assert judged(samples(duration_s=duration_s))["throughput"].outcome is not PASS


class TestErrorRate:
    @pytest.mark.parametrize(("failed", "expected"), [(10, PASS), (13, INCONCLUSIVE), (30, FAIL)])
    def test_outcomes(self, failed: int, expected: Outcome) -> None:
        assert judged(samples(failed=failed))["error_rate"].outcome is expected

    def test_reason(self) -> None:
        check = judged(samples(failed=30))["error_rate"]
        assert check.reason == (
            "30 of 1,000 requests failed (30 x no answer in time); at most 1 % may "
            "(95 % interval 2.03 % to 4.26 %)."
        )
        assert (check.observed, check.limit) == (0.03, 0.01)

    def test_names_the_most_frequent_causes(self) -> None:
        errors = {f"HTTP {500 + kind}": kind for kind in range(1, 9)}
        reason = judged(samples(failed=36, errors=errors))["error_rate"].reason
        assert (
            "(8 x HTTP 508, 7 x HTTP 507, 6 x HTTP 506, 5 x HTTP 505, 4 x HTTP 504, "
            "6 of 3 other kinds)" in reason
        )

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
        check = judged(samples(load_time_s=took_s))["load_time"]
        assert (check.outcome, check.reason) == (expected, reason)
        assert (check.samples, check.observed is None) == (
            (0, True) if "unk" in reason else (1, False)
        )


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


class TestNothingGoodFromBadData:
    def test_zero_requests(self) -> None:
        checks = judged(samples(count=0))
        assert checks["p95"].reason == (
            "P95 is unknown: no request was sent, and no data never passes."
        )
        del checks["load_time"]  # rests on no request
        assert {check.outcome for check in checks.values()} == {INCONCLUSIVE}
        assert {check.samples for check in checks.values()} == {0}

    def test_too_few(self) -> None:
        enough, few = samples(count=200), samples(count=210, failed=11)
        assert set(outcomes(enough).values()) == {PASS}
        reason = "199 answers are fewer than the 200 that the profile asks for"
        for name in {*NAMES} - {"load_time", "error_rate"}:
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
        checks = judged(samples(generator_cpu=cpu))
        assert checks["p95"].outcome is checks["throughput"].outcome is INCONCLUSIVE
        assert checks["p95"].reason == (
            f"P95 is unknown: the load generator used {words} of its core (90% is allowed)."
        )

    def test_a_slow_release_is_not_blamed_by_a_late_generator(self) -> None:
        assert judged(samples(500.0, late_ms=450.0))["p95"].outcome is INCONCLUSIVE
        assert judged(samples(500.0, generator_cpu=1.0))["p95"].outcome is INCONCLUSIVE

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


TIMES = st.floats(width=64) | st.floats(0, 1)
REQUESTS = st.lists(st.tuples(TIMES, TIMES, TIMES, st.booleans(), st.booleans()), max_size=40)


@st.composite
def anything(draw: st.DrawFn) -> Samples:
    requests = draw(REQUESTS)
    some_ok = draw(st.booleans())
    columns = list(zip(*requests, strict=True)) or [()] * 5
    ok = np.array(columns[3], dtype=bool) & some_ok
    return Samples(
        model="m",
        release="r:1",
        intended_s=np.array(columns[0], dtype=float),
        sent_s=np.array(columns[1], dtype=float),
        latency_s=np.array(columns[2], dtype=float),
        ok=ok,
        matched=np.array(columns[4], dtype=bool),
        rows=np.ones(len(requests), dtype=np.int64),
        duration_s=draw(st.floats(1e-3) | st.sampled_from([0.0, -1.0, math.nan])),
        load_time_s=draw(TIMES),
        errors=draw(st.dictionaries(st.text(), st.integers(0, 10), max_size=8)),
        generator_cpu=draw(TIMES),
    )


POSITIVE = st.floats(1e-6, 1e6)
SLOS = st.builds(
    SloConfig,
    p95_ms=POSITIVE | st.just(math.inf),
    min_rps=POSITIVE,
    max_error_rate=st.floats(0, 1),
    max_load_s=POSITIVE | st.just(math.inf),
)
PROFILES = st.builds(LoadProfile, min_requests=st.integers(1, 20))


@given(anything(), SLOS, PROFILES, POSITIVE)
def test_whatever_was_measured_there_is_a_verdict_and_no_data_never_passes(
    measured: Samples, slo: SloConfig, profile: LoadProfile, lateness_ms: float
) -> None:
    checks = judge(measured, slo, profile, max_generator_lateness_ms=lateness_ms)
    assert tuple(check.name for check in checks) == NAMES
    assert all(check.reason for check in checks)
    verdict = conclude(RELEASE, checks, "quick", NOW)
    if not measured.ok.any():
        assert verdict.outcome is not PASS
        assert {check.name for check in checks if check.outcome is PASS} <= {"load_time"}
    if measured.ok.sum() < profile.min_requests:
        assert verdict.outcome is not PASS
    if (measured.ok & ~measured.matched).any():
        assert verdict.outcome is FAIL
    # It goes into the registry and has to come back.
    decoded = msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict)
    assert decoded.outcome is verdict.outcome
    assert decoded.reason == verdict.reason


@given(anything(), SLOS, PROFILES, st.floats(0, 10))
def test_slower_answers_are_never_judged_better(
    measured: Samples, slo: SloConfig, profile: LoadProfile, delay_s: float
) -> None:
    slower = dataclasses.replace(measured, latency_s=measured.latency_s + delay_s)
    before, after = (
        outcomes(measured, slo=slo, profile=profile),
        outcomes(slower, slo=slo, profile=profile),
    )
    badness = [PASS, INCONCLUSIVE, FAIL].index
    for name in NAMES:
        assert badness(after[name]) >= badness(before[name])


def conclusion(*wanted: tuple[str, Outcome], model: str = "m", seen: int = 500) -> Verdict:
    checks = [
        Check(name=name, model=model, outcome=outcome, reason=f"{name} says so.", samples=seen)
        for name, outcome in wanted
    ]
    return conclude(RELEASE, checks, "quick", NOW)


class TestConclude:
    def test_pass_only_if_all_pass(self) -> None:
        verdict = conclusion(("p95", PASS), ("parity", PASS))
        assert verdict.outcome is PASS
        assert verdict.reason == "All 2 checks passed on 500 requests."
        assert (verdict.release, verdict.digest) == (RELEASE.tag, RELEASE.digest)
        assert (verdict.profile, verdict.at) == ("quick", NOW)
        assert [check.name for check in verdict.checks] == ["p95", "parity"]

    def test_one_inconclusive_check_is_enough(self) -> None:
        verdict = conclusion(("p95", PASS), ("parity", INCONCLUSIVE), ("load_time", PASS))
        assert verdict.outcome is INCONCLUSIVE
        assert verdict.reason == "m: parity says so."

    def test_a_fail_goes_before_everything(self) -> None:
        verdict = conclusion(
            ("throughput", INCONCLUSIVE), ("p95", FAIL), ("load_time", PASS), ("parity", FAIL)
        )
        assert verdict.outcome is FAIL
        assert verdict.reason == "m: p95 says so. m: parity says so."

    def test_a_check_of_the_whole_release_names_no_model(self) -> None:
        assert conclusion(("serving", FAIL), model="").reason == "serving says so."

    def test_nothing_checked_is_no_pass(self) -> None:
        verdict = conclude(RELEASE, (), "quick", NOW)
        assert verdict.outcome is INCONCLUSIVE
        assert verdict.reason == "Nothing was checked, and no data never passes."
        assert verdict.samples == 0

    def test_counts_each_models_requests_once(self) -> None:
        checks = (*judged(samples()).values(), *judged(samples(count=300, model="n")).values())
        verdict = conclude(RELEASE, checks, "quick", NOW)
        assert verdict.samples == 1_300
        assert verdict.reason == "All 10 checks passed on 1,300 requests."
        assert conclude(RELEASE, [checks[3]], "quick", NOW).samples == 1
