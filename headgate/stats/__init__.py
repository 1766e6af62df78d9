"""Pure statistics: intervals for quantiles and proportions. Imports nothing of ours."""

from __future__ import annotations

from headgate.stats.proportions import clopper_pearson
from headgate.stats.quantiles import quantile, quantile_interval

__all__ = ["clopper_pearson", "quantile", "quantile_interval"]
