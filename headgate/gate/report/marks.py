"""What the charts are made of: the looks of the two sides, limits, axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headgate.gate.report.inline import COLOURS
from headgate.gate.report.series import Array, nines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "limit_line",
    "limit_mark",
    "log_axis",
    "look_of",
    "percentile_axis",
    "points",
    "size",
    "value_axis",
]

_TICKS = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_CANDIDATE = {"color": COLOURS["candidate"], "linestyle": "-", "marker": "o"}
_OTHER = {"color": COLOURS["champion"], "linestyle": "--", "marker": "s"}


def look_of(side: str) -> dict[str, Any]:
    """Of the candidate or of what is beside it: apart by colour, line and marker."""
    return _CANDIDATE if side == "candidate" else _OTHER


def percentile_axis(axes: Axes, top: float) -> None:
    """Ticks at the shares that people name, up to ``top`` nines."""
    ticks = [tick for tick in _TICKS if float(nines(tick)) <= top + 0.05]
    axes.set_yticks([float(nines(tick)) for tick in ticks], [f"{100 * tick:g} %" for tick in ticks])
    axes.set_ylim(0, top * 1.05)


def limit_mark(axes: Axes, limit: float, height: float, name: str) -> None:
    """A limit on one quantile: the curve must cross that height to the left of it."""
    look: dict[str, Any] = {"color": COLOURS["limit"]}
    axes.axvline(limit, linestyle=":", linewidth=1.6, **look)
    axes.plot([limit], [height], marker="_", markersize=13, markeredgewidth=2, linestyle="", **look)
    axes.annotate(
        f"{name.upper()} limit",
        (limit, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2 if name == "p95" else 13),  # those of a P95 and a P99 may be near
        textcoords="offset points",
        ha="center",
        fontsize=9,
        **look,
    )


def points(axes: Axes, x: Any, y: Any, *, side: str, **how: Any) -> None:
    """Markers of one side, the candidate's filled."""
    look = look_of(side)
    fill: dict[str, Any] = {}
    if side != "candidate":
        fill = {"markerfacecolor": "none", "markeredgewidth": 1.5}
    axes.plot(
        x,
        y,
        linestyle="",
        marker=look["marker"],
        color=look["color"],
        **{"markersize": 6, **fill, **how},
    )


def limit_line(axes: Axes, limit: float, *, most: float) -> None:
    """Unless it is so far off that the line would flatten what is to be seen."""
    if limit <= most:
        axes.axhline(
            limit, color=COLOURS["limit"], linestyle=":", linewidth=1.6, label=f"limit {limit:g}"
        )


def value_axis(axes: Axes, finite: Array) -> None:
    """From zero, or logarithmic where the largest would hide the rest."""
    positive = finite[finite > 0]
    if len(positive) and float(positive.max()) > 20 * float(np.median(positive)):
        axes.set_yscale("log")
        log_axis(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)


def log_axis(axis: Any) -> None:
    """Ticks at 1, 2, 5, 10 and so on, written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def size(count: int) -> float:
    """Of a marker, where there are so many."""
    return 6 if count <= 40 else 4 if count <= 120 else 2.5
