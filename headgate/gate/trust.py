"""How far what was measured can be trusted, and how sure the gate has to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headgate.config import LoadProfile
from headgate.gate.wording import ms
from headgate.records import Generator, Samples
from headgate.stats import clopper_pearson, nominal_level, power_family, quantile

__all__ = ["Doubt", "Levels", "doubt", "levels"]

BUSY = 0.9
"""A generator that uses more of its core than this measures itself."""
FALSE_WORSE = 0.005
"""Chance that a check fails something exactly at its limit, over all looks."""
FALSE_GOOD = 0.025
"""Chance that a check passes something exactly at its limit, over all looks."""
_NONE = 1e-12
"""No chance at all, as far as a confidence tells."""
SPENT_ON_WORSE = power_family(1)
"""Evenly over the time: what is clearly worse is found within the first minute or two."""
SPENT_ON_GOOD = power_family(1.5)
"""A little less at first. By simulation, with pairs that scatter by 8.5 %: of the even one, 12.6 % of
A/A runs stay open, of this one 10.5 % and 13 s later, and with power 3 8.6 % and 33 s later."""


@dataclass(frozen=True)
class Levels:
    """One-sided p-values that count at this look, for either mistake."""

    worse: float
    """Below it, something is shown to be beyond its limit."""
    good: float
    """Below it, something is shown to be within."""

    def share(self, hits: int, count: int) -> tuple[float, float]:
        """Exact interval of a share of bad things: its ends decide for a fail and for a pass."""
        low = clopper_pearson(hits, count, 1 - 2 * self.worse)[0] if self.worse > _NONE else 0.0
        high = clopper_pearson(hits, count, 1 - 2 * self.good)[1] if self.good > _NONE else 1.0
        return low, high


def levels(looks: Sequence[float]) -> Levels:
    """What counts at the last of these looks.

    Each may be the one at which the gate stops, so they share the chances of a mistake.
    """
    looks = looks or (1.0,)
    return Levels(
        nominal_level(looks, FALSE_WORSE, SPENT_ON_WORSE),
        nominal_level(looks, FALSE_GOOD, SPENT_ON_GOOD),
    )


@dataclass(frozen=True)
class Doubt:
    """Why something cannot be told; empty where it can."""

    few: str
    """There is too little data to say anything good."""
    generator: str
    """The samples say more of the load generator than of the release."""

    @property
    def any(self) -> str:
        """The first of them."""
        return self.few or self.generator


def doubt(
    samples: Samples,
    generator: Generator,
    profile: LoadProfile,
    max_lateness_ms: float,
) -> Doubt:
    """What speaks against judging by these samples.

    Args:
        samples: Of one model.
        generator: What sent the requests.
        profile: How much is enough.
        max_lateness_ms: How late the generator's own P95 request may be.
    """
    return Doubt(_too_few(samples, profile), _at_fault(samples, generator, max_lateness_ms))


def _too_few(samples: Samples, profile: LoadProfile) -> str:
    if len(samples.ok) == 0:
        return "no request was sent, and no data never passes"
    odd = int(np.isnan(samples.latency_s[samples.ok]).sum() + np.isnan(samples.sent_s).sum())
    if odd:
        return f"{odd} of the recorded times are not numbers"
    answers = int(samples.ok.sum())
    if answers < profile.min_requests:
        return (
            f"{answers:,} answers are fewer than the {profile.min_requests:,} "
            "that the profile asks for"
        )
    return ""


def _at_fault(samples: Samples, generator: Generator, most_late_ms: float) -> str:
    late_ms = 1000 * quantile(samples.sent_s - samples.intended_s, 0.95)
    # Negated, so that NaN is a fault.
    if not late_ms <= most_late_ms:
        return f"the load generator itself was {ms(late_ms)} late (P95; {most_late_ms:g} ms are allowed)"
    if not generator.cpu <= BUSY:
        return f"the load generator used {generator.cpu:.0%} of its core ({BUSY:.0%} is allowed)"
    return ""
