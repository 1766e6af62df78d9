"""How often the gate is wrong: thousands of drawn runs, judged by the real judge.

What it draws and how to read it: benchmarks/README.md. Writes ``gate_simulated.json`` and
``gate_simulated.md``. Ends with 0 when all that is asked was reached, 1 otherwise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.environments import ROOT
from benchmarks.harness.gate_machine import SAME, Change
from benchmarks.harness.gate_runs import JOB_S, PROFILE, Ended, simulate
from benchmarks.harness.report import finite, machine
from headgate.stats import clopper_pearson

_OUTCOMES = ("pass", "fail", "inconclusive")
_CHUNK = 20
"""Runs at a time."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the candidate is, and what is asked of the gate."""

    change: Change = SAME
    runs: int
    shared: bool = True
    """Whether another process comes and goes on the machine."""
    rate: float = PROFILE.rate
    most: Mapping[str, float] | None = None
    """The largest share of each outcome that is asked for; None: published only."""
    median_s: float | None = None
    """The longest median time to the verdict."""


SCENARIOS = {
    "the same": Scenario(runs=1_000, most={"fail": 0.01, "inconclusive": 0.05}),
    "the same, machine not shared": Scenario(runs=300, shared=False),
    "the same, half the rate": Scenario(runs=200, rate=PROFILE.rate / 2),
    "10 % faster": Scenario(change=Change(slower=0.9), runs=400, most={"fail": 0.01}, median_s=90),
    "at the margin (+5 %)": Scenario(change=Change(slower=1.05), runs=500),
    "+10 %": Scenario(change=Change(slower=1.10), runs=500, most={"pass": 0.05}),
    "+25 %": Scenario(
        change=Change(slower=1.25),
        runs=3_000,
        most={"pass": 0.001, "inconclusive": 0.001},
        median_s=90,
    ),
    "1 % errors": Scenario(
        change=Change(errors=0.01),
        runs=3_000,
        most={"pass": 0.001, "inconclusive": 0.001},
        median_s=90,
    ),
    "1 wrong in 1,000": Scenario(
        change=Change(wrong=0.001),
        runs=2_000,
        most={"pass": 0.01, "inconclusive": 0.01},
        median_s=90,
    ),
    "pauses of its own": Scenario(change=Change(pauses=0.1), runs=200),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and judge; returns the exit code."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    runs: dict[str, list[Ended]] = {name: [] for name in SCENARIOS}
    share = 0.004 if options.quick else 1.0
    with multiprocessing.Pool(options.processes) as pool:
        for name, ended in pool.imap_unordered(_several, _chunks(share)):
            runs[name] += ended
            if time.monotonic() - began > 60 * options.minutes:
                print("time is up: fewer runs than planned", file=sys.stderr)
                break
    told: dict[str, Any] = {
        "scenarios": {name: _told(SCENARIOS[name], ended) for name, ended in runs.items()},
        "machine": machine(),
        "seconds": time.monotonic() - began,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gate_simulated.json").write_text(json.dumps(finite(told), indent=1) + "\n")
    (options.out / "gate_simulated.md").write_text(_page(told))
    print(_page(told))
    return 0 if all(each["reached"] is not False for each in told["scenarios"].values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/gate_simulated.py", description="See README.md."
    )
    parser.add_argument("--quick", action="store_true", help="a few runs of each")
    parser.add_argument("--minutes", type=float, default=10, help="judge no longer than that")
    parser.add_argument(
        "--processes", type=int, default=len(os.sched_getaffinity(0)), help="at a time"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results"
    )
    return parser


def _chunks(share: float) -> Iterator[tuple[str, int, int]]:
    """``(scenario, first seed, runs)``, the scenarios in turn as far as each goes."""
    queues = []
    for index, (name, scenario) in enumerate(SCENARIOS.items()):
        count = max(2, int(share * scenario.runs))
        starts = range(0, count, _CHUNK)
        queues.append(
            [(name, 1_000_000 * index + start, min(_CHUNK, count - start)) for start in starts]
        )
    for turn in itertools.zip_longest(*queues):
        yield from (chunk for chunk in turn if chunk is not None)


def _several(chunk: tuple[str, int, int]) -> tuple[str, list[Ended]]:
    name, first, count = chunk
    scenario = SCENARIOS[name]
    longer = PROFILE.rate / scenario.rate
    profile = msgspec.structs.replace(
        PROFILE, rate=scenario.rate, block_s=min(1.0, PROFILE.block_s * longer)
    )
    return name, [
        simulate(scenario.change, seed, profile, shared=scenario.shared)
        for seed in range(first, first + count)
    ]


def _told(scenario: Scenario, ended: Sequence[Ended]) -> dict[str, Any]:
    """What became of the runs of a scenario."""
    count = len(ended)
    outcomes = Counter(run.outcome for run in ended)
    shares = {
        name: {
            "runs": outcomes[name],
            "share": outcomes[name] / count if count else 0.0,
            "interval": clopper_pearson(outcomes[name], count),
        }
        for name in _OUTCOMES
    }
    seconds = [run.seconds for run in ended]
    ratios = [run.p95_ratio for run in ended if run.p95_ratio is not None]
    median_s = float(np.median(seconds)) if seconds else 0.0
    return {
        "runs": count,
        "outcomes": shares,
        "median_s": median_s,
        "seconds": np.quantile(seconds, (0.05, 0.25, 0.75, 0.95)).tolist() if seconds else [],
        "p95_ratio": np.quantile(ratios, (0.05, 0.5, 0.95)).tolist() if ratios else [],
        "decisive": dict(Counter(name for run in ended for name in run.decisive)),
        "fixed_passes": sum(run.fixed for run in ended) / count if count else 0.0,
        "same_job_passes": sum(run.same_job for run in ended) / count if count else 0.0,
        "asked": _asked(scenario),
        "reached": _reached(scenario, shares, median_s) if count else None,
    }


def _asked(scenario: Scenario) -> str:
    parts = [f"{name} at most {100 * most:g} %" for name, most in (scenario.most or {}).items()]
    if scenario.median_s is not None:
        parts.append(f"median under {scenario.median_s:g} s")
    return ", ".join(parts) or "published only"


def _reached(
    scenario: Scenario, shares: Mapping[str, Mapping[str, Any]], median_s: float
) -> bool | None:
    if scenario.most is None:
        return None
    in_time = scenario.median_s is None or median_s < scenario.median_s
    return in_time and all(shares[name]["share"] <= most for name, most in scenario.most.items())


def _page(told: Mapping[str, Any]) -> str:
    """Markdown."""
    head = (
        "candidate",
        "runs",
        *_OUTCOMES,
        "median, s",
        "asked",
        "reached",
        "fixed threshold, earlier job: passes",
        "the same job: passes",
    )
    rows = [head, ("---",) * len(head)]
    for name, found in told["scenarios"].items():
        outcomes = [_share(found["outcomes"][outcome]) for outcome in _OUTCOMES]
        rows.append(
            (
                name,
                f"{found['runs']:,}",
                *outcomes,
                f"{found['median_s']:.0f}",
                found["asked"],
                {True: "yes", False: "**no**", None: ""}[found["reached"]],
                f"{found['fixed_passes']:.1%}",
                f"{found['same_job_passes']:.1%}",
            )
        )
    total = sum(found["runs"] for found in told["scenarios"].values())
    about = (
        f"{told['machine']['at']}: {total:,} runs of up to {PROFILE.budget_s:g} s each, drawn and "
        f"judged in {told['seconds']:.0f} s; shares with their 95 % intervals. A fixed threshold "
        f"measures {JOB_S:g} s and lets P95 pass up to 1.05 times that of an earlier job, or of "
        "the same job, and up to 0.1 % errors. How to read them: [../README.md](../README.md)."
    )
    table = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(
        ["# Last results of `benchmarks/gate_simulated.py`", "", about, "", *table, ""]
    )


def _share(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{100 * found['share']:.1f} % ({100 * low:.2f} to {100 * high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
