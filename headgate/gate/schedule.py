"""A load profile as blocks of load: how many, how long, at which moments. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from headgate.config import LoadProfile
from headgate.gate.plan import Block, arrivals

__all__ = [
    "LEAST_ROUNDS",
    "Schedule",
    "Turns",
    "closed_block",
    "looks",
    "open_block",
    "peak",
    "rates",
]

LEAST_ROUNDS = 6
"""Rounds before a comparison can be judged: fewer pairs of blocks have no interval."""
BETWEEN_S = 0.15
"""Between two blocks: the answers to the last requests, and the start of the next."""
_STEPS = 8
"""Of a ramp."""
_LOOK_EVERY = 1.08
"""Factor between the numbers of rounds at which the judge is asked, where it is above one round."""


class Schedule:
    """The rounds of a profile: how long a block is, and how many rounds there may be."""

    def __init__(self, profile: LoadProfile, sides: int) -> None:
        """For so many releases in turn."""
        blocks = max(1, math.ceil(profile.duration_s / profile.block_s - 1e-9))
        self.block_s = profile.duration_s / blocks
        self.least = max(blocks, LEAST_ROUNDS) if sides > 1 else blocks
        self.round_s = sides * (self.block_s + BETWEEN_S)
        """Without saturation."""
        self.least_s = self.least * self.round_s
        if profile.saturate_s:
            self.least_s += self.least * sides * (profile.saturate_s + BETWEEN_S)
        self.profile = profile

    def most(self, spent_s: float) -> int:
        """Rounds that there is budget for, ``spent_s`` seconds of which are gone already.

        They are fewer where saturation goes on for longer than the least.
        """
        left_s = self.profile.budget_s - spent_s - self.least_s
        return self.least + max(0, math.floor(left_s / self.round_s))


def looks(least: int, most: int) -> Iterator[int]:
    """Numbers of rounds after which the judge is asked: ``least`` first, ``most`` last."""
    rounds = least
    while rounds < most:
        yield rounds
        rounds = max(rounds + 1, math.ceil(rounds * _LOOK_EVERY - 1e-9))
    yield most


def rates(profile: LoadProfile, rate: float) -> list[tuple[float, float]]:
    """``(rate, seconds)`` one after the other, over the profile's ``duration_s``."""
    whole = profile.duration_s
    if profile.shape == "ramp":
        top = profile.peak
        steps = [rate * (1 + (top - 1) * step / (_STEPS - 1)) for step in range(_STEPS)]
        return [(each, whole / _STEPS) for each in steps]
    if profile.shape == "spike":
        return [(rate, 0.35 * whole), (profile.peak * rate, 0.25 * whole), (rate, 0.4 * whole)]
    return [(rate, whole)]


def peak(profile: LoadProfile) -> tuple[float, float] | None:
    """When the spike begins and ends, seconds from the start; None for other shapes."""
    if profile.shape != "spike":
        return None
    return 0.35 * profile.duration_s, 0.6 * profile.duration_s


class Turns:
    """Whose turn it is: all in random order, then all in another."""

    def __init__(self, values: Sequence[int], random: np.random.Generator) -> None:
        """Of these values, of which there must be one."""
        self._values = np.array(values, dtype=np.int64)
        self._random = random
        self._left = self._values[:0]

    def take(self, count: int) -> npt.NDArray[np.int64]:
        """So many of them; the next time it goes on from there."""
        rounds = -(-max(0, count - len(self._left)) // len(self._values))
        drawn = [self._random.permutation(self._values) for _ in range(rounds)]
        every = np.concatenate([self._left, *drawn])
        self._left = every[count:]
        return every[:count]


def open_block(
    target: int,
    asks: Sequence[Sequence[int] | Turns],
    stages: Sequence[Sequence[tuple[float, float]]],
    random: np.random.Generator,
) -> Block:
    """A block for all models of a target at once.

    Args:
        target: Which one.
        asks: Of each model, the indices of its requests; or whose turn it is, over several blocks.
        stages: Of each model, its ``(rate, seconds)`` one after the other.
        random: Draws the moments and the order.
    """
    at_s, order = [], []
    for mine, rated in zip(asks, stages, strict=True):
        times = arrivals(rated, random)
        at_s.append(times)
        turns = mine if isinstance(mine, Turns) else Turns(mine, random)
        order.append(turns.take(len(times)))
    times, asked = np.concatenate(at_s), np.concatenate(order)
    place = np.argsort(times, kind="stable")
    return Block(
        target=target,
        order=tuple(asked[place].tolist()),
        at_s=tuple(times[place].tolist()),
        seconds=max(sum(seconds for _, seconds in rated) for rated in stages),
    )


def closed_block(
    target: int,
    asks: Sequence[Sequence[int]],
    *,
    seconds: float,
    connections: int,
    random: np.random.Generator,
) -> Block:
    """A block in which there is always a next request, for each model as often."""
    length = max(len(mine) for mine in asks)
    turns = np.stack([Turns(mine, random).take(length) for mine in asks], axis=1)
    return Block(
        target=target,
        order=tuple(turns.ravel().tolist()),
        seconds=seconds,
        connections=connections,
    )
