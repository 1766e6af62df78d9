"""What Prometheus is told: all of it, under labels that nobody can grow."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import typing

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictor.factory import make_bundle
from prometheus_client.multiprocess import MultiProcessCollector
from serving.asgi import metric
from serving.workers import bundle_at

from headgate.serving.metrics import (
    ModelMetrics,
    Outcome,
    ServingMetrics,
    SurfaceMetrics,
    latency_bounds,
)
from headgate.serving.tally import Bins, Count

TENSOR = "breast-cancer"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def metrics(root):
    with bundle_at(root) as bundle:
        yield ServingMetrics(bundle.models, "r:1")


@given(st.lists(st.floats(0.01, 60), max_size=4))
def test_buckets_are_fine_round_each_target(targets):
    bounds = latency_bounds(targets)
    assert list(bounds) == sorted(set(bounds))
    assert bounds[0] == 1e-4 or min(targets) < 2e-4
    for target in targets:
        # A quantile read at the target is off by a tenth of it at most.
        below = max(bound for bound in bounds if bound < target * 0.999)
        at = min(bounds, key=lambda bound: abs(bound - target))
        above = min(bound for bound in bounds if bound > target * 1.001)
        assert at == pytest.approx(target, rel=1e-3)
        assert below >= 0.89 * target
        assert above <= 1.11 * target


def histogram(bounds):
    return prometheus_client.Histogram("x", "x", buckets=bounds, registry=None)


def samples(collector):
    return {(s.name, *s.labels.items()): s.value for m in collector.collect() for s in m.samples}


@given(
    st.lists(st.one_of(st.floats(0, 20), st.sampled_from([0.1, 1.0, 10.0]))),
    st.integers(1, 4),
)
def test_bins_say_what_the_histogram_itself_would(values, every):
    bounds = (0.1, 1.0, 10.0)
    itself, through = histogram(bounds), histogram(bounds)
    bins = Bins(through, bounds)
    for number, value in enumerate(values):
        itself.observe(value)
        bins.observe(value)
        if number % every == 0:
            bins.flush()
    bins.flush()
    bins.flush()
    expected, told = samples(itself), samples(through)
    created = [key for key in expected if key[0] == "x_created"]
    for key in created:
        del expected[key], told[key]
    assert told == pytest.approx(expected)


def test_a_count_is_carried_over_once():
    counter = prometheus_client.Counter("x", "x", registry=None)
    count = Count(counter)
    count.flush()
    assert samples(counter)[("x_total",)] == 0
    count.steps += 3
    count.flush()
    count.flush()
    assert samples(counter)[("x_total",)] == 3


def test_requests_by_what_became_of_them(metrics):
    counts = SurfaceMetrics(metrics, "v1", TENSOR)
    counts.answered(0.002)
    counts.answered(0.004)
    for outcome in typing.get_args(Outcome):
        if outcome != "ok":
            counts.failed(outcome, 1.0)
    assert metric("headgate_requests_total") == 0, "not before it is flushed"
    metrics.flush()
    for outcome in typing.get_args(Outcome):
        found = metric("headgate_requests_total", surface="v1", model=TENSOR, outcome=outcome)
        assert found == (2 if outcome == "ok" else 1), outcome
    all_of_them = 2 + len(typing.get_args(Outcome)) - 1
    assert metric("headgate_request_seconds_count", surface="v1") == all_of_them
    assert metric("headgate_request_seconds_sum") == pytest.approx(all_of_them - 2 + 0.006)
    assert metric("headgate_request_seconds_bucket", le="0.0025") == 1


def test_there_is_no_outcome_beside_the_known_ones(metrics):
    with pytest.raises(KeyError):
        SurfaceMetrics(metrics, "v1", TENSOR).failed("another", 1.0)
    with pytest.raises(KeyError):
        ModelMetrics(metrics, TENSOR).shed("another")


def test_the_parts_of_a_model(metrics):
    counts = ModelMetrics(metrics, TENSOR)
    counts.queue.observe(0.001)
    counts.inference.observe(0.02)
    counts.encode.observe(0.3)
    counts.batch(17, 0.02)
    counts.batch(1, 0.01)
    for cause, times in (("queue_full", 1), ("deadline", 2), ("gone", 3)):
        for _ in range(times):
            counts.shed(cause)
    counts.parity_rows.steps += 16
    counts.parity_mismatches.steps += 2
    counts.queue_rows.set(7)
    counts.load_seconds.set(1.5)
    metrics.flush()
    for phase, seconds in (("queue", 0.001), ("inference", 0.02), ("encode", 0.3)):
        total = metric("headgate_request_phase_seconds_sum", model=TENSOR, phase=phase)
        assert total == pytest.approx(seconds)
    assert metric("headgate_batch_rows_sum", model=TENSOR) == 18
    assert metric("headgate_batch_rows_bucket", le="16.0") == 1
    assert metric("headgate_batch_rows_bucket", le="32.0") == 2
    assert metric("headgate_batch_seconds_sum", model=TENSOR) == pytest.approx(0.03)
    assert metric("headgate_shed_total", cause="queue_full") == 1
    assert metric("headgate_shed_total", cause="deadline") == 2
    assert metric("headgate_shed_total", cause="gone") == 3
    assert metric("headgate_parity_rows_total") == 16
    assert metric("headgate_parity_mismatches_total") == 2
    assert metric("headgate_queue_rows") == 7
    assert metric("headgate_model_load_seconds") == 1.5


def test_everything_is_told_from_the_first_scrape_on(metrics):
    SurfaceMetrics(metrics, "v1", TENSOR)
    ModelMetrics(metrics, TENSOR)
    metrics.flush()
    text = prometheus_client.generate_latest().decode()
    for line in (
        f'headgate_requests_total{{model="{TENSOR}",outcome="engine",surface="v1"}} 0.0',
        f'headgate_shed_total{{cause="deadline",model="{TENSOR}"}} 0.0',
        f'headgate_parity_mismatches_total{{model="{TENSOR}"}} 0.0',
        f'headgate_request_phase_seconds_count{{model="{TENSOR}",phase="queue"}} 0.0',
    ):
        assert line in text.splitlines(), line


def test_what_is_served_is_told(metrics):
    for name in (TENSOR, "late-flights"):
        assert (
            metric(
                "headgate_model_info",
                model=name,
                version="1",
                run_id="0" * 32,
                digest="sha256:" + "0" * 64,
                engine="onnx",
                release="r:1",
            )
            == 1
        )


WORKER = """
import sys
from pathlib import Path
from headgate.serving.bundle import open_bundle
from headgate.serving.metrics import ModelMetrics, ServingMetrics, SurfaceMetrics

