"""The frozen records that rooms hand to each other.

Each one encodes to JSON with :func:`msgspec.json.encode` and back, except
:class:`Samples`, which holds arrays and stays in the process that measured them.
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
    "Check",
    "Event",
    "EventKind",
    "ModelRef",
    "Outcome",
    "Release",
    "RolloutState",
    "Samples",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What one load test of one model saw.

    Every array has one entry a request, in the order of the intended send times.
    """

    model: str
    release: str
    intended_s: npt.NDArray[np.float64]
    """Intended send time, seconds from the start of the measured part."""
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
    """Length of the measured part."""
    load_time_s: float
    """From starting the release to its first ready answer."""
    errors: dict[str, int] = field(default_factory=dict)
    """Count of what went wrong, by cause in words."""
    generator_cpu: float = 0.0
    """The generator's use of its core, 0 to 1."""
