"""Did a rate hold for some seconds? The stability criterion of the search for the capacity. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from headgate.config import SloConfig
from headgate.gate.absolute import SUSTAINED
from headgate.gate.trust import BUSY
from headgate.gate.wording import ms, percent
from headgate.records import Samples, Step, StepOutcome
from headgate.stats import clopper_pearson, clustered_quantile_interval, clusters, quantile

__all__ = ["after", "judge_step", "least_requests"]

_MISTAKE = 0.05
"""Chance that the bound of a percentile, or of the error rate, is on the wrong side of it."""
_P95_REQUESTS = 100
_P99_REQUESTS = 400
"""The upper bound of a percentile needs 59 and 299 answers at least, and some that may be slow."""
_SLICES = 12
_IN_SLICE = 5
"""Requests in a slice at least."""
_RISES = 2.326
"""Standard normal value of a one-sided test at 1 %."""
_GROWS = 1.5
"""Factor from the first to the last slice below which a rise is of no account."""


def least_requests(slos: Mapping[str, SloConfig]) -> int:
    """Requests to each model that a step needs to show anything."""
    strict = any(slo.p99_ms is not None for slo in slos.values())
    return _P99_REQUESTS if strict else _P95_REQUESTS


def after(samples: Samples, warmup_s: float) -> Samples:
    """What is left of a block without its first seconds, on the same clock."""
    left = _kept(samples, samples.intended_s >= warmup_s)
    return dataclasses.replace(left, duration_s=samples.duration_s - warmup_s)


def judge_step(
    seen: Sequence[Samples],
    slos: Mapping[str, SloConfig],
    *,
    rate: float,
    ends_s: float,
    cpu: float,
    max_lateness_ms: float,
) -> Step:
    """Whether every model kept its promises at this rate, and would go on to.

    A model held it if, of the requests of this step,

    - 99 % had a right answer in time: by the end, or as soon after it as twice the promised P95;
    - the error rate is not shown to be over its limit: the lower bound of C. J. Clopper and
      E. S. Pearson, Biometrika 26 (1934), at 95 %;
    - no more were in flight at the end than Little's law allows where the P95 is kept, with three
      standard deviations of a Poisson count: J. D. C. Little, "A proof for the queuing formula
      L = λW", Operations Research 9 (1961);
    - the upper bound of P95, and of P99 where there is a limit, is within the limit, by order
      statistics at 95 %;
    - latency did not rise: the test of H. B. Mann, "Nonparametric tests against trend",
      Econometrica 13 (1945), at 1 %, on the medians of twelve slices, of which the last third is
      at least half as high again as the first.

    Args:
        seen: Of each model; an answer that is wrong counts as none.
        slos: The promises, by model.
        rate: Requests per second to each model.
        ends_s: When the step ended, on the samples' clock.
        cpu: Share of its core that the generator used.
        max_lateness_ms: How late its own P95 request may be, where the step did not hold.
    """
    faults, excuses, p95, worst = "", "", 0.0, -math.inf
    for samples in seen:
        slo = slos[samples.model]
        if found := _fault(samples, slo, ends_s):
            excuse = _excuse(samples, slo, ends_s, cpu, max_lateness_ms)
            excuses = excuses or excuse
            if not excuse:
                faults = faults or (f"{samples.model}: {found}" if len(seen) > 1 else found)
        p95_ms = 1000 * quantile(_waited(samples), 0.95)
        if not p95_ms / slo.p95_ms <= worst:
            worst, p95 = p95_ms / slo.p95_ms, p95_ms
    outcome = StepOutcome.LIMITED if excuses else StepOutcome.HELD
    return Step(
        rate=rate,
        outcome=StepOutcome.FAILED if faults else outcome,
        requests=sum(len(samples.ok) for samples in seen),
        why=faults or excuses,
        p95_ms=p95 if math.isfinite(p95) else None,
    )


def _excuse(
    samples: Samples, slo: SloConfig, ends_s: float, cpu: float, max_lateness_ms: float
) -> str:
    """Why it may be the generator that gave way and not the model; empty where it is not."""
    if cpu > BUSY:
        return f"the load generator used {cpu:.0%} of its core"
    late_s = np.maximum(0.0, samples.sent_s - samples.intended_s)
    late_ms = 1000 * quantile(late_s, 0.95)
    sent = np.isfinite(late_s)
    own = dataclasses.replace(
        _kept(samples, sent), latency_s=samples.latency_s[sent] - late_s[sent]
    )
    if late_ms <= max_lateness_ms and _fault(own, slo, ends_s):
        return ""
    return f"the load generator was {ms(late_ms)} late (P95)"


def _kept(samples: Samples, chosen: npt.NDArray[np.bool_]) -> Samples:
    """Some of the requests."""
    names = ("block", "intended_s", "sent_s", "latency_s", "ok", "matched", "rows")
    return dataclasses.replace(samples, **{name: getattr(samples, name)[chosen] for name in names})


def _waited(samples: Samples) -> npt.NDArray[np.float64]:
    """Seconds for a right answer; infinite where there was none."""
    return np.where(samples.ok & samples.matched, samples.latency_s, math.inf)


def _fault(samples: Samples, slo: SloConfig, ends_s: float) -> str:
    """The first thing that gave way, in words; empty where nothing did."""
    right, latency_s = samples.ok & samples.matched, _waited(samples)
    count = len(right)
    if count == 0:
        return "no request was sent"
    in_time = int((samples.intended_s + latency_s <= ends_s + 2 * slo.p95_ms / 1000).sum())
    failed = count - int(right.sum())
    if clopper_pearson(failed, count, 1 - 2 * _MISTAKE)[0] > slo.max_error_rate:
        words = f"{failed:,} of {count:,} requests had no right answer"
        # Their counts are of the warm-up too.
        often = max(samples.errors, key=lambda cause: samples.errors[cause], default="")
        return f"{words} ({often})" if often else words
    if in_time < SUSTAINED * count:
        return f"only {percent(in_time / count)} were answered in time"
    slow = _slow(latency_s, 0.95, slo.p95_ms)
    if not slow and slo.p99_ms is not None:
        slow = _slow(latency_s, 0.99, slo.p99_ms)
    if slow:
        return slow
    flying = int((samples.intended_s + latency_s > ends_s)[right].sum())
    usual = count / samples.duration_s * slo.p95_ms / 1000
    if flying > usual + 3 * math.sqrt(usual) + 1:
        return f"{flying:,} requests had piled up at the end"
    return "latency rose from beginning to end" if _rises(latency_s) else ""


def _slow(latency_s: npt.NDArray[np.float64], q: float, limit_ms: float) -> str:
    """Whether the bound of a percentile is over its limit, in words."""
    groups = clusters(np.zeros(len(latency_s), dtype=np.int64))
    value = 1000 * quantile(latency_s, q)
    high = 1000 * clustered_quantile_interval(latency_s, groups, q, 0, _MISTAKE)[1]
    if high <= limit_ms:
        return ""
    most = f" (at most {ms(high)})" if math.isfinite(high) else ""
    figure = f"{ms(value)}{most}" if math.isfinite(value) else "unknown"
    return f"P{100 * q:.0f} {figure}, over {limit_ms:g} ms"


def _rises(latency_s: npt.NDArray[np.float64]) -> bool:
    """Whether latency rose, in the order of time."""
    if len(latency_s) < _SLICES * _IN_SLICE:
        return False
    level = np.array([np.median(each) for each in np.array_split(latency_s, _SLICES)])
    third = _SLICES // 3
    first, last = float(np.median(level[:third])), float(np.median(level[-third:]))
    if not last > _GROWS * first:
        return False
    later, earlier = np.tril_indices(_SLICES, -1)
    score = int((level[later] > level[earlier]).sum() - (level[later] < level[earlier]).sum())
    spread = math.sqrt(_SLICES * (_SLICES - 1) * (2 * _SLICES + 5) / 18)
    return (score - 1) / spread > _RISES
