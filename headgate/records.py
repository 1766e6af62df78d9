"""The frozen records that rooms hand to each other.

Each one encodes to JSON with :func:`msgspec.json.encode` and back, except :class:`Evidence` and
its parts, which hold arrays and stay in the process that measured them.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Capacity",
    "Check",
    "Event",
    "EventKind",
    "Evidence",
    "Generator",
    "ModelRef",
    "Moment",
    "Outcome",
    "Quality",
    "Release",
    "RolloutState",
    "Samples",
    "Saturation",
    "Setting",
    "Side",
    "Step",
    "StepOutcome",
    "Verdict",
]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the records: immutable, by keyword only, strict when decoded."""


class ModelRef(Record, frozen=True):
    """One registered model version, pinned."""

    name: str
    """The registered name."""
    version: str
    """The registry's version of it."""
    run_id: str
    """The MLflow run that made it."""
    digest: str
    """``sha256:`` of the model's files and of its reference, as `headgate lock` saw them."""


class Release(Record, frozen=True):
    """One Bento: a pinned set of model versions and the code that serves them."""

    tag: str
    """The Bento's tag, ``headgate:<first 12 hex digits of the digest>``."""
    digest: str
    """``sha256:`` of the Bento's sources, its packaged models among them."""
    models: tuple[ModelRef, ...]
    """What it serves, in the order of ``models.lock``."""


class Outcome(enum.StrEnum):
    """What a gate may say. There is no fourth word."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Check(Record, frozen=True):
    """One question the gate asked of one model, and its answer."""

    name: str
    """What was asked: ``p95``, ``throughput``, ``error_rate``, ``load_time``, ``parity`` …"""
    model: str
    """The model it was asked of; empty for the release as a whole."""
    outcome: Outcome
    reason: str
    """One sentence a tired person understands, with the numbers in it."""
    samples: int
    """How many observations the answer rests on."""
    unit: str = ""
    observed: float | None = None
    limit: float | None = None
    interval: tuple[float, float] | None = None
    """Confidence interval of ``observed``, where there is one."""


class Moment(Record, frozen=True):
    """One look of the judge, while the load went on."""

    at_s: float
    """Seconds since the load began."""
    checks: tuple[Check, ...]
    """As they stood then."""


class Verdict(Record, frozen=True):
    """What the gate says of one release."""

    release: str
    """The release's tag."""
    digest: str
    """The release's digest: a verdict holds for nothing else."""
    outcome: Outcome
    reason: str
    samples: int
    """Requests judged, over all models."""
    profile: str
    at: dt.datetime
    """When it was reached, UTC."""
    checks: tuple[Check, ...] = ()


class EventKind(enum.StrEnum):
    """What can happen to a release."""

    GATED = "gated"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class Event(Record, frozen=True):
    """One line of the history: appended to the registry before anything is switched."""

    id: str
    """Unique; sorts in the order of appending together with ``at``."""
    at: dt.datetime
    kind: EventKind
    release: Release
    """The release judged, promoted, or gone back to."""
    who: str
    why: str
    verdict: Verdict | None = None


class RolloutState(Record, frozen=True):
    """What the history adds up to."""

    live: Release | None = None
    """The release that traffic should go to."""
    previous: Release | None = None
    """The release that a rollback goes back to."""
    verdicts: dict[str, Verdict] = {}
    """The last verdict by release digest."""


class StepOutcome(enum.StrEnum):
    """What some seconds at one rate came to."""

    HELD = "held"
    FAILED = "failed"
    LIMITED = "limited"
    """The load generator was at fault: it says nothing of the release."""


class Step(Record, frozen=True):
    """Some seconds at one rate."""

    rate: float
    """Requests per second to each model."""
    outcome: StepOutcome
    requests: int
    """That counted, to all models."""
    why: str = ""
    """What gave way, in words; empty where it held."""
    p95_ms: float | None = None
    """Of the model nearest to its limit, or beyond it; None where requests stayed unanswered."""