metrics = ServingMetrics(open_bundle(Path(sys.argv[1])).models, "r:1")
counts, model = SurfaceMetrics(metrics, "v1", "breast-cancer"), ModelMetrics(metrics, "breast-cancer")
for _ in range(int(sys.argv[2])):
    counts.answered(0.002)
    model.batch(10, 0.1)
model.queue_rows.set(3)
model.load_seconds.set(float(sys.argv[2]))
metrics.ready.set(1)
metrics.flush()
print("told", flush=True)
sys.stdin.read()
"""


def test_two_workers_add_up_in_one_scrape(root, tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with contextlib.ExitStack() as stack:
        workers = [
            # On leaving it closes their input, which ends them.
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER, str(root), number],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for number in ("2", "5")
        ]
        for worker in workers:
            assert worker.stdout.readline() == "told\n"
        found = {}
        for family in MultiProcessCollector(None, path=str(tmp_path)).collect():
            for sample in family.samples:
                if sample.labels.get("model", TENSOR) == TENSOR:
                    kept = {k: v for k, v in sample.labels.items() if k in {"outcome", "le"}}
                    found[(sample.name, *kept.values())] = sample.value
    assert found[("headgate_requests_total", "ok")] == 7
    assert found[("headgate_request_seconds_count",)] == 7
    assert found[("headgate_request_seconds_bucket", "0.0025")] == 7
    assert found[("headgate_request_seconds_sum",)] == pytest.approx(0.014)
    assert found[("headgate_batch_rows_sum",)] == 70
    assert found[("headgate_queue_rows",)] == 6
    assert found[("headgate_workers_ready",)] == 2
    assert found[("headgate_model_load_seconds",)] == 5
    assert found[("headgate_model_info",)] == 1
