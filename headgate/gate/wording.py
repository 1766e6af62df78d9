"""How figures are said in a reason: short, with their unit, and the same everywhere."""

from __future__ import annotations

import math

__all__ = ["causes", "ms", "percent", "ratio_span", "span"]

NAMED = 5
"""Causes of errors that a reason names."""
INTERVAL = "97 % interval"
"""Of what the gate decides by: 2.5 % and 0.5 % are the chances of being wrong to either side, over
all looks together."""


def ms(value: float) -> str:
    """Milliseconds, to a tenth where that says something."""
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def percent(share: float) -> str:
    """A share in per cent, to three digits."""
    return f"{100 * share:.3g} %"


def span(low_ms: float, high_ms: float) -> str:
    """An interval of milliseconds, whichever of its ends are known."""
    if math.isfinite(high_ms):
        return f"{INTERVAL} {ms(max(0.0, low_ms))} to {ms(high_ms)}"
    if math.isfinite(low_ms):
        return f"{INTERVAL} {ms(max(0.0, low_ms))} upwards"
    return "no interval yet"


def ratio_span(low: float, high: float) -> str:
    """An interval of a ratio, whichever of its ends are known."""
    if math.isfinite(high):
        return f"{INTERVAL} {low:.3f} to {high:.3f}"
    return f"{INTERVAL} {low:.3f} upwards" if low > 0 else "no interval yet"


def causes(errors: dict[str, int]) -> str:
    """What went wrong how often, the most frequent first."""
    ranked = sorted(errors.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{number:,} x {cause}" for cause, number in ranked[:NAMED]]
    if rest := ranked[NAMED:]:
        words.append(f"{sum(number for _, number in rest):,} of {len(rest):,} other kinds")
    return ", ".join(words)
