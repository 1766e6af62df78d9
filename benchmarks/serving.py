"""`make bench`: Headgate beside others, the same model, the same request, interleaved rounds.

What it measures and how to read it: benchmarks/README.md. Writes ``serving.json``, ``serving.md``
and ``serving.svg``. Ends with 0 when Headgate was measured, 1 when it could not be, 2 when it was
asked for what there is not, wrk among that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import wrk
from benchmarks.harness.environments import HOME, ROOT, NotInstalledError
from benchmarks.harness.forest import Engine, Forest, make_forest
from benchmarks.harness.goals import ALONE, WORKERS
from benchmarks.harness.measure import Plan, measure, measure_alone
from benchmarks.harness.process import NotStartedError
from benchmarks.harness.protocols import WrongAnswerError
from benchmarks.harness.report import (
    CONVERTED,
    UNCONVERTED,
    Results,
    machine,
    table,
    verdicts,
    write,
)
from benchmarks.harness.servers import SERVERS, Server, serve, told_version

FULL = Plan(rounds=3, seconds=3, warmup_s=1, rate=200)
_MANY = 64
"""Rows of a request that is to show how workers scale."""
QUICK = Plan(rounds=1, seconds=1, warmup_s=1, rate=200)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One server, started once a round."""

    server: Server
    engine: Engine
    scaling: int | None = None
    """So many workers, anywhere, asked for many rows at a time; else one with a core of its own."""

    @property
    def name(self) -> str:
        """In words."""
        model = {"onnx": CONVERTED, "sklearn": UNCONVERTED}[self.engine]
        name = self.server.name if self.scaling is None else WORKERS[self.scaling]
        return f"{name} ({model})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        wrk.require()
    except wrk.WrkError as error:
        print(error, file=sys.stderr)
        return 2
    plan = QUICK if options.quick else FULL
    results = Results(plan=plan, machine=machine())
    if results.machine["load_before"] > 0.25 * results.machine["cores"]:
        print(f"other programs are at work here (load {results.machine['load_before']})")
    servers = [server for server in SERVERS if not options.only or server.name in options.only]
    servers = _installed(servers, results)
    jobs = _jobs(servers)
    began = time.monotonic()
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME, prefix="run-") as scratch:
        print("fitting and packaging the forests", flush=True)
        forests = {
            trees: make_forest(Path(scratch) / f"{trees}-trees", trees=trees)
            for trees in sorted({server.trees for server in servers})
        }
        for number in range(plan.rounds):
            # Each begins elsewhere, so that nobody is always the one after the heaviest.
            shift = number * len(jobs) // plan.rounds
            for job in [*jobs[shift:], *jobs[:shift]]:
                if job.name not in results.failed:
                    said = _measure(job, forests[job.server.trees], plan, Path(scratch), results)
                    print(f"round {number + 1}/{plan.rounds}  {job.name:32} {said}", flush=True)
            if any(job.engine == "sklearn" for job in jobs):
                results.add("sklearn", ALONE, measure_alone(forests[100], plan))
    _tell(results, options.out, time.monotonic() - began)
    return 1 if any(name.startswith("headgate") for name in results.failed) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/serving.py", description="See README.md.")
    parser.add_argument("--quick", action="store_true", help="one round of one second each")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[server.name for server in SERVERS]
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results"
    )
    return parser


def _installed(servers: Sequence[Server], results: Results) -> list[Server]:
    """Those whose packages are there; the others are told as failed."""
    found = []
    for server in servers:
        try:
            results.versions[server.name] = told_version(server)
        except NotInstalledError as error:
            for engine in server.engines:
                name = Job(server=server, engine=engine).name
                results.failed[name] = f"cannot be installed: {error}"
            print(f"{server.name} cannot be installed: {error}")
        else:
            found.append(server)
    return found


def _jobs(servers: Sequence[Server]) -> list[Job]:
    """Converted and unconverted; of Headgate also one and two workers on the latter."""
    jobs = [
        Job(server=server, engine=engine)
        for engine in ("onnx", "sklearn")
        for server in servers
        if engine in server.engines
    ]
    own = [server for server in servers if server.own and "sklearn" in server.engines]
    return jobs + [
        Job(server=server, engine="sklearn", scaling=count) for server in own for count in WORKERS
    ]


def _measure(job: Job, forest: Forest, plan: Plan, scratch: Path, results: Results) -> str:
    """One round of one server; returns what is to be told of it."""
    folder = scratch / f"{job.server.name}-{job.engine}-{job.scaling}"
    alone = job.engine == "onnx"
    targets = job.server.targets if alone else job.server.targets[:1]
    said = []
    try:
        with serve(
            job.server, forest, job.engine, folder, workers=job.scaling or 1, apart=not job.scaling
        ) as running:
            for target in targets:
                measured = measure(
                    running,
                    target,
                    forest,
                    plan,
                    folder,
                    connections=plan.connections[-1:] if job.scaling else plan.connections,
                    open_loop=alone,
                    batch=_MANY if job.scaling else None,
                )
                name = WORKERS[job.scaling] if job.scaling else target.name
                results.add(job.engine, name, measured)
                said.append(" / ".join(f"{each['rps']:,.0f}" for each in measured.closed.values()))
    except (NotStartedError, WrongAnswerError, wrk.WrkError, OSError, HTTPException) as error:
        results.failed[job.name] = f"{type(error).__name__.removesuffix('Error')}: {error}"
        return f"failed: {error}"
    return "   ".join(said)


def _tell(results: Results, out: Path, seconds: float) -> None:
    files = write(out, results)
    told = results.described()
    print("\nONNX forest, one row a request, one worker")
    print(table(told["servers"], told["costs"], told["open_loop"], results.failures("onnx")))
    print("\nThe same forest unconverted")
    print(table(told["unconverted"], told["unconverted_costs"], {}, results.failures("sklearn")))
    print(f"\n{verdicts(results.judged())}")
    print(f"\n{seconds:.0f} s; written: {', '.join(str(file) for file in files)}")


if __name__ == "__main__":
    sys.exit(main())
