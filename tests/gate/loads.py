"""Loading a server, in a test."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gate.server import SIGNATURE, Server, reference

from headgate.config import LoadProfile
from headgate.gate.load import Load
from headgate.gate.measure import measure
from headgate.gate.schedule import open_block
from headgate.gate.subject import Asked, Subject, ask_model
from headgate.gate.tally import Tally
from headgate.predictor import Reference
from headgate.records import Evidence, Samples

PROFILE = LoadProfile(rate=125, duration_s=0.8, warmup_s=0.2, min_requests=20)
REFERENCE = reference()


def asked(model: str = "m", *, known: Reference = REFERENCE, **how: Any) -> Asked:
    settings = {"rate": 125, "rows": 1, "release": "r:1", "tolerance": 1e-5, **how}
    return ask_model(model, known, SIGNATURE, **settings)


def subject(
    server: Server | str, *models: Asked, release: str = "r:1", rate: float = 125, **other: Any
) -> Subject:
    url = server if isinstance(server, str) else server.url
    return Subject(release=release, url=url, asked=models or (asked(rate=rate),), **other)


def measured(
    candidate: Subject,
    workdir: Path,
    profile: LoadProfile = PROFILE,
    champion: Subject | None = None,
    **how: Any,
) -> list[Evidence]:
    """All evidence; nothing is left of having got it."""
    how = {"progress": lambda _: None, **how}
    with leaves_nothing(workdir):
        return list(measure(candidate, champion, profile, workdir=workdir, **how))


def sent(load: Load, index: int, whom: Subject, seconds: float, *, seed: int = 0) -> Samples:
    """What came of one block on the target of that index, for a subject with one model."""
    tally = Tally(whom)
    stages = [[(each.rate, seconds)] for each in whom.asked]
    block = open_block(index, tally.asks, stages, np.random.default_rng(seed))
    tally.add_open(seconds, 0, 0.0, load.send(block))
    (samples,) = tally.side().samples
    return samples


@contextlib.contextmanager
def leaves_nothing(workdir: Path) -> Iterator[None]:
    """Neither a file nor a process, whether or not there was an error."""
    before = set(psutil.Process().children(recursive=True))
    try:
        yield
    finally:
        assert not workdir.exists() or list(workdir.iterdir()) == []
        assert set(psutil.Process().children(recursive=True)) <= before


def write(folder: Path, content: str) -> Path:
    """A locustfile."""
    path = folder / "locustfile.py"
    path.write_text(textwrap.dedent(content))
    return path
