"""How often the gate is wrong: real runs on this machine, while another process comes and goes.

What it measures and how to read it: benchmarks/README.md. Adds to ``gate.json`` and writes
``gate.md``; interrupted, it goes on where it was with the next call.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.environments import ROOT
from benchmarks.harness.neighbour import neighbour
from benchmarks.harness.report import finite, machine
from benchmarks.harness.target import Behaviour, target
from headgate.pipeline import Endpoint, Judged, Wanted, gate_url
from headgate.records import Side
from headgate.stats import clopper_pearson, quantile

_P95_MS = (12.0, 25.0, 50.0)
"""Of the champion, in turn."""
_MARGIN = Wanted().max_p95_ratio


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the candidate is, beside the champion."""

    slower: float = 1.0
    error_rate: float = 0.0
    wrong_rate: float = 0.0
    runs: int = 8
    asks: str = ""
    """What is asked of the gate."""


SCENARIOS = {
    "the same": Scenario(runs=24, asks="false fail at most 1 %, inconclusive at most 5 %"),
    "at the margin (+5 %)": Scenario(slower=1.05, asks="published only"),
    "+10 %": Scenario(slower=1.10, asks="not passed at least 95 %"),
    "+25 %": Scenario(slower=1.25, asks="failed at least 99.9 %"),
    "1 % errors": Scenario(error_rate=0.01, runs=6, asks="failed at least 99.9 %"),
    "1 wrong in 1,000": Scenario(wrong_rate=0.001, runs=6, asks="failed at least 99 %"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "gate.json"
    told = json.loads(file.read_text()) if file.is_file() else {"runs": []}
    told["machine"] = machine()
    ends = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory() as name:
        request = Path(name) / "request.json"
        request.write_text('{"x": 21}')
        while (scenario := _next(told["runs"], options.share)) and time.monotonic() < ends:
            run = _run(scenario, len(told["runs"]), request)
            told["runs"].append(run)
            print(f"{scenario}: {run['outcome']} after {run['seconds']:.0f} s", flush=True)
            file.write_text(json.dumps(finite(told), indent=1) + "\n")
            (options.out / "gate.md").write_text(_page(told))
    print(_page(told))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/gate.py", description="See README.md.")
    parser.add_argument("--minutes", type=float, default=120, help="begin no run after so many")
    parser.add_argument("--share", type=float, default=1.0, help="of the runs of each scenario")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results"
    )
    return parser


def _next(runs: Sequence[Mapping[str, Any]], share: float) -> str | None:
    """The scenario that is furthest behind; None when all are done."""
    done = {name: sum(run["scenario"] == name for run in runs) for name in SCENARIOS}
    left = {
        name: done[name] / (share * each.runs)
        for name, each in SCENARIOS.items()
        if done[name] < share * each.runs
    }
    return min(left, key=lambda name: left[name], default=None)


def _run(name: str, number: int, request: Path) -> dict[str, Any]:
    """One gate run."""
    scenario = SCENARIOS[name]
    p95_ms = _P95_MS[number % len(_P95_MS)]
    candidate = Behaviour(
        p95_ms=p95_ms * scenario.slower,
        error_rate=scenario.error_rate,
        wrong_rate=scenario.wrong_rate,
        seed=2 * number,
    )
    began = time.monotonic()
    with (
        target(candidate) as url,
        target(Behaviour(p95_ms=p95_ms, seed=2 * number + 1)) as against,
        neighbour(number),
    ):
        endpoint = Endpoint(url=url, request=request, against=against, rate=200, same=True)
        judged = gate_url(endpoint, Wanted(), lambda _: None)
    ratio = next((check for check in judged.verdict.checks if check.name == "p95_ratio"), None)
    return {
        "scenario": name,
        "champion_p95_ms": p95_ms,
        "outcome": judged.verdict.outcome.value,
        "reason": judged.verdict.reason,
        "seconds": time.monotonic() - began,
        "requests": judged.verdict.samples,
        "ratio": ratio.observed if ratio else None,
        "interval": ratio.interval if ratio else None,
        **_thresholds(judged),
    }


def _thresholds(judged: Judged) -> dict[str, float | None]:
    """What a gate with a fixed threshold would look at: one P95 of each, of the whole run."""
    if judged.evidence is None or judged.evidence.champion is None:
        return {"candidate_p95_ms": None, "champion_seen_p95_ms": None}
    return {
        "candidate_p95_ms": _p95_ms(judged.evidence.candidate),
        "champion_seen_p95_ms": _p95_ms(judged.evidence.champion),
    }


def _p95_ms(side: Side) -> float:
    (samples,) = side.samples
    return 1e3 * quantile(np.where(samples.ok, samples.latency_s, np.inf), 0.95)


def _page(told: Mapping[str, Any]) -> str:
    """Markdown."""
    rows = [
        "| candidate | runs | pass | fail | inconclusive | median time, s | fixed threshold: fail | asked |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, scenario in SCENARIOS.items():
        runs = [run for run in told["runs"] if run["scenario"] == name]
        if runs:
            rows.append(_row(name, scenario, runs, told["runs"]))
    about = told["machine"]
    circumstances = (
        f"{about['at']}, {about['cpu']}, {about['cores']} cores, one of them busy with something "
        "else now and then. How to read them: [../README.md](../README.md)."
    )
    return "\n".join(
        [
            "# Last results of `benchmarks/gate.py`",
            "",
            circumstances,
            "",
            *rows,
            "",
        ]
    )


def _row(
    name: str,
    scenario: Scenario,
    runs: Sequence[Mapping[str, Any]],
    every: Sequence[Mapping[str, Any]],
) -> str:
    count = len(runs)
    outcomes = [run["outcome"] for run in runs]
    parts = []
    for outcome in ("pass", "fail", "inconclusive"):
        hits = outcomes.count(outcome)
        low, high = clopper_pearson(hits, count)
        parts.append(f"{hits} ({100 * low:.0f} to {100 * high:.0f} %)")
    seconds = float(np.median([run["seconds"] for run in runs]))
    fixed = sum(_fixed_fails(run, every) for run in runs)
    return (
        f"| {name} | {count} | {' | '.join(parts)} | {seconds:.0f} | {fixed} of {count} | "
        f"{scenario.asks} |"
    )


def _fixed_fails(run: Mapping[str, Any], every: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a fixed threshold would have failed it: the champion's P95 of an earlier job, and 5 %."""
    earlier = [
        other["champion_seen_p95_ms"]
        for other in every
        if other is not run
        and other["champion_p95_ms"] == run["champion_p95_ms"]
        and other["champion_seen_p95_ms"] is not None
    ]
    if not earlier or run["candidate_p95_ms"] is None:
        return False
    return bool(run["candidate_p95_ms"] > _MARGIN * earlier[0])


if __name__ == "__main__":
    sys.exit(main())
