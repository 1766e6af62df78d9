"""Evidence → checks. Pure: no clock, no file, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from headgate.config import DemandConfig, LoadProfile, SloConfig
from headgate.gate.absolute import Asked, latency, throughput
from headgate.gate.health import error_rate, load_time, memory, parity
from headgate.gate.quality import quality
from headgate.gate.relative import p95_ratio, throughput_ratio
from headgate.gate.shapes import drift_over_time, ramp, recovery
from headgate.gate.trust import Levels, doubt, levels
from headgate.gate.verdict import conclude, settle
from headgate.records import Check, Evidence, Outcome, Samples, Side

__all__ = ["conclude", "judge", "settle"]


def judge(
    evidence: Evidence,
    slos: Mapping[str, SloConfig],
    demands: Mapping[str, DemandConfig],
    profile: LoadProfile,
    *,
    max_generator_lateness_ms: float,
) -> tuple[Check, ...]:
    """Ask all that a profile asks of what was measured so far.

    Two questions, answered apart: does the release keep its promises (``[slo]``), and is it worse
    than the champion by more than the margin (``[gate]`` of its model)? A check fails where its
    interval lies beyond the limit and passes where what it asks for is shown; in between, and where
    there is too little data or the generator measured itself, it is inconclusive.

    The intervals are as wide as looking more than once makes necessary; :func:`settle` holds what
    was decided before.

    Args:
        evidence: All since the start of the load.
        slos: The promises, by model.
        demands: The margins, by model; without an entry, the defaults.
        profile: The load profile.
        max_generator_lateness_ms: How late the generator's own P95 request may have been.
    """
    seen = {samples.model: samples for samples in evidence.candidate.samples}
    sure = levels(evidence.looks)
    checks: list[Check] = []
    # A request without an answer has an infinite time, and infinities have no difference.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for model, slo in slos.items():
            samples = seen.get(model) or _nothing(evidence.candidate, model)
            why = doubt(samples, evidence.generator, profile, max_generator_lateness_ms)
            everything = np.ones(len(samples.ok), dtype=bool)
            asked = Asked(samples, everything, samples.duration_s, slo, why, sure)
            demand = demands.get(model, DemandConfig())
            checks += _absolute(asked, evidence, profile)
            if profile.compare and evidence.champion is not None:
                champion = _of(evidence.champion, model)
                other = doubt(
                    champion or _nothing(evidence.champion, model),
                    evidence.generator,
                    profile,
                    max_generator_lateness_ms,
                )
                checks.append(_beside(asked, evidence, demand, champion, other.any))
            checks += _quality(model, evidence, demand, profile)
        checks += _of_all(evidence, slos, demands, profile, sure)
    return tuple(checks)


def _absolute(asked: Asked, evidence: Evidence, profile: LoadProfile) -> list[Check]:
    """Does it keep its promises?"""
    side, slo = evidence.candidate, asked.slo
    shaped, asked, excused = _shaped(asked, evidence, profile)
    checks = []
    if profile.shape != "ramp":
        checks.append(latency(asked, "p95", 0.95, slo.p95_ms))
        if slo.p99_ms is not None:
            checks.append(latency(asked, "p99", 0.99, slo.p99_ms))
        checks.append(throughput(asked))
    checks.append(error_rate(asked, excused))
    if side.load_time_s is not None:
        checks.append(load_time(asked, side.load_time_s))
    if side.memory_mb is not None and slo.max_memory_mb is not None:
        checks.append(memory(asked, side.memory_mb, slo.max_memory_mb))
    checks.append(_parity(asked, side, profile))
    return [*checks, *shaped]


def _parity(asked: Asked, side: Side, profile: LoadProfile) -> Check:
    samples = asked.samples
    answered, wrong = int(samples.ok.sum()), int((samples.ok & ~samples.matched).sum())
    if side.saturation is not None:
        # In closed loop all models are asked equally often; whose a wrong answer was is known
        # only of one.
        models = max(1, len(side.samples))
        answered += side.saturation.answered // models
        wrong += side.saturation.wrong if models == 1 else 0
    return parity(asked, answered, wrong, profile.min_checked or profile.min_requests)


def _shaped(
    asked: Asked, evidence: Evidence, profile: LoadProfile
) -> tuple[list[Check], Asked, int]:
    """The shape's own question, what the promises hold for, and how many refusals are forgiven."""
    if profile.shape == "ramp":
        check, excused = ramp(asked)
        return [check], asked, excused
    if profile.shape == "spike":
        return recovery(asked, evidence.peak)
    if profile.shape == "soak":
        return [drift_over_time(asked)], asked, 0
    return [], asked, 0


def _of(side: Side, model: str) -> Samples | None:
    return next((samples for samples in side.samples if samples.model == model), None)


def _beside(
    asked: Asked,
    evidence: Evidence,
    demand: DemandConfig,
    champion: Samples | None,
    other: str,
) -> Check:
    """Is it slower than the champion?"""
    if champion is None or evidence.champion is None:
        return Check(
            name="p95_ratio",
            model=asked.samples.model,
            outcome=Outcome.PASS,
            reason="The champion does not serve this model: it is judged absolutely only.",
            samples=0,
            limit=demand.max_p95_ratio,
        )
    return p95_ratio(
        asked.samples,
        champion,
        demand,
        generator=evidence.generator,
        levels=asked.levels,
        doubt=asked.doubt.any or (other and f"of the champion's, {other}"),
        paired=evidence.candidate.paired and evidence.champion.paired,
    )


def _quality(
    model: str, evidence: Evidence, demand: DemandConfig, profile: LoadProfile
) -> list[Check]:
    """Does it predict worse?"""
    compares = profile.compare and evidence.champion is not None
    return [
        quality(measured if compares else replace(measured, champion=None), demand.max_quality_loss)
        for measured in evidence.quality
        if measured.model == model
    ]


def _of_all(
    evidence: Evidence,
    slos: Mapping[str, SloConfig],
    demands: Mapping[str, DemandConfig],
    profile: LoadProfile,
    sure: Levels,
) -> list[Check]:
    """What is asked of the release as a whole."""
    side, champion = evidence.candidate, evidence.champion
    checks = []
    if side.saturation is not None and side.saturation.wrong and len(side.samples) > 1:
        wrong, answered = side.saturation.wrong, side.saturation.answered
        reason = (
            f"{wrong:,} of {answered:,} answers at saturation, over all models, differ from the "
            "model as trained; none may."
        )
        checks.append(
            Check(
                name="parity",
                model="",
                outcome=Outcome.FAIL,
                reason=reason,
                samples=answered,
                unit="answers",
                observed=float(wrong),
                limit=0.0,
            )
        )
    saturates = profile.saturate_s > 0 or side.saturation is not None
    if profile.compare and champion is not None and saturates:
        asked = [demands.get(model, DemandConfig()).min_throughput_ratio for model in slos]
        limit = max(asked, default=DemandConfig().min_throughput_ratio)
        checks.append(
            throughput_ratio(side, champion, limit, generator=evidence.generator, levels=sure)
        )
    return checks


def _nothing(side: Side, model: str) -> Samples:
    """Of a model that was never asked."""
    return Samples(
        model=model,
        release=side.release,
        block=np.zeros(0, dtype=np.int64),
        intended_s=np.zeros(0),
        sent_s=np.zeros(0),
        latency_s=np.zeros(0),
        ok=np.zeros(0, dtype=bool),
        matched=np.zeros(0, dtype=bool),
        rows=np.zeros(0, dtype=np.int64),
        duration_s=0.0,
    )
