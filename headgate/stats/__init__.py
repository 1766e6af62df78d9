"""Pure statistics: intervals, quantiles, sequential and paired tests. Imports nothing of ours."""

from __future__ import annotations

from headgate.stats.clustering import clustered_quantile_interval, clustered_share, clusters
from headgate.stats.paired import (
    Estimate,
    mcnemar,
    mean_difference,
    share_difference,
)
from headgate.stats.pooled import pooled_ratios
from headgate.stats.proportions import clopper_pearson
from headgate.stats.quantiles import quantile, quantile_interval
from headgate.stats.ratio import LEAST_PAIRS, Blocks, log_ratio, quantile_ratio
from headgate.stats.spending import nominal_level, power_family
from headgate.stats.trend import rise

__all__ = [
    "LEAST_PAIRS",
    "Blocks",
    "Estimate",
    "clopper_pearson",
    "clustered_quantile_interval",
    "clustered_share",
    "clusters",
    "log_ratio",
    "mcnemar",
    "mean_difference",
    "nominal_level",
    "pooled_ratios",
    "power_family",
    "quantile",
    "quantile_interval",
    "quantile_ratio",
    "rise",
    "share_difference",
]
