"""What the page draws. matplotlib is imported when the first of them is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headgate.gate.report.inline import COLOURS, Chart, draw
from headgate.gate.report.marks import (
    limit_line,
    limit_mark,
    log_axis,
    look_of,
    percentile_axis,
    points,
    size,
    value_axis,
)
from headgate.gate.report.series import (
    Array,
    blocks,
    distribution,
    latencies_ms,
    nines,
    over_time,
    thinned,
)
from headgate.gate.report.wording import asked, beside, quantity, title
from headgate.records import Check, Evidence, Moment, Samples, Saturation, Side, Verdict
from headgate.stats import quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["of_model", "of_release"]

_MARKED = (0.5, 0.95, 0.99)
_HOW = "Further left is faster; dots are P50, P95 and P99."
_BARS = "A limit is kept where the curve passes its bar on the left."
_SPIKED = "The spike is in the curve, and the limits hold without it."
_PAIRED = "Points of one round shared the machine's noise: compare these."
_APART = "Two separate runs: points above one another were not measured together."
_TIMED = {"recovery", "ramp", "drift_over_time"}
"""Checks that are about when: their charts have a clock."""


def of_model(
    verdict: Verdict, evidence: Evidence, course: Sequence[Moment], model: str
) -> Iterator[Chart]:
    """The charts of one model, the most telling first."""
    sides = _sides(verdict, evidence, model)
    found = _asked(verdict, model)
    if not any(np.isfinite(latencies_ms(samples)).any() for samples in sides.values()):
        return
    yield _distribution(model, sides, found, spiked=evidence.peak is not None)
    watched = "p95_ratio" if "p95_ratio" in found else "p95"
    if (chart := _course(course, watched, model)) is not None:
        yield chart
    if any(len(np.unique(samples.block)) > 1 for samples in sides.values()):
        paired = all(side.paired for _, side in _both(verdict, evidence))
        yield _scatter(model, sides, found.get("p95"), paired=paired)
    if evidence.peak is not None or _TIMED & set(found):
        yield _clock(model, sides, found.get("p95"), evidence.peak)


def of_release(verdict: Verdict, evidence: Evidence, course: Sequence[Moment]) -> Iterator[Chart]:
    """The charts of the release as a whole: its saturation."""
    sides = {
        name: side.saturation
        for name, side in _both(verdict, evidence)
        if side.saturation is not None and len(side.saturation.rps)
    }
    if sides:
        yield _saturation(sides)
    if (chart := _course(course, "throughput_ratio", "")) is not None:
        yield chart


def _both(verdict: Verdict, evidence: Evidence) -> Iterator[tuple[str, Side]]:
    """The candidate, and what is beside it, by what they are called."""
    yield "candidate", evidence.candidate
    if evidence.champion is not None:
        yield beside(verdict), evidence.champion


def _sides(verdict: Verdict, evidence: Evidence, model: str) -> dict[str, Samples]:
    found = {}
    for name, side in _both(verdict, evidence):
        for samples in side.samples:
            if samples.model == model and len(samples.ok):
                found[name] = samples
    return found


def _asked(verdict: Verdict, model: str) -> dict[str, Check]:
    """The checks of a model, the first of each kind."""
    mine = [check for check in verdict.checks if check.model == model]
    return {asked(check.name): check for check in reversed(mine)}


def _distribution(
    model: str, sides: dict[str, Samples], found: dict[str, Check], *, spiked: bool
) -> Chart:
    told, unanswered, top = [], [], 1.0
    for name, samples in sides.items():
        latency_ms = latencies_ms(samples)
        marks = ", ".join(
            f"P{100 * q:g} {quantity(quantile(latency_ms, q), 'ms')}" for q in _MARKED
        )
        told.append(f"{name}: {marks}, {len(latency_ms):,} requests")
        top = max(top, float(nines(1 - 1 / (len(latency_ms) + 1))))
        if failed := int(np.isinf(latency_ms).sum()):
            unanswered.append(
                f"{failed:,} of {len(latency_ms):,} requests to the {name} had no right answer; "
                "its curve ends where they begin."
            )

    def plot(axes: Axes) -> None:
        axes.set_xscale("log")  # before there is data, or its margins are those of a linear one
        for name, samples in sides.items():
            look = look_of(name)
            latency_ms = latencies_ms(samples)
            x, share = distribution(latency_ms)
            if not len(x):
                continue
            axes.plot(x, nines(share), color=look["color"], linestyle=look["linestyle"], label=name)
            marked = [(quantile(latency_ms, q), float(nines(q))) for q in _MARKED]
            shown = [(value, height) for value, height in marked if math.isfinite(value)]
            if shown:
                points(axes, *zip(*shown, strict=True), side=name)
        percentile_axis(axes, top)
        for check_name, height in (("p95", 0.95), ("p99", 0.99)):
            check = found.get(check_name)
            if check is not None and check.limit is not None:
                limit_mark(axes, check.limit, float(nines(height)), check_name)
        log_axis(axes.xaxis)

    return draw(
        "How long requests took",
        plot,
        x="latency, ms (logarithmic)",
        y="share answered within",
        alt="Cumulative distribution of latency. " + "; ".join(told) + ".",
        caption=" ".join(
            [
                _HOW,
                *([_BARS] if {"p95", "p99"} & set(found) else []),
                *([_SPIKED] if spiked else []),
                *unanswered,
            ]
        ),
        salt=f"distribution {model}",
    )


def _scatter(model: str, sides: dict[str, Samples], p95: Check | None, *, paired: bool) -> Chart:
    shown = {name: blocks(samples) for name, samples in sides.items()}
    each = max(block.each for block in shown.values())
    what = "round" if paired else "block"
    unit = what if each == 1 else f"{what} ({each} in each point)"
    finite = np.concatenate([block.p95_ms for block in shown.values()])
    finite = finite[np.isfinite(finite)]
    broken = {name: int((block.failed > 0).sum()) for name, block in shown.items()}
    count = sum(broken.values())

    def plot(axes: Axes) -> None:
        high = float(finite.max()) if len(finite) else 1.0
        for index, (name, block) in enumerate(shown.items()):
            x = block.round + 0.12 * block.each * (2 * index - 1) * (len(shown) > 1)
            y = np.where(np.isfinite(block.p95_ms), block.p95_ms, high * 1.12)
            points(axes, x, y, side=name, label=name, markersize=size(len(x)))
            hit = block.failed > 0
            if hit.any():
                axes.plot(
                    x[hit],
                    y[hit],
                    linestyle="",
                    marker="x",
                    markersize=9,
                    markeredgewidth=1.6,
                    color=COLOURS["ink"],
                    label="with errors" if name == next(n for n in broken if broken[n]) else None,
                )
        if p95 is not None and p95.limit is not None:
            limit_line(axes, p95.limit, most=2 * high)
        value_axis(axes, finite)

    sentences = [
        f"{name} {quantity(float(np.median(block.p95_ms)), 'ms')} in the middle, "
        f"{broken[name]} of {len(block.round)} with errors"
        for name, block in shown.items()
    ]
    beyond = sum(int(np.isinf(block.p95_ms).sum()) for block in shown.values())
    caption = "Each point is a block of the load."
    if len(shown) > 1:
        caption = _PAIRED if paired else _APART
    if count:
        caption += " A cross: some requests had no right answer."
    if beyond:
        caption += f" Of {beyond}, more than 5 % had none: drawn at the top, and in truth endless."
    return draw(
        "P95 of each block",
        plot,
        x=unit,
        y="P95, ms",
        alt=f"P95 of each block: {'; '.join(sentences)}.",
        caption=caption,
        salt=f"blocks {model}",
    )


def _clock(
    model: str,
    sides: dict[str, Samples],
    p95: Check | None,
    peak: tuple[float, float] | None,
) -> Chart:
    shown = {name: over_time(samples) for name, samples in sides.items()}
    finite = np.concatenate([course.p95_ms for course in shown.values()])
    finite = finite[np.isfinite(finite)]

    def plot(axes: Axes) -> None:
        high = float(finite.max()) if len(finite) else 1.0
        if peak is not None:
            axes.axvspan(*peak, color=COLOURS["peak"], alpha=0.25, linewidth=0, label="the spike")
        for name, course in shown.items():
            look = {key: look_of(name)[key] for key in ("color", "linestyle")}
            endless = np.isinf(course.p95_ms)
            axes.plot(
                course.at_s, np.where(endless, np.nan, course.p95_ms), label=f"{name}, P95", **look
            )
            axes.plot(
                course.at_s,
                np.where(np.isinf(course.p50_ms), np.nan, course.p50_ms),
                linewidth=1,
                alpha=0.8,
                label=f"{name}, P50",
                **look,
            )
            if endless.any():
                axes.plot(
                    course.at_s[endless],
                    np.full(int(endless.sum()), high * 1.12),
                    linestyle="",
                    marker="x",
                    color=look["color"],
                    label="over 5 % unanswered",
                )
        if p95 is not None and p95.limit is not None:
            limit_line(axes, p95.limit, most=2 * high)
        value_axis(axes, finite)

    worst = {name: float(course.p95_ms.max(initial=0)) for name, course in shown.items()}
    told = "; ".join(
        f"{name} at most {quantity(value, 'ms') if math.isfinite(value) else 'endless'}"
        for name, value in worst.items()
    )
    spike = f" The spike lasts from {peak[0]:.0f} s to {peak[1]:.0f} s." if peak else ""
    return draw(
        "Latency over time",
        plot,
        x="seconds since the load began",
        y="latency, ms",
        alt=f"P95 over time: {told}.{spike}",
        caption="Bold is P95, thin P50." + (" Shaded: the spike." if peak else ""),
        salt=f"clock {model}",
    )


def _saturation(sides: dict[str, Saturation]) -> Chart:
    def plot(axes: Axes) -> None:
        for index, (name, side) in enumerate(sides.items()):
            block, rps = thinned(side.block, side.rps)
            x = block + 0.12 * (2 * index - 1) * (len(sides) > 1)
            points(axes, x, rps, side=name, label=name, markersize=size(len(x)))
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:,.0f}")

    told = "; ".join(
        f"{name} {quantity(round(float(np.median(side.rps))), 'requests/s')} in the middle of "
        f"{len(side.rps)} blocks"
        for name, side in sides.items()
    )
    return draw(
        "Requests a second at saturation",
        plot,
        x="round",
        y="right answers a second",
        alt=f"Saturation of each block: {told}.",
        caption="Always a next request: the most that it answers. Higher is better.",
        salt="saturation",
    )


def _course(course: Sequence[Moment], name: str, model: str) -> Chart | None:
    """A check and its interval at each look; None where it never had a number."""
    seen = [
        (moment.at_s, check)
        for moment in course
        for check in moment.checks
        if (asked(check.name), check.model) == (name, model) and check.observed is not None
    ]
    if not seen:
        return None
    at_s = np.array([at for at, _ in seen])
    observed = np.array([check.observed for _, check in seen], dtype=np.float64)
    ends = np.array([check.interval or (math.nan, math.nan) for _, check in seen])
    last = seen[-1][1]
    floor, ceiling = _window(observed, ends, last.limit, ratio=name.endswith("_ratio"))

    def plot(axes: Axes) -> None:
        low, high = (np.clip(end, floor - 1, ceiling + 1) for end in ends.T)
        look: dict[str, Any] = {"color": COLOURS["candidate"]}
        axes.plot(
            at_s,
            np.clip(observed, floor - 1, ceiling + 1),
            marker="o",
            markersize=4,
            label="observed, with its interval",
            **look,
        )
        if len(seen) > 2:
            axes.fill_between(at_s, low, high, alpha=0.25, linewidth=0, **look)
        else:
            axes.vlines(at_s, low, high, linewidth=1.6, **look)
        if name.endswith("_ratio"):
            axes.axhline(1, color=COLOURS["faint"], linewidth=1.2)
        if last.limit is not None:
            limit_line(axes, last.limit, most=math.inf)
        axes.set_ylim(floor, ceiling)
        axes.set_xlim(0, float(at_s.max()) * 1.04 or 1)

    numbers = quantity(last.observed, last.unit)
    if last.interval is not None:
        numbers += " ({} to {})".format(*(quantity(end, last.unit) for end in last.interval))
    return draw(
        f"{title(name)}, look by look",
        plot,
        x="seconds since the load began",
        y=last.unit or "ratio",
        alt=f"{title(name)} at {len(seen)} looks, at last {numbers}; "
        f"the limit is {quantity(last.limit, last.unit)}.",
        caption="The band is the interval: decided once all of it is on one side of the limit.",
        salt=f"course {name} {model}",
    )


def _window(
    observed: Array, ends: Array, limit: float | None, *, ratio: bool
) -> tuple[float, float]:
    """What of the values is drawn: the first looks know next to nothing, and span everything."""
    half = len(observed) // 2
    shown = [*observed[half:], *ends[half:].ravel(), *([limit] if limit is not None else [])]
    shown += [1.0] if ratio else []
    finite = [value for value in shown if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    space = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
    return low - space, high + space
