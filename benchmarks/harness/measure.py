"""One server, one round: what is asked of it and what it costs."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import calls, messages, wrk
from benchmarks.harness.client import request_bytes
from benchmarks.harness.forest import Forest
from benchmarks.harness.openloop import offer
from benchmarks.harness.process import HOST, Running
from benchmarks.harness.protocols import Target, body_of, headers_of
from benchmarks.harness.wrk import Measured

__all__ = ["Plan", "Round", "measure", "measure_alone"]

_COST_AT = 16
"""Connections at which processor time per request is told."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, how many, how fast."""

    rounds: int
    seconds: float
    warmup_s: float
    rate: float
    """Requests a second of the open loop."""
    connections: tuple[int, ...] = (1, 16, 64)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round said about one endpoint."""

    closed: dict[str, dict[str, float]] = field(default_factory=dict)
    """By number of connections."""
    opened: dict[str, float] = field(default_factory=dict)
    """The open loop."""
    costs: dict[str, float] = field(default_factory=dict)
    """Start-up, memory, processor time."""


def measure(
    server: Running,
    target: Target,
    forest: Forest,
    plan: Plan,
    folder: Path,
    *,
    connections: Sequence[int],
    open_loop: bool,
    batch: int | None = None,
) -> Round:
    """Load one endpoint of a server that runs; raises :class:`wrk.WrkError`.

    Of a WebSocket, ``connections`` are messages in flight on a single one. ``batch`` are the rows of
    a request, where they are not those of the target.
    """
    size = batch or target.batch
    starts = range(len(forest.rows))
    taken = [forest.rows.take(range(at, at + size), 0, mode="wrap") for at in starts]
    rows = [body_of(target.kind, each) for each in taken]
    bodies = folder / f"{target.name}.bodies"
    wrk.write(bodies, rows)
    url = f"http://{HOST}:{server.port}{target.path}"

    def load(count: int, seconds: float) -> Measured:
        if target.kind == "messages":
            return messages.load(server.port, target.path, rows, in_flight=count, seconds=seconds)
        if target.kind == "calls":
            port = server.grpc_port
            return calls.load(port, target.path, rows, connections=count, seconds=seconds)
        headers = headers_of(target.kind, taken[0])
        return wrk.load(url, bodies, connections=count, seconds=seconds, headers=headers)

    load(_COST_AT, plan.warmup_s)
    found = Round(costs={"startup_s": server.startup_s})
    for count in sorted(set(connections).intersection(target.connections)):
        before = server.cpu_s()
        measured = load(count, plan.seconds)
        used = server.cpu_s() - before
        found.closed[str(count)] = measured.described()
        if count == _COST_AT and measured.rps > 0:
            found.costs["cpu_ms_per_request"] = used * 1e3 / (measured.rps * plan.seconds)
    if open_loop and target.batch == 1 and target.kind not in ("messages", "calls"):
        requests = [request_bytes(target.path, body) for body in rows]
        offered = offer(server.port, requests, rate=plan.rate, seconds=plan.seconds)
        found.opened.update(
            rate=plan.rate,
            p50_ms=offered.quantile_ms(0.5),
            p95_ms=offered.quantile_ms(0.95),
            p99_ms=offered.quantile_ms(0.99),
            errors=int((~offered.ok).sum()),
            generator_late_p95_ms=offered.late_p95_ms,
        )
    found.costs["memory_mb"] = server.memory_mb()
    return found


def measure_alone(forest: Forest, plan: Plan) -> Round:
    """Call the estimator with one row after the other in this process."""
    rows = [forest.rows[i : i + 1] for i in range(len(forest.rows))]
    seconds: list[float] = []
    gc.collect()
    end = time.perf_counter() + plan.seconds
    while (began := time.perf_counter()) < end:
        forest.model.predict_proba(rows[len(seconds) % len(rows)])
        seconds.append(time.perf_counter() - began)
    ordered = sorted(seconds)

    def quantile_ms(share: float) -> float:
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1e3

    return Round(
        closed={
            "1": {
                "rps": len(seconds) / sum(seconds),
                "p50_ms": quantile_ms(0.5),
                "p95_ms": quantile_ms(0.95),
                "p99_ms": quantile_ms(0.99),
                "errors": 0,
            }
        }
    )
