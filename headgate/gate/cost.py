"""What predictions cost, and how many machines a rate takes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from headgate.config import CostConfig, DemandConfig
from headgate.gate.relative import LIMITED
from headgate.gate.trust import levels
from headgate.gate.wording import INTERVAL
from headgate.records import Check, Evidence, Outcome, Side
from headgate.stats import mean_difference

__all__ = ["NO_PRICE", "cost_check", "cost_per_million", "replicas"]

_MILLION = 1e6
_HOUR_S = 3600
NO_PRICE = "set instance_per_hour under [cost] in headgate.toml"
"""What to do where nobody has said what a machine costs."""


def cost_per_million(cost: CostConfig, rows_per_s: float) -> float:
    """Price of a million predictions, in the currency of ``[cost]``.

    That of an hour over the rows predicted in one, on a machine that does ``utilisation`` of what
    it could. Infinite where it could do nothing.

    Args:
        cost: The price of a machine, and how much of its capacity is used.
        rows_per_s: The capacity of the machine.
    """
    per_hour = rows_per_s * cost.utilisation * _HOUR_S
    return cost.instance_per_hour / per_hour * _MILLION if per_hour > 0 else math.inf


def replicas(rate: float, capacity: float, utilisation: float) -> int:
    """Machines for a rate, each of which does ``utilisation`` of its capacity at most.

    Raises:
        ValueError: a machine has no capacity.
    """
    if not capacity * utilisation > 0:
        raise ValueError(f"no number of machines of capacity {capacity} is enough")
    # A quotient may come out just above a whole number: 6 / (10 * 0.6).
    return max(1, math.ceil(rate / (capacity * utilisation) * (1 - 1e-12)))


def cost_check(
    evidence: Evidence, cost: CostConfig, demands: Mapping[str, DemandConfig]
) -> Check | None:
    """Whether a million predictions cost no more than a model of the release allows.

    All models serve from the same machines, so the tightest limit holds for the release: what it
    answers at saturation, where its models are asked equally often, over the blocks of that kind,
    with Student's interval. None where no model sets a limit; a check of no samples where measuring
    longer would tell no more.
    """
    limits = [
        demand.max_cost_per_million
        for demand in demands.values()
        if demand.max_cost_per_million is not None
    ]
    if not limits:
        return None
    limit = min(limits)
    side, unit = evidence.candidate, f"{cost.currency} per 1M"
    blocks = side.saturation.rps if side.saturation is not None else np.zeros(0)
    if why := _unknown(cost, len(blocks)):
        reason, count = f"What it costs is unknown: {why}.", len(blocks)
        return _check(
            Outcome.INCONCLUSIVE, reason, unit, limit, count if cost.instance_per_hour else 0
        )
    sure = levels(evidence.looks)
    # Cost falls as answers rise, so the mistakes change sides.
    found = mean_difference(blocks, np.zeros(len(blocks)), sure.good, sure.worse)
    rows = _rows(side)
    value, most, least = (
        cost_per_million(cost, max(0.0, rps) * rows) for rps in (found.value, found.low, found.high)
    )
    held = found.value > LIMITED * (evidence.generator.most_rps or math.inf)
    span = f"{least:.3g} to {most:.3g}" if math.isfinite(most) else f"{least:.3g} upwards"
    figures = (
        f"A million predictions cost {value:.3g} {cost.currency} at {cost.utilisation:.0%} "
        f"utilisation ({INTERVAL} {span}, {len(blocks):,} blocks); up to {limit:g} may be"
    )
    if most <= limit:
        outcome, reason = Outcome.PASS, f"{figures}."
    elif held:
        outcome = Outcome.INCONCLUSIVE
        reason = f"{figures}, but it may be less: the load generator asks for no more."
    elif least > limit:
        outcome, reason = Outcome.FAIL, f"{figures}."
    else:
        outcome, reason = Outcome.INCONCLUSIVE, f"{figures}, too near to tell: measure longer."
    bounded = math.isfinite(least) and math.isfinite(most)
    return _check(
        outcome,
        reason,
        unit,
        limit,
        len(blocks),
        observed=value if math.isfinite(value) else None,
        interval=(least, most) if bounded else None,
    )


def _unknown(cost: CostConfig, blocks: int) -> str:
    """Why nothing can be told, and what to do; empty where something can."""
    if not cost.instance_per_hour:
        return f"nobody has said what a machine costs: {NO_PRICE}"
    if blocks == 0:
        return "no saturation was measured: set saturate_s in a steady profile"
    return "" if blocks > 1 else "one block at saturation has no interval: measure longer"


def _rows(side: Side) -> float:
    """Rows in a request, on average over the models: in closed loop they are asked equally often."""
    means = [float(samples.rows.mean()) for samples in side.samples if len(samples.rows)]
    return sum(means) / len(means) if means else 1.0


def _check(
    outcome: Outcome,
    reason: str,
    unit: str,
    limit: float,
    count: int,
    *,
    observed: float | None = None,
    interval: tuple[float, float] | None = None,
) -> Check:
    return Check(
        name="cost",
        model="",
        outcome=outcome,
        reason=reason,
        samples=count,
        unit=unit,
        observed=observed,
        limit=limit,
        interval=interval,
    )
