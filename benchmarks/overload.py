"""Headgate under more than it can do, beside hostile clients, and over a million answers.

What it measures and how to read it: benchmarks/README.md. Writes ``overload.json`` and
``overload.md``. Ends with 0 when all was measured and no answer was wrong, 1 otherwise, 2 when it
was asked for what there is not, wrk among that.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import wrk
from benchmarks.harness.environments import HOME, ROOT
from benchmarks.harness.experiments import (
    TREES,
    OverloadPlan,
    check_answers,
    overload_experiment,
    slow_experiment,
)
from benchmarks.harness.forest import make_forest
from benchmarks.harness.process import NotStartedError
from benchmarks.harness.protocols import WrongAnswerError
from benchmarks.harness.report import finite, machine

MILLION = 1_000_000
_TROUBLE = (NotStartedError, WrongAnswerError, wrk.WrkError, RuntimeError, OSError, HTTPException)
_FILES = 10_000
"""File descriptors: slow sockets, and a connection for each request that waits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        wrk.require()
    except wrk.WrkError as error:
        print(error, file=sys.stderr)
        return 2
    requests = options.requests if options.million else 0
    rounds, seconds = (1, 2) if options.quick else (5, 5)
    slow_s = 2 if options.quick else OverloadPlan.slow_s
    plan = OverloadPlan(rounds=rounds, seconds=seconds, slow_s=slow_s, requests=requests)
    _allow_many_files()
    began = time.monotonic()
    about = {"machine": machine(), "plan": asdict(plan)}
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME, prefix="run-") as scratch:
        folder = Path(scratch)
        print("fitting and packaging the forest", flush=True)
        forest = make_forest(folder / "model")
        try:
            told = {
                "overload": {
                    f"{trees} trees": overload_experiment(trees, plan, folder) for trees in TREES
                },
                "slow_sockets": slow_experiment(forest, plan, folder),
                "million": check_answers(plan, folder) if plan.requests else None,
            }
        except _TROUBLE as error:
            print(f"not measured: {error}", file=sys.stderr)
            return 1
    files = _write(options.out, {**told, **about})
    print(_page(told, about["machine"]))
    print(f"{time.monotonic() - began:.0f} s; written: {', '.join(str(file) for file in files)}")
    checked = told["million"]
    return 1 if checked and checked["right"] != checked["asked"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/overload.py", description="See README.md.")
    parser.add_argument("--quick", action="store_true", help="one round of two seconds each")
    parser.add_argument("--million", action="store_true", help="also check a million answers")
    parser.add_argument(
        "--requests", type=int, default=MILLION, help="instead of a million", metavar="N"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results"
    )
    return parser


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, hard), hard))


def _write(folder: Path, told: Mapping[str, Any]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"overload.{kind}" for kind in ("json", "md")]
    files[0].write_text(json.dumps(finite(told), indent=2) + "\n")
    files[1].write_text(_page(told, told["machine"]))
    return files


def _page(told: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Markdown."""
    found, slow, checked = told["overload"], told["slow_sockets"], told["million"]
    circumstances = (
        f"{about['at']}, {about['cpu']}, {about['cores']} cores, load {about['load_before']} "
        "before it began. How to read them: [../README.md](../README.md)."
    )
    parts = [
        "# Last results of `benchmarks/overload.py`",
        circumstances,
        *(part for trees, load in found.items() for part in _overload(trees, load)),
        f"## {slow['sockets']} slow sockets, {slow['rate']:g} requests/s beside them",
        _table(
            [["", "P50 ms", "P95 ms", "P99 ms", "failed", "generator late ms"]]
            + [
                [name, *(f"{value:.2f}" for value in slow[name].values())]
                for name in ("without", "elsewhere", "beside")
            ]
        ),
        (
            f"P95 beside them over P95 without: {slow['p95_ratio']:.2f}; over P95 while they write "
            f"elsewhere: {slow['p95_ratio_of_the_server']:.2f} (medians of the rounds)."
        ),
    ]
    if checked:
        outcome = (
            f"{checked['right']:,} right, {checked['wrong']} wrong, {checked['failed']} refused or "
            f"failed, {checked['lost']} lost, in {checked['seconds']:.0f} s on "
            f"{checked['connections']} connections. The chance that another row's answer would "
            f"pass for a row's own: {checked['mistakable']:.1e}."
        )
        title = f"## {checked['asked']:,} requests, every answer checked"
        parts += [title, outcome, *checked["examples"]]
    return "\n\n".join(parts) + "\n"


def _overload(trees: str, found: Mapping[str, Any]) -> list[str]:
    return [
        f"## Overload: a forest of {trees}, capacity {found['capacity_rps']:,.0f} requests/s",
        _table(
            [["load", "goodput/s", "in time", "refused", "failed", "P95 ms", "generator late ms"]]
            + [
                [
                    name,
                    f"{load['goodput']:,.0f}",
                    f"{load['in_time']:.2%}",
                    f"{load['refused']:.1%}",
                    f"{load['failed']:.2%}",
                    f"{load['p95_ms']:.1f}",
                    f"{load['generator_late_p95_ms']:.2f}",
                ]
                for name, load in found["loads"].items()
            ]
        ),
        f"Goodput at the highest load over that at the lowest: {found['goodput_ratio']:.2f}.",
        *_refusals(found),
    ]


def _refusals(found: Mapping[str, Any]) -> list[str]:
    """What refusing takes, where anything was refused."""
    if not (cost := found["refusal_us"]):
        return []
    heavy = list(found["loads"].values())[-1]
    whole_us = cost["user"] + cost["system"]
    share = 1e-6 * heavy["refused"] * heavy["rate"]
    return [
        (
            f"A refusal takes {whole_us:.0f} µs of a processor, {cost['system']:.0f} of them in the kernel: "
            f"at the highest load {share * whole_us:.0%} of one, {share * cost['system']:.0%} in the kernel."
        )
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
