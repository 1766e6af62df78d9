"""A figure → SVG that stands inside a page, in the colours of that page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headgate.gate.report.wording import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "Chart", "draw"]

COLOURS = {
    "candidate": "#010203",
    "champion": "#010204",
    "limit": "#010205",
    "ink": "#010206",
    "faint": "#010207",
    "peak": "#010208",
}
"""What is drawn in, by role: stand-ins for the classes that the page gives its colours to, so that
one drawing serves light and dark."""
_ROLES = {code: role for role, code in COLOURS.items()}
_SIZE = (5.4, 3.5)
"""Inches of 72 units: about a phone's width, so that nothing shrinks there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One drawing with its words."""

    title: str
    svg: str
    """Without identifiers, styles and scripts of its own, safe to inline."""
    alt: str
    """What it shows, for those who do not see it."""
    caption: str = ""


def draw(
    title: str,
    plot: Callable[[Axes], None],
    *,
    x: str,
    y: str,
    alt: str,
    caption: str = "",
    salt: str,
) -> Chart:
    """Call ``plot`` with empty axes and take the drawing down.

    Args:
        title: Of the chart.
        plot: Draws, with :data:`COLOURS`.
        x: What the horizontal axis shows, with its unit.
        y: The same of the vertical one.
        alt: What the chart shows, for those who do not see it.
        caption: What to look for.
        salt: Unlike that of every other chart of the page; equal inputs make equal drawings.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_style(salt)):
        figure = Figure(figsize=_SIZE, layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.grid(visible=True, which="major", alpha=0.7)
        axes.set_axisbelow(True)
        plot(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(plain(y))
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            figure.legend(
                handles,
                labels,
                loc="outside upper left",
                ncols=2,
                frameon=False,
                fontsize=9.5,
                handlelength=2.6,
                columnspacing=1.2,
            )
        file = io.StringIO()
        nameless = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nameless)
    return Chart(title=title, svg=_inline(file.getvalue()), alt=alt, caption=caption)


def _style(salt: str) -> dict[Any, Any]:
    """Of matplotlib, whatever its user has set otherwise."""
    return {
        "svg.hashsalt": plain(salt),
        "svg.fonttype": "none",
        "font.size": 10,
        "font.family": "DejaVu Sans",
        "text.color": COLOURS["ink"],
        "axes.labelcolor": COLOURS["ink"],
        "axes.edgecolor": COLOURS["faint"],
        "axes.facecolor": "none",
        "xtick.color": COLOURS["ink"],
        "ytick.color": COLOURS["ink"],
        "grid.color": COLOURS["faint"],
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
        "lines.linewidth": 2,
        "text.parse_math": False,
        "text.usetex": False,
    }


def _inline(document: str) -> str:
    """The ``svg`` element alone, its styles as attributes: a page may forbid all others."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every drawing, and nothing points there
    svg = re.sub(r'style="([^"]*)"', lambda match: _attributes(match[1]), svg)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\1" aria-hidden="true" '
        r'focusable="false">',
        svg,
        count=1,
    )
    return re.sub(r"\n\s*", "\n", svg).strip()


def _attributes(style: str) -> str:
    told: dict[str, str] = {}
    classes: list[str] = []
    for declaration in filter(str.strip, style.split(";")):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in {"fill", "stroke"} and value in _ROLES:
            classes.append(f"{key}-{_ROLES[value]}")
        elif key == "font":
            size = re.search(r"([\d.]+)px", value)
            told["font-size"] = size[1] if size else "10"
            if re.match(r"(bold|[6-9]00)\b", value):
                told["font-weight"] = "bold"
        elif key != "font-family":
            told[key] = value
    if classes:
        told["class"] = " ".join(classes)
    return " ".join(f'{key}="{value}"' for key, value in told.items())