class Capacity(Record, frozen=True):
    """What a search has found. Rates are requests per second to each model, all at once."""

    low: float | None
    """The highest rate that held; None where none did."""
    high: float | None
    """The lowest that did not; None where none was shown to fail."""
    low_held: tuple[int, int] = (0, 0)
    """Steps at ``low`` that held, and all of them."""
    high_failed: tuple[int, int] = (0, 0)
    """Steps at ``high`` that failed, and all of them."""
    settled: bool = False
    """Whether both ends were repeated until they were sure."""
    limited: str = ""
    """Why no higher rate could be asked, where that is what ended the search."""
    why: str = ""
    """What gave way at ``high``."""
    steps: tuple[Step, ...] = ()
    """All, in the order of time."""


class Setting(Record, frozen=True):
    """What can be tuned; None leaves each model what its ``model.toml`` says."""

    workers: int
    threads: int
    parallel_calls: int | None = None
    max_batch_rows: int | None = None

    def __str__(self) -> str:
        named = msgspec.structs.asdict(self).items()
        return ", ".join(f"{name} {value}" for name, value in named if value is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What one model was asked at a chosen rate, and what came of it.

    Every array has one entry a request, in the order of the intended send times.
    """

    model: str
    release: str
    block: npt.NDArray[np.int64]
    """The round in which it was sent: a candidate and its champion are loaded in turn, and their
    blocks of one round lie next to each other in time. Rising."""
    intended_s: npt.NDArray[np.float64]
    """Intended send time, seconds from the start of the load."""
    sent_s: npt.NDArray[np.float64]
    """Actual send time, the same clock: what the generator itself was late by."""
    latency_s: npt.NDArray[np.float64]
    """Seconds from the *intended* send time to the last byte of the answer."""
    ok: npt.NDArray[np.bool_]
    """Answered with the right status and shape."""
    matched: npt.NDArray[np.bool_]
    """Answered with the reference prediction, within tolerance; false where not ``ok``."""
    rows: npt.NDArray[np.int64]
    """Rows in the request."""
    duration_s: float
    """Length of the blocks together."""
    errors: dict[str, int] = field(default_factory=dict)
    """Count of what went wrong, by cause in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """How much a release answers when there is always a next request: closed loop, in blocks."""

    block: npt.NDArray[np.int64]
    """The round of each block, rising."""
    rps: npt.NDArray[np.float64]
    """Right answers per second in each block."""
    answered: int = 0
    """Requests answered, over all blocks."""
    wrong: int = 0
    """Those of them whose answer was not the reference's."""
    failed: int = 0
    """Requests without an answer of the right status and shape."""
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One model's predictions for labelled reference rows, beside the champion's for the same."""

    model: str
    metric: str
    """What the scores add up to: ``accuracy``, or ``mean absolute error``, which is better low."""
    candidate: npt.NDArray[np.float64]
    """Score of each row: 1 where the label was predicted and 0 elsewhere, or the absolute error."""
    champion: npt.NDArray[np.float64] | None = None
    """The champion's scores of the same rows; None where there is none, or it takes other rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Everything seen of one release."""

    release: str
    samples: tuple[Samples, ...]
    """One for each model."""
    saturation: Saturation | None = None
    load_time_s: float | None = None
    """From starting it to its first ready answer; None where somebody else started it."""
    memory_mb: float | None = None
    """The most its processes held at the end of a block, MiB of resident memory."""
    paired: bool = True
    """Whether its blocks were loaded in turn with those of the other side, round by round; false
    where they were cut from a run of its own, which shares no noise with any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """What the load generator is capable of, on this machine and at this moment."""

    cpu: float
    """Share of its core that it used in the busiest block at a chosen rate, 0 to 1."""
    p95_s: float | None = None
    """P95 against an endpoint that does nothing, at the same rate: it resolves no less."""
    most_rps: float | None = None
    """Answers per second of that endpoint in closed loop: it can ask no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a load test has seen so far: the judge is asked after every few rounds."""

    candidate: Side
    generator: Generator
    champion: Side | None = None
    quality: tuple[Quality, ...] = ()
    looks: tuple[float, ...] = (1.0,)
    """Share of the whole budget that was spent at each time the judge was asked, this one last:
    rising, the last at most 1. Each look is a chance to be wrong, and they share one allowance."""
    peak: tuple[float, float] | None = None
    """Begin and end of the spike, seconds from the start of the load, where there is one."""
