"""What Headgate sets out to reach beside others, and whether it did."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ALONE", "GOALS", "WORKERS", "Goal", "Judged", "judge", "medians", "ratio"]

Model = Literal["onnx", "sklearn"]
Rounds = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""By endpoint and number of connections, one entry a round."""

ALONE = "model-alone"
"""The estimator without a server: the calls a second that there could be at one connection."""
WORKERS = {1: "headgate-1-worker", 2: "headgate-2-workers"}
"""Beside each other, with requests of many rows: with few, the calls are the limit, not the rows in them."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One endpoint's number over another's."""

    of: str
    over: str
    at: str
    """Connections."""
    model: Model = "onnx"
    at_least: float | None = None
    below: float | None = None
    metric: Literal["rps", "p95_ms"] = "rps"

    @property
    def name(self) -> str:
        """In words."""
        what = "requests/s" if self.metric == "rps" else "p95"
        model = "" if self.model == "onnx" else ", unconverted forest"
        plural = "" if self.at == "1" else "s"
        return f"{what} of {self.of} / {self.over} at {self.at} connection{plural}{model}"

    @property
    def wanted(self) -> str:
        """The limit, in words."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"< {self.below:g}"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A goal and what was found."""

    goal: Goal
    value: float | None
    """None where one of the two was not measured."""
    low: float | None = None
    """The least of the rounds."""
    high: float | None = None

    @property
    def reached(self) -> bool | None:
        """None where it is not known."""
        if self.value is None:
            return None
        if self.goal.at_least is not None:
            return self.value >= self.goal.at_least
        return self.value < (self.goal.below or 0)

    def described(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "what": self.goal.name,
            "at_least": self.goal.at_least,
            "below": self.goal.below,
            "value": self.value,
            "rounds": [self.low, self.high],
            "reached": self.reached,
        }


_LEVELS = ("1", "16", "64")
GOALS = (
    *(
        Goal(of="headgate", over=peer, at="16", at_least=factor)
        for peer, factor in (
            ("fastapi", 2.2),
            ("pytriton", 5),
            ("mlserver", 8),
            ("litserve", 12),
            ("bentoml", 20),
            ("bare", 0.6),
        )
    ),
    Goal(of="headgate", over="bare", at="64", at_least=0.7),
    Goal(of="headgate", over="bare", at="1", at_least=0.8),
    *(Goal(of="headgate", over="fastapi", at=at, metric="p95_ms", below=1) for at in _LEVELS),
    *(Goal(of="headgate-v1", over="headgate", at=at, at_least=0.9) for at in _LEVELS),
    Goal(of="headgate-typed", over="bentoml", at="16", at_least=4),
    *(
        Goal(of="headgate-ws", over=over, at="64", at_least=1)
        for over in ("headgate", "headgate-v1")
    ),
    *(
        Goal(of="headgate-1000-rows-binary", over="headgate-1000-rows", at=at, at_least=5)
        for at in ("1", "16")
    ),
    *(Goal(of="headgate-grpc", over="mlserver-grpc", at=at, at_least=2) for at in _LEVELS),
    *(Goal(of="headgate-grpc", over="pytriton-grpc", at=at, at_least=2) for at in _LEVELS),
    Goal(of="headgate-grpc", over="bare-grpc", at="16", at_least=1),
    Goal(of="headgate", over="pytriton", at="64", at_least=1.5, model="sklearn"),
    Goal(of="headgate", over=ALONE, at="1", at_least=0.85, model="sklearn"),
    Goal(of=WORKERS[2], over=WORKERS[1], at="64", at_least=1.7, model="sklearn"),
)


def judge(goal: Goal, rounds: Mapping[Model, Rounds]) -> Judged:
    """The median over rounds of the ratio within a round: what both met, neither is blamed for."""
    measured = rounds.get(goal.model, {})
    pairs = [
        [each[goal.metric] for each in measured.get(name, {}).get(goal.at, ())]
        for name in (goal.of, goal.over)
    ]
    ratios = ratio(*pairs)
    if not ratios:
        return Judged(goal=goal, value=None)
    return Judged(goal=goal, value=statistics.median(ratios), low=min(ratios), high=max(ratios))


def ratio(of: Sequence[float], over: Sequence[float]) -> list[float]:
    """Of each round that has both; a round in which ``over`` is 0 says nothing."""
    return [a / b for a, b in zip(of, over, strict=False) if b > 0]


def medians(rounds: Rounds) -> dict[str, dict[str, dict[str, float]]]:
    """Of each number, over the rounds; errors are added up."""
    return {
        name: {level: median_of(each) for level, each in levels.items()}
        for name, levels in rounds.items()
    }


def median_of(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of one endpoint's rounds."""
    return {
        metric: sum(one[metric] for one in each)
        if metric == "errors"
        else statistics.median(one[metric] for one in each)
        for metric in each[0]
    }
