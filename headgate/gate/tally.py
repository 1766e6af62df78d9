"""What was seen of one side of a load test so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headgate.gate.answers import Compared
from headgate.gate.plan import Seen
from headgate.gate.subject import Asked, Subject
from headgate.records import Samples, Saturation, Side

__all__ = ["Tally", "saturated"]

_SETTLE = 0.1
"""Share of a block in closed loop after which its requests count: the connections come first."""
_Floats = npt.NDArray[np.float64]


def saturated(done_s: _Floats, seconds: float, right: npt.NDArray[np.bool_]) -> float:
    """Answers per second of a block in closed loop."""
    counts = right & (done_s > _SETTLE * seconds) & (done_s <= seconds)
    return int(counts.sum()) / ((1 - _SETTLE) * seconds)


@dataclass(slots=True)
class _Found:
    """What came of one model's requests at a chosen rate; each array is of a block.

    The answers themselves are not kept: an hour of them may be larger than memory.
    """

    block: list[npt.NDArray[np.int64]] = field(default_factory=list)
    intended_s: list[_Floats] = field(default_factory=list)
    sent_s: list[_Floats] = field(default_factory=list)
    latency_s: list[_Floats] = field(default_factory=list)
    ok: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    matched: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Tally:
    """What was seen of one side so far."""

    subject: Subject
    asks: list[list[int]] = field(default_factory=list)
    """Of each model, the indices of its requests among the side's."""
    found: list[_Found] = field(default_factory=list)
    """Of each model, in open loop."""
    duration_s: float = 0.0
    rounds: list[int] = field(default_factory=list)
    rps: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        start = 0
        for asked in self.subject.asked:
            self.asks.append(list(range(start, start + len(asked.asks))))
            self.found.append(_Found())
            start += len(asked.asks)

    def by_model(self, seen: Seen) -> Iterator[tuple[int, Seen, Compared]]:
        """Each model's share of a block, judged."""
        ask = np.array(seen.ask, dtype=np.int64)
        for index, (mine, asked) in enumerate(zip(self.asks, self.subject.asked, strict=True)):
            chosen = np.flatnonzero((ask >= mine[0]) & (ask <= mine[-1])).tolist()
            share = _only(seen, chosen)
            yield (
                index,
                share,
                asked.answers.compare(
                    [each - mine[0] for each in share.ask],
                    share.status,
                    [share.answers[each] for each in share.answer],
                ),
            )

    def add_open(self, block_s: float, first: int, began_s: float, seen: Seen) -> None:
        """A block in open loop, of the rounds from ``first`` on, ``block_s`` seconds each."""
        for index, share, compared in self.by_model(seen):
            at_s = np.array(share.at_s, dtype=np.float64)
            found = self.found[index]
            found.block.append(first + (at_s / block_s).astype(np.int64))
            found.intended_s.append(began_s + at_s)
            found.sent_s.append(began_s + np.array(share.sent_s, dtype=np.float64))
            found.latency_s.append(np.array(share.done_s, dtype=np.float64) - at_s)
            found.ok.append(compared.ok)
            found.matched.append(compared.matched)
            found.errors.update(compared.errors)

    def add_closed(self, number: int, seconds: float, seen: Seen) -> None:
        """A block in closed loop."""
        rps = 0.0
        for _, share, compared in self.by_model(seen):
            rps += saturated(np.array(share.done_s), seconds, compared.ok)
            self.counts["answered"] += int(compared.ok.sum())
            self.counts["wrong"] += int((compared.ok & ~compared.matched).sum())
            self.counts["failed"] += int((~compared.ok).sum())
            self.errors.update(compared.errors)
        self.rounds.append(number)
        self.rps.append(rps)

    def look_after(self) -> None:
        """Ask after its memory, and whether it is there."""
        memory_mb = self.subject.watch()
        if memory_mb is not None:
            self.memory_mb = max(memory_mb, self.memory_mb or 0.0)

    def side(self) -> Side:
        """As the judge takes it."""
        saturation = None
        if self.rounds:
            saturation = Saturation(
                block=np.array(self.rounds),
                rps=np.array(self.rps),
                answered=self.counts["answered"],
                wrong=self.counts["wrong"],
                failed=self.counts["failed"],
                errors=dict(self.errors),
            )
        return Side(
            release=self.subject.release,
            samples=tuple(
                self._samples(asked, found)
                for asked, found in zip(self.subject.asked, self.found, strict=True)
            ),
            saturation=saturation,
            load_time_s=self.subject.load_time_s,
            memory_mb=self.memory_mb,
        )

    def _samples(self, asked: Asked, found: _Found) -> Samples:
        block = np.concatenate([np.empty(0, dtype=np.int64), *found.block])
        return Samples(
            model=asked.model,
            release=self.subject.release,
            block=block,
            intended_s=np.concatenate([np.empty(0), *found.intended_s]),
            sent_s=np.concatenate([np.empty(0), *found.sent_s]),
            latency_s=np.concatenate([np.empty(0), *found.latency_s]),
            ok=np.concatenate([np.empty(0, dtype=bool), *found.ok]),
            matched=np.concatenate([np.empty(0, dtype=bool), *found.matched]),
            rows=np.full(len(block), asked.rows),
            duration_s=self.duration_s,
            errors=dict(found.errors),
        )


def _only(seen: Seen, chosen: Sequence[int]) -> Seen:
    if len(chosen) == len(seen.ask):
        return seen
    columns = {
        name: tuple(getattr(seen, name)[index] for index in chosen)
        for name in ("ask", "at_s", "sent_s", "done_s", "status", "answer")
    }
    return Seen(**columns, answers=seen.answers, cpu=seen.cpu)
