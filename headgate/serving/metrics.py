"""What a worker tells Prometheus, on the same ``/metrics`` as BentoML's own.

Every label has a bounded set of values: the surfaces, the models, the fixed outcomes and phases.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from headgate.serving.tally import Bins, Count

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from headgate.serving.bundle import PackagedModel

__all__ = ["ModelMetrics", "Outcome", "ServingMetrics", "SurfaceMetrics", "latency_bounds"]

Outcome = Literal[
    "ok",
    "input",
    "too_large",
    "media_type",
    "method",
    "unknown",
    "overload",
    "deadline",
    "engine",
    "gone",
    "internal",
]
"""What became of a request: answered; refused for its content, size, type, method or path; shed
because too much was waiting or its deadline was (about to be) missed; failed by the engine;
abandoned by its client; failed by a fault of ours."""

_OUTCOMES: tuple[Outcome, ...] = (
    "ok",
    "input",
    "too_large",
    "media_type",
    "method",
    "unknown",
    "overload",
    "deadline",
    "engine",
    "gone",
    "internal",
)
_PHASES = ("queue", "inference", "encode")
_SHED = ("queue_full", "deadline", "gone")
_SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    10,
)
_AROUND = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


def latency_bounds(targets_s: Iterable[float]) -> tuple[float, ...]:
    """Upper bounds of the latency buckets, seconds: coarse ones, and fine ones round each target.

    Fine ones because a quantile read from a histogram is off by up to the width of its bucket.
    """
    fine = {float(f"{target * factor:.4g}") for target in targets_s for factor in _AROUND}
    return tuple(sorted({*map(float, _SECONDS), *fine}))


class ServingMetrics:
    """All metrics of one worker. Made once a process: Prometheus knows each name once."""

    def __init__(
        self,
        models: Iterable[PackagedModel],
        release: str,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """Must be called after ``PROMETHEUS_MULTIPROC_DIR`` is set, as BentoML does.

        ``registry`` is Prometheus' own, unless this process does not serve.
        """
        import prometheus_client

        self.registry = registry or prometheus_client.REGISTRY
        Counter = partial(prometheus_client.Counter, registry=self.registry)  # noqa: N806
        Gauge = partial(prometheus_client.Gauge, registry=self.registry)  # noqa: N806
        Histogram = partial(prometheus_client.Histogram, registry=self.registry)  # noqa: N806
        models = tuple(models)
        self.bounds = latency_bounds(model.config.slo.p95_ms / 1000 for model in models)
        self._flushed: list[Count | Bins] = []
        self.requests = Counter(
            "headgate_requests",
            "Requests by what became of them.",
            ["surface", "model", "outcome"],
        )
        self.latency = Histogram(
            "headgate_request_seconds",
            "From the complete header of a request to its last byte of answer being sent.",
            ["surface", "model"],
            buckets=self.bounds,
        )
        self.phases = Histogram(
            "headgate_request_phase_seconds",
            "Parts of that: waiting for the engine, in the engine, encoding the answer.",
            ["model", "phase"],
            buckets=self.bounds,
        )
        self.batch_rows = Histogram(
            "headgate_batch_rows", "Rows in one call of the engine.", ["model"], buckets=_ROWS
        )
        self.batch_seconds = Histogram(
            "headgate_batch_seconds", "One call of the engine.", ["model"], buckets=self.bounds
        )
        self.queue_rows = Gauge(
            "headgate_queue_rows",
            "Rows waiting for the engine.",
            ["model"],
            multiprocess_mode="livesum",
        )
        self.shed = Counter(
            "headgate_shed",
            "Requests the batcher refused or dropped: the queue was full, the deadline was or would"
            " have been missed, the client had gone.",
            ["model", "cause"],
        )
        self.parity_rows = Counter(
            "headgate_parity_rows", "Reference rows replayed while serving.", ["model"]
        )
        self.parity_mismatches = Counter(
            "headgate_parity_mismatches",
            "Reference rows whose answer was not that of the model as trained.",
            ["model"],
        )
        self.load_seconds = Gauge(
            "headgate_model_load_seconds",
            "Verifying and opening the model, in the slowest live worker.",
            ["model"],
            multiprocess_mode="livemax",
        )
        self.ready = Gauge(
            "headgate_workers_ready", "Workers that are ready.", multiprocess_mode="livesum"
        )
        info = Gauge(
            "headgate_model_info",
            "1 for every model served, with where it comes from.",
            ["model", "version", "run_id", "digest", "engine", "release"],
            multiprocess_mode="livemax",
        )
        for model in models:
            ref = model.ref
            info.labels(
                ref.name, ref.version, ref.run_id, ref.digest, model.manifest.engine, release
            ).set(1)

    def count(self, child: Any) -> Count:
        """A count carried over to ``child`` at each flush."""
        count = Count(child)
        self._flushed.append(count)
        return count

    def bins(self, child: Any, bounds: Iterable[float]) -> Bins:
        """Observations carried over to ``child`` at each flush."""
        bins = Bins(child, tuple(bounds))
        self._flushed.append(bins)
        return bins

    def flush(self) -> None:
        """Carry over what was counted since the last flush."""
        for each in self._flushed:
            each.flush()


class SurfaceMetrics:
    """The counts of one model on one surface, bound once."""

    def __init__(self, metrics: ServingMetrics, surface: str, model: str) -> None:
        """``model`` is empty for requests that name none, or none that exists."""
        self._outcomes = {
            outcome: metrics.count(metrics.requests.labels(surface, model, outcome))
            for outcome in _OUTCOMES
        }
        self._ok = self._outcomes["ok"]
        self._latency = metrics.bins(metrics.latency.labels(surface, model), metrics.bounds)

    def answered(self, seconds: float) -> None:
        """A request was answered as it wished."""
        self._ok.steps += 1
        self._latency.observe(seconds)

    def failed(self, outcome: Outcome, seconds: float) -> None:
        """A request was not."""
        self._outcomes[outcome].steps += 1
        self._latency.observe(seconds)


class ModelMetrics:
    """The counts of one model, bound once; the batcher's observer."""

    def __init__(self, metrics: ServingMetrics, model: str) -> None:
        self.queue, self.inference, self.encode = (
            metrics.bins(metrics.phases.labels(model, phase), metrics.bounds) for phase in _PHASES
        )
        self._rows = metrics.bins(metrics.batch_rows.labels(model), _ROWS)
        self._seconds = metrics.bins(metrics.batch_seconds.labels(model), metrics.bounds)
        self._shed = {cause: metrics.count(metrics.shed.labels(model, cause)) for cause in _SHED}
        self.parity_rows = metrics.count(metrics.parity_rows.labels(model))
        self.parity_mismatches = metrics.count(metrics.parity_mismatches.labels(model))
        self.load_seconds: Any = metrics.load_seconds.labels(model)
        self.queue_rows: Any = metrics.queue_rows.labels(model)

    def batch(self, rows: int, seconds: float) -> None:
        """See :class:`headgate.serving.batcher.BatchObserver`."""
        self._rows.observe(rows)
        self._seconds.observe(seconds)

    def shed(self, cause: str) -> None:
        """See :class:`headgate.serving.batcher.BatchObserver`."""
        self._shed[cause].steps += 1
