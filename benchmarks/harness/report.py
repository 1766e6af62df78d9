"""What was measured, as JSON, as a table and as a plot."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.goals import GOALS, Judged, Model, judge, median_of, medians
from benchmarks.harness.measure import Plan, Round

__all__ = [
    "CONVERTED",
    "UNCONVERTED",
    "Results",
    "finite",
    "machine",
    "plot",
    "table",
    "verdicts",
    "write",
]

CONVERTED, UNCONVERTED = "ONNX", "unconverted"
"""What a job's name says of its model."""
_LEVELS = ("1", "16", "64")


@dataclass(kw_only=True)
class Results:
    """Every round of every endpoint, by model and name."""

    plan: Plan
    machine: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Why a server was not measured, or not in every round."""
    rounds: dict[Model, dict[str, list[Round]]] = field(
        default_factory=lambda: {"onnx": {}, "sklearn": {}}
    )

    def add(self, model: Model, name: str, measured: Round) -> None:
        """One more round."""
        self.rounds[model].setdefault(name, []).append(measured)

    def closed(self, model: Model) -> dict[str, dict[str, list[dict[str, float]]]]:
        """The closed loops, by name and number of connections."""
        return {
            name: {
                level: [each.closed[level] for each in rounds if level in each.closed]
                for level in rounds[0].closed
            }
            for name, rounds in self.rounds[model].items()
        }

    def failures(self, model: Model) -> dict[str, str]:
        """Of this model."""
        word = {"onnx": CONVERTED, "sklearn": UNCONVERTED}[model]
        return {name: why for name, why in self.failed.items() if f"({word}" in name}

    def judged(self) -> list[Judged]:
        """Every goal."""
        by_model = {model: self.closed(model) for model in self.rounds}
        return [judge(goal, by_model) for goal in GOALS]

    def described(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "servers": medians(self.closed("onnx")),
            "unconverted": medians(self.closed("sklearn")),
            "open_loop": self._median("onnx", "opened"),
            "costs": self._median("onnx", "costs"),
            "unconverted_costs": self._median("sklearn", "costs"),
            "goals": [judged.described() for judged in self.judged()],
            "failed": self.failed,
            "versions": self.versions,
            "machine": self.machine,
            "plan": asdict(self.plan),
        }

    def _median(self, model: Model, what: str) -> dict[str, dict[str, float]]:
        found = {
            name: [values for each in rounds if (values := getattr(each, what))]
            for name, rounds in self.rounds[model].items()
        }
        return {name: median_of(values) for name, values in found.items() if values}


def machine() -> dict[str, Any]:
    """What this was measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def write(folder: Path, results: Results) -> list[Path]:
    """Write ``serving.json``, ``serving.md`` and ``serving.svg``; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    told = results.described()
    files = [folder / f"serving.{kind}" for kind in ("json", "md", "svg")]
    files[0].write_text(json.dumps(finite(told), indent=2) + "\n")
    files[1].write_text(_page(results, told))
    plot(files[2], told["servers"])
    return files


def _page(results: Results, told: Mapping[str, Any]) -> str:
    about = results.machine
    plan = results.plan
    circumstances = (
        f"{about['at']}, {about['cpu']}, {about['cores']} cores, load {about['load_before']} "
        f"before it began; medians of {plan.rounds} interleaved rounds of {plan.seconds:g} s. "
        "How to read them: [../README.md](../README.md)."
    )
    parts = [
        "# Last results of `make bench`",
        circumstances,
        "## ONNX forest, one row a request unless its name says more, one worker",
        table(told["servers"], told["costs"], told["open_loop"], results.failures("onnx")),
        "![requests a second and P95](serving.svg)",
        "## The same forest unconverted (scikit-learn)",
        table(told["unconverted"], told["unconverted_costs"], {}, results.failures("sklearn")),
        "## Goals",
        verdicts(results.judged()),
        "## Versions",
        "\n".join(f"- {name}: {version}" for name, version in results.versions.items()),
    ]
    return "\n\n".join(parts) + "\n"


def table(
    servers: Mapping[str, Mapping[str, Mapping[str, float]]],
    costs: Mapping[str, Mapping[str, float]],
    opened: Mapping[str, Mapping[str, float]],
    failed: Mapping[str, str] | None = None,
) -> str:
    """Markdown; who was not measured is in it with the reason."""
    rate = next((each["rate"] for each in opened.values()), None)
    names = ["server", "RPS at 1 / 16 / 64", "P95 ms at 1 / 16 / 64"]
    names += [f"P50 / P95 / P99 ms at {rate:g}/s"] if rate else []
    names += ["CPU ms a request", "memory MiB", "start-up s", "errors"]
    lines = [names, ["---"] * len(names)]
    for name, levels in servers.items():
        cost = costs.get(name, {})
        at_rate = opened.get(name, {})
        cells = [name, _levels(levels, "rps", ",.0f"), _levels(levels, "p95_ms", ".2f")]
        if rate:
            cells.append(" / ".join(_number(at_rate.get(f"{q}_ms"), ".2f") for q in _QUANTILES))
        cells += [
            _number(cost.get("cpu_ms_per_request"), ".3f"),
            _number(cost.get("memory_mb"), ",.0f"),
            _number(cost.get("startup_s"), ".1f"),
        ]
        errors = sum(each["errors"] for each in levels.values()) + at_rate.get("errors", 0)
        lines.append([*cells, f"{errors:.0f}"])
    for name, why in (failed or {}).items():
        told = f"not measured: {why}".replace("|", "/")
        lines.append([name, told, *["-"] * (len(names) - 2)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


_QUANTILES = ("p50", "p95", "p99")


def verdicts(judged: Sequence[Judged]) -> str:
    """Markdown: each goal, the median of its rounds and their range."""
    lines = ["| goal | wanted | measured | rounds | |", "|---|---|---|---|---|"]
    for each in judged:
        word = {True: "reached", False: "**not reached**", None: "not measured"}[each.reached]
        span = "" if each.value is None else f"{each.low:.2f} to {each.high:.2f}"
        lines.append(
            f"| {each.goal.name} | {each.goal.wanted} | {_number(each.value, '.2f')} | {span} "
            f"| {word} |"
        )
    return "\n".join(lines)


def plot(file: Path, servers: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Requests a second and P95 of each server, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "headgate"  # equal results make equal files
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, 2)
    names = list(servers)
    for panel, (metric, title) in zip(
        panels, (("rps", "requests a second"), ("p95_ms", "P95, ms")), strict=True
    ):
        for index, level in enumerate(_LEVELS):
            shown = [i for i, name in enumerate(names) if level in servers[name]]
            panel.barh(
                [i + (index - 1) * 0.27 for i in shown],
                [servers[names[i]][level][metric] for i in shown],
                height=0.25,
                label=f"{level} connection{'' if level == '1' else 's'}",
            )
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:,g}")
        panel.xaxis.set_minor_formatter("")
        panel.set_title(f"{title} (logarithmic)")
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        panel.grid(axis="x", alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(file, metadata={"Date": None})


def _levels(levels: Mapping[str, Mapping[str, float]], metric: str, form: str) -> str:
    return " / ".join(_number(levels.get(level, {}).get(metric), form) for level in _LEVELS)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def finite(told: Any) -> Any:
    """JSON has no infinity: what was never answered is null."""
    if isinstance(told, dict):
        return {key: finite(value) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [finite(value) for value in told]
    if isinstance(told, float):
        return round(told, 4) if abs(told) != float("inf") else None
    return told
