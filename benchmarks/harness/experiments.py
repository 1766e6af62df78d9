"""The three experiments of `benchmarks/overload.py`, each on a server of its own."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import million, wrk
from benchmarks.harness.client import request_bytes
from benchmarks.harness.environments import HOME
from benchmarks.harness.forest import NAME, Forest, make_forest, make_regressor, make_root
from benchmarks.harness.openloop import Offered
from benchmarks.harness.overload import (
    Disturbed,
    Load,
    disturb,
    medians,
    overload,
    refusal_us,
)
from benchmarks.harness.process import HOST, ask, free_ports, running
from benchmarks.harness.protocols import body_of
from benchmarks.harness.servers import SERVERS, clean_environment, headgate_command, serve

__all__ = [
    "FACTORS",
    "TREES",
    "OverloadPlan",
    "check_answers",
    "overload_experiment",
    "slow_experiment",
]

HEADGATE = SERVERS[0]
PATH = f"/v2/models/{NAME}/infer"
FACTORS = (1, 5)
TREES = (500, 100)
"""Of the forest that is overloaded: a dear one, and one so cheap that refusals cost as much."""
SCORES = "scores"
_KINDS = ("onnx", "sklearn")
CONNECTIONS = 64


@dataclass(frozen=True, kw_only=True)
class OverloadPlan:
    """How long, how many."""

    rounds: int
    seconds: float
    rows: int = 16
    """In a request of the overload, so that what one generator can send is many times too much."""
    deadline_s: float = 0.5
    slow: int = 1000
    slow_s: float = 12
    """Longer than the patience of a server, so that sockets are closed and come back."""
    slow_rate: float = 500
    """Requests a second beside the slow sockets."""
    requests: int = 0
    """Of the run in which every answer is checked."""


def overload_experiment(trees: int, plan: OverloadPlan, folder: Path) -> dict[str, Any]:
    """An unconverted forest, offered what it can do and several times that."""
    forest = make_forest(folder / f"{trees}-trees", trees=trees)
    starts = range(len(forest.rows))
    bodies = [
        body_of("tensors", forest.rows.take(range(start, start + plan.rows), 0, mode="wrap"))
        for start in starts
    ]
    lines = folder / "overload.bodies"
    wrk.write(lines, bodies)
    deadline = f"{plan.deadline_s * 1000:g}"
    requests = [request_bytes(PATH, body, x_headgate_deadline_ms=deadline) for body in bodies]
    with serve(HEADGATE, forest, "sklearn", folder / f"overload-{trees}", apart=False) as server:
        url = f"http://{HOST}:{server.port}{PATH}"
        wrk.load(url, lines, connections=CONNECTIONS, seconds=1)
        capacity = wrk.load(url, lines, connections=CONNECTIONS, seconds=plan.seconds).rps
        print(f"{trees} trees: capacity {capacity:,.0f} requests/s of {plan.rows} rows", flush=True)
        rounds: dict[int, list[Load]] = {factor: [] for factor in FACTORS}
        for number in range(plan.rounds):
            for factor in FACTORS:
                load = overload(
                    server,
                    requests,
                    rate=capacity * factor,
                    seconds=plan.seconds,
                    deadline_s=plan.deadline_s,
                )
                rounds[factor].append(load)
                print(
                    f"round {number + 1}/{plan.rounds}  {factor}x: goodput {load.goodput:,.0f}/s, "
                    f"{load.in_time:.2%} of the accepted in time, {load.refused:.1%} refused",
                    flush=True,
                )
    light, heavy = (medians(rounds[factor]) for factor in FACTORS)
    return {
        "capacity_rps": capacity,
        "loads": {
            f"{factor}x": load.described()
            for factor, load in zip(FACTORS, (light, heavy), strict=True)
        },
        "goodput_ratio": heavy.goodput / light.goodput if light.goodput else None,
        "refusal_us": refusal_us(light, heavy),
    }


def slow_experiment(forest: Forest, plan: OverloadPlan, folder: Path) -> dict[str, Any]:
    """The converted forest at a steady rate, without and with slow sockets."""
    bodies = [body_of("tensors", forest.rows[i : i + 1]) for i in range(len(forest.rows))]
    requests = [request_bytes(PATH, body) for body in bodies]
    runs: list[Disturbed] = []
    with serve(HEADGATE, forest, "onnx", folder / "slow", apart=False) as server:
        for number in range(plan.rounds):
            run = disturb(
                server.port,
                PATH,
                requests,
                rate=plan.slow_rate,
                seconds=plan.slow_s,
                count=plan.slow,
            )
            runs.append(run)
            p95 = [f"{each.quantile_ms(0.95):.2f}" for each in run]
            print(
                f"round {number + 1}/{plan.rounds}  P95 {p95[0]} ms, {p95[1]} ms with {plan.slow} "
                f"slow sockets to somebody else, {p95[2]} ms with them here",
                flush=True,
            )
    kinds = {name: [getattr(run, name) for run in runs] for name in Disturbed._fields}
    return {
        "sockets": plan.slow,
        "rate": plan.slow_rate,
        **{name: _described(loads) for name, loads in kinds.items()},
        "p95_ratio": _p95_ratio(kinds["beside"], kinds["without"]),
        "p95_ratio_of_the_server": _p95_ratio(kinds["beside"], kinds["elsewhere"]),
    }


def _p95_ratio(loads: Sequence[Offered], others: Sequence[Offered]) -> float:
    ratios = (
        load.quantile_ms(0.95) / other.quantile_ms(0.95)
        for load, other in zip(loads, others, strict=True)
    )
    return statistics.median(ratios)


def check_answers(plan: OverloadPlan, folder: Path) -> dict[str, Any]:
    """Distinct rows, half of them to the converted regressor and half to the unconverted."""
    print(
        "fitting and packaging a regressor, which has a value of its own for each row", flush=True
    )
    model = make_regressor(folder / "regressor", SCORES)
    names = (SCORES, f"{SCORES}-sklearn")
    artifacts = [(name, model.folder / kind) for name, kind in zip(names, _KINDS, strict=True)]
    # In a closed loop nothing is too late: the answers are judged here, not the time.
    root = make_root(folder / "scores", artifacts, "deadline_ms = 60000\n")
    print(f"making {plan.requests:,} rows and the model's own values", flush=True)
    question = million.make_questions(model, plan.requests)
    paths = tuple(f"/v2/models/{name}/infer" for name in names)
    (port,) = free_ports(1)
    first = body_of("tensors", question.rows[:1])

    def check() -> None:
        for path in paths:
            ask(port, path, first)

    with running(
        headgate_command(root, port),
        port=port,
        env=clean_environment(folder),
        cwd=folder,
        log=HOME / "logs" / "million.log",
        check=check,
        apart=False,
    ):
        checked = million.ask_all(port, paths, question, CONNECTIONS)
    return {**checked.described(), "mistakable": question.mistakable, "connections": CONNECTIONS}


def _described(loads: Sequence[Offered]) -> dict[str, float]:
    found = {
        f"p{share}_ms": statistics.median(each.quantile_ms(share / 100) for each in loads)
        for share in (50, 95, 99)
    }
    found["failed"] = sum(int((~each.ok).sum()) for each in loads)
    found["generator_late_p95_ms"] = statistics.median(each.late_p95_ms for each in loads)
    return found
