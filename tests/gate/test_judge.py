from __future__ import annotations

import dataclasses
import datetime as dt
import math

import msgspec
import numpy as np
import pytest
from gate.makers import COMPARE, SLO, evidence, judged, outcomes, samples, saturation, scattered
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.config import DemandConfig, LoadProfile, SloConfig
from headgate.gate import conclude, judge, settle
from headgate.records import (
    Check,
    Evidence,
    Generator,
    Outcome,
    Quality,
    Release,
    Samples,
    Saturation,
    Side,
    Verdict,
)

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
NAMES = ("p95", "throughput", "error_rate", "load_time", "parity")
ARRAYS = ("block", "intended_s", "sent_s", "latency_s", "ok", "matched", "rows")
RELEASE = Release(tag="headgate:1", digest="sha256:1", models=())
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def test_a_healthy_release_passes_every_check() -> None:
    checks = judged(samples())
    assert tuple(checks) == NAMES
    assert {name: check.reason for name, check in checks.items()} == {
        "p95": (
            "P95 20.0 ms is within the limit of 100 ms "
            "(97 % interval 20.0 ms to 20.0 ms, 1,000 requests)."
        ),
        "throughput": (
            "100.0 requests/s were answered in time of 100.0 offered "
            "(100 % of 1,000 requests; 99 % must be); 50 requests/s are required."
        ),
        "error_rate": (
            "0 of 1,000 requests failed; at most 1 % may (97 % interval 0 % to 0.368 %)."
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


def test_every_question_there_is() -> None:
    seen = evidence(
        scattered(seed=1),
        scattered(seed=2),
        memory_mb=300,
        saturated=(saturation(500), saturation(500)),
        quality=(Quality(model="m", metric="accuracy", candidate=np.ones(50)),),
    )
    slo = SloConfig(p95_ms=100, p99_ms=200, min_rps=50, max_memory_mb=400)
    assert list(judged(seen, slo, COMPARE)) == [
        "p95",
        "p99",
        "throughput",
        "error_rate",
        "load_time",
        "memory",
        "parity",
        "p95_ratio",
        "quality",
        "throughput_ratio",
    ]


def test_each_model_by_its_own_limits() -> None:
    seen = evidence((samples(), samples(80.0, model="n")))
    slos = {"m": SLO, "n": SloConfig(p95_ms=50, min_rps=50)}
    checks = judge(seen, slos, {}, LoadProfile(), max_generator_lateness_ms=20)
    p95 = {check.model: check.outcome for check in checks if check.name == "p95"}
    assert p95 == {"m": PASS, "n": FAIL}


def test_a_run_that_is_looked_at_again_and_again() -> None:
    """A clear pass is one at some look, and stays one."""
    champion, candidate = scattered(rounds=40, seed=1), scattered(rounds=40, seed=2)
    checks: tuple[Check, ...] = ()
    course = []
    for rounds in range(6, 41):
        upto = slice(0, 200 * rounds)
        mine, theirs = (
            dataclasses.replace(
                side,
                duration_s=2.0 * rounds,
                **{name: getattr(side, name)[upto] for name in ARRAYS},
            )
            for side in (candidate, champion)
        )
        looks = tuple(each / 40 for each in range(6, rounds + 1))
        seen = evidence(mine, theirs, looks=looks)
        checks = settle(checks, tuple(judged(seen, profile=COMPARE).values()))
        course.append({check.name: check.outcome for check in checks}["p95_ratio"])
    assert course[0] is INCONCLUSIVE
    assert course[-1] is PASS
    assert course == sorted(course, key=[INCONCLUSIVE, PASS].index)


TIMES = st.floats(width=64) | st.floats(0, 1)
REQUESTS = st.lists(st.tuples(TIMES, TIMES, TIMES, st.booleans(), st.booleans()), max_size=40)
DURATIONS = st.floats(1e-3) | st.sampled_from([0.0, -1.0, math.nan])


@st.composite
def anything(draw: st.DrawFn) -> Samples:
    requests = draw(REQUESTS)
    some_ok = draw(st.booleans())
    columns = list(zip(*requests, strict=True)) or [()] * 5
    ok = np.array(columns[3], dtype=bool) & some_ok
    block = draw(st.lists(st.integers(0, 9), min_size=len(requests), max_size=len(requests)))
    return Samples(
        model="m",
        release="r:1",
        block=np.array(sorted(block), dtype=np.int64),
        intended_s=np.array(columns[0], dtype=float),
        sent_s=np.array(columns[1], dtype=float),
        latency_s=np.array(columns[2], dtype=float),
        ok=ok,
        matched=np.array(columns[4], dtype=bool),
        rows=np.ones(len(requests), dtype=np.int64),
        duration_s=draw(DURATIONS),
        errors=draw(st.dictionaries(st.text(), st.integers(0, 10), max_size=8)),
    )


@st.composite
def saturations(draw: st.DrawFn) -> Saturation:
    rps = draw(st.lists(TIMES, max_size=12))
    return Saturation(
        block=np.arange(len(rps)),
        rps=np.array(rps, dtype=float),
        answered=draw(st.integers(0, 50)),
        wrong=draw(st.integers(0, 2)),
    )


SCORES = st.lists(TIMES, max_size=8).map(lambda scores: np.array(scores, dtype=float))
QUALITIES = st.builds(
    Quality,
    model=st.just("m"),
    metric=st.sampled_from(["accuracy", "mean absolute error"]),
    candidate=SCORES,
    champion=SCORES | st.none(),
)
SIDES = st.builds(
    Side,
    release=st.just("r"),
    samples=anything().map(lambda seen: (seen,)),
    saturation=saturations() | st.none(),
    load_time_s=TIMES | st.none(),
    memory_mb=TIMES | st.none(),
    paired=st.booleans(),
)
EVIDENCE = st.builds(
    Evidence,
    candidate=SIDES,
    champion=SIDES | st.none(),
    generator=st.builds(Generator, cpu=TIMES, p95_s=TIMES | st.none(), most_rps=TIMES | st.none()),
    quality=st.lists(QUALITIES, max_size=1).map(tuple),
    looks=st.lists(st.floats(0, 1), max_size=3).map(lambda all_: tuple(sorted(all_))),
    peak=st.tuples(TIMES, TIMES) | st.none(),
)
POSITIVE = st.floats(1e-6, 1e6)
SLOS = st.builds(
    SloConfig,
    p95_ms=POSITIVE | st.just(math.inf),
    p99_ms=POSITIVE | st.none(),
    min_rps=POSITIVE,
    max_error_rate=st.floats(0, 1),
    max_load_s=POSITIVE | st.just(math.inf),
    max_memory_mb=POSITIVE | st.none(),
)
PROFILES = st.builds(
    LoadProfile,
    shape=st.sampled_from(["steady", "ramp", "spike", "soak"]),
    compare=st.booleans(),
    min_requests=st.integers(1, 20),
)


@settings(max_examples=300)
@given(EVIDENCE, SLOS, PROFILES, POSITIVE)
def test_whatever_was_measured_there_is_a_verdict_and_no_data_never_passes(
    seen: Evidence, slo: SloConfig, profile: LoadProfile, lateness_ms: float
) -> None:
    checks = judge(
        seen,
        {"m": slo},
        {"m": DemandConfig(max_quality_loss=0.1)},
        profile,
        max_generator_lateness_ms=lateness_ms,
    )
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    assert {"error_rate", "parity"} <= {*names}
    assert all(check.reason for check in checks)
    verdict = conclude(RELEASE, checks, "quick", NOW)
    measured = seen.candidate.samples[0]
    if not measured.ok.any():
        assert verdict.outcome is not PASS
        rest = {"load_time", "memory", "quality", "throughput_ratio"}
        assert {check.name for check in checks if check.outcome is PASS} <= rest
    if measured.ok.sum() < profile.min_requests:
        assert verdict.outcome is not PASS
    saturated = seen.candidate.saturation
    if (measured.ok & ~measured.matched).any() or (saturated and saturated.wrong):
        assert verdict.outcome is FAIL
    # It goes into the registry and has to come back.
    decoded = msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict)
    assert decoded.outcome is verdict.outcome
    assert decoded.reason == verdict.reason


@given(anything(), SLOS, st.integers(1, 20), st.floats(0, 10))
def test_slower_answers_are_never_judged_better(
    measured: Samples, slo: SloConfig, least: int, delay_s: float
) -> None:
    profile = LoadProfile(min_requests=least)
    slower = dataclasses.replace(measured, latency_s=measured.latency_s + delay_s)
    before, after = (
        outcomes(evidence(each), slo=slo, profile=profile) for each in (measured, slower)
    )
    badness = [PASS, INCONCLUSIVE, FAIL].index
    for name in NAMES:
        assert badness(after[name]) >= badness(before[name])
