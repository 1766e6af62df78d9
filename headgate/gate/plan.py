"""What the gate's load generators are told, and what they tell: the messages between processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headgate.records import Record

__all__ = ["TIMEOUT_S", "Ask", "Block", "Seen", "Target", "arrivals", "merge", "split"]

TIMEOUT_S = 10.0
"""How long one answer is waited for, seconds; later it is none."""


class Ask(Record, frozen=True):
    """One request; always a POST of JSON."""

    path: str
    body: bytes


class Target(Record, frozen=True):
    """Somebody to ask, and everything that it is asked."""

    url: str
    """``http://host:port``, and a path that those of the requests are appended to."""
    asks: tuple[Ask, ...]
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with each, beside the content type."""


class Block(Record, frozen=True):
    """Some seconds of load on one target."""

    target: int
    """Which one."""
    order: tuple[int, ...]
    """Index into the target's ``asks``: of each request, or, in closed loop, over and over."""
    seconds: float
    at_s: tuple[float, ...] | None = None
    """Intended send time of each request, seconds from the start of the block, rising. None is
    closed loop: whoever has an answer sends the next request."""
    connections: int = 0
    """How many send, in closed loop."""


class Seen(Record, frozen=True):
    """What came of a block: one entry a request, in the order of the intended send times."""

    ask: tuple[int, ...]
    """Index into the target's ``asks``."""
    at_s: tuple[float, ...]
    """Intended send times; in closed loop the actual ones."""
    sent_s: tuple[float, ...]
    """Actual send times, seconds from the start of the block."""
    done_s: tuple[float, ...]
    """When the last byte of the answer was there; infinite where there was none."""
    status: tuple[int, ...]
    """HTTP status; 0 where there was no answer."""
    answer: tuple[int, ...]
    """Index into ``answers``."""
    answers: tuple[bytes, ...]
    """The different bodies; for requests without an answer, why, in words."""
    cpu: float
    """Share of one core that the busiest generator used while it sent."""


def arrivals(
    rates: Sequence[tuple[float, float]], random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Poisson arrivals: rising times, seconds, for each ``(rate, seconds)`` one after the other.

    Open loop: they do not wait for answers, as people do not, so a slow server builds up a
    queue instead of a quieter load (B. Schroeder, A. Wierman and M. Harchol-Balter, "Open versus
    closed: a cautionary tale", NSDI 2006). The process is conditioned on its number, which leaves
    the times uniform (J. F. C. Kingman, "Poisson Processes", 1993, section 2.4): so a run never
    offers less than ``rate``, nor fewer requests than asked for, by chance.
    """
    parts, begin = [np.empty(0)], 0.0
    for rate, seconds in rates:
        count = math.ceil(rate * seconds - 1e-9)
        parts.append(np.sort(random.uniform(begin, begin + seconds, count)))
        begin += seconds
    return np.concatenate(parts)


def split(block: Block, generators: int) -> list[Block]:
    """Shares of a block, each to be sent by a generator of its own."""
    if block.at_s is None:
        least, more = divmod(block.connections, generators)
        counts = [least + (index < more) for index in range(generators)]
        length = max(1, len(block.order))
        turned = [index * length // generators for index in range(generators)]
        return [
            _replace(block, connections=count, order=block.order[turn:] + block.order[:turn])
            for count, turn in zip(counts, turned, strict=True)
        ]
    return [
        _replace(block, order=block.order[index::generators], at_s=block.at_s[index::generators])
        for index in range(generators)
    ]


def merge(shares: Sequence[Seen]) -> Seen:
    """What came of a block that several generators shared."""
    if len(shares) == 1:
        return shares[0]
    place = np.argsort(np.concatenate([share.at_s for share in shares]), kind="stable").tolist()
    starts = np.cumsum([0] + [len(share.answers) for share in shares]).tolist()
    answer = [
        start + index
        for start, share in zip(starts, shares, strict=False)
        for index in share.answer
    ]

    def joined(name: str) -> list[float]:
        return [value for share in shares for value in getattr(share, name)]

    columns = {
        name: tuple(values[index] for index in place)
        for name, values in {
            "answer": answer,
            **{name: joined(name) for name in ("ask", "at_s", "sent_s", "done_s", "status")},
        }.items()
    }
    return Seen(
        **columns,
        answers=tuple(body for share in shares for body in share.answers),
        cpu=max(share.cpu for share in shares),
    )


def _replace(
    block: Block,
    *,
    order: tuple[int, ...],
    at_s: tuple[float, ...] | None = None,
    connections: int = 0,
) -> Block:
    return Block(
        target=block.target,
        order=order,
        seconds=block.seconds,
        at_s=at_s,
        connections=connections,
    )
