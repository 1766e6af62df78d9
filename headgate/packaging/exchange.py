"""What the packaging command and its child process say to each other, in files.

::

    job.json  reference/                     what to open, and the recorded predictions
    result.json                              what became of it
    native/                                  the model's own predictions for the reference
    probes/                                  made-up rows with the model's own predictions
    refused/                                 made-up rows that the model itself refuses
    onnx/…  sklearn/…  torch/…               the files of each candidate
"""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.packaging.source import Flavor, Format
from headgate.predictor import Signature
from headgate.records import Record

__all__ = ["JOB", "NATIVE", "PROBES", "REFERENCE", "REFUSED", "RESULT", "Built", "Job", "Result"]

JOB = "job.json"
RESULT = "result.json"
REFERENCE = "reference"
NATIVE = "native"
PROBES = "probes"
REFUSED = "refused"


class Job(Record, frozen=True):
    """What the child is asked to do."""

    flavor: Flavor
    format: Format
    file: str
    """The model's file, absolute."""
    signature: Signature
    tolerance: float
    wanted: tuple[str, ...]
    """Engines to build for."""
    module: str = ""
    """The room's module file, absolute; empty where there is none."""
    room: tuple[str, ...] = ()
    """``module.name`` of the classes it defines."""


class Built(Record, frozen=True):
    """One candidate, or why there is none."""

    engine: str
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    refused: str = ""
    """Why it could not be built; empty where its files lie in the folder of its engine's name."""


class Result(Record, frozen=True):
    """What the child made."""

    built: tuple[Built, ...] = ()
    error: str = ""
    """Why the model could not be opened or run at all; empty where it could."""
    unsafe: bool = False
    """It was not opened, because that could run code that nobody reviewed."""
