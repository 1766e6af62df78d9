"""Release → how much it can take on this machine, what that costs, and which settings take more."""

from __future__ import annotations

import time
from pathlib import Path

from headgate.pipeline.bundle import Bundle
from headgate.pipeline.study import Study
from headgate.pipeline.trying import Tried, cores
from headgate.predictor.folder import working_folder
from headgate.records import Capacity, Record, Release, Setting

__all__ = ["Range", "Sized", "Sizing", "Tuned", "size"]

_BUDGET_S = 120
_TUNING_S = 600
_LOOK_SHARE = 0.25
"""Of the budget, for one search where there are two, and the comparisons between them."""


class Sizing(Record, frozen=True):
    """How a release is sized."""

    tune: bool = False
    for_rate: float | None = None
    """Requests per second to each model that machines are counted for."""
    budget_s: float | None = None
    """Seconds for all of it; None: two minutes, ten with ``tune``."""
    rows: int | None = None
    """In a request; None: as the profile of ``[gate]`` has it."""
    generators: int = 1


class Range(Record, frozen=True):
    """A figure, and what it lies between."""

    value: float
    low: float
    high: float


class Tuned(Record, frozen=True):
    """What other settings would do."""

    now: Setting
    best: Setting
    """The same where nothing is better beyond the noise."""
    gain: Tried | None
    """How it compares with now, measured anew; None where nothing is better."""
    lines: dict[str, tuple[str, ...]]
    """By file, what to write there."""
    capacity: Capacity | None
    """With the best settings; None where they are those of now."""
    tried: tuple[Tried, ...]


class Sized(Record, frozen=True):
    """What a release can take."""

    release: str
    models: tuple[str, ...]
    rows: int
    """In a request."""
    capacity: Capacity
    """Requests per second to each model, all at once."""
    currency: str
    utilisation: float
    per_million: Range | None
    """Price of a million predictions; None where no price is set or no rate held. Its ``low`` is
    0 where the capacity is only known to be at least something."""
    for_rate: float | None
    replicas: Range | None
    """Machines for that rate; None where it was not asked for or no rate held."""
    tuned: Tuned | None = None


def size(bundle: Bundle, release: Release, how: Sizing) -> Sized:
    """Find out, on a server of its own, with all models of the release loaded at once.

    Raises:
        ServingError: it does not start, or ended under load.
        GateError: it cannot be loaded: no reference rows, or no load generator.
    """
    budget_s = how.budget_s or (_TUNING_S if how.tune else _BUDGET_S)
    # What a killed command left of such a folder is swept here.
    with working_folder(bundle.home / "run" / "capacity") as folder:
        study = Study(bundle, release, folder, rows=how.rows, generators=how.generators)
        if not how.tune:
            return _sized(study, study.capacity(study.present, budget_s), how.for_rate)
        found = study.capacity(study.present, _LOOK_SHARE * budget_s)
        tuned = _tune(study, found, (1 - _LOOK_SHARE) * budget_s)
        return _sized(study, found, how.for_rate, tuned)


def _sized(study: Study, found: Capacity, rate: float | None, tuned: Tuned | None = None) -> Sized:
    """What follows from a capacity."""
    from headgate.gate import cost_per_million, replicas

    cost = study.bundle.config.cost
    per_million = machines = None
    if found.low is not None:
        high = found.high or float("inf")
        rows = len(study.slos) * study.rows
        if cost.instance_per_hour:
            dear, cheap = (cost_per_million(cost, rps * rows) for rps in (found.low, high))
            per_million = Range(value=dear, low=cheap, high=dear)
        if rate is not None:
            most, least = (replicas(rate, rps, cost.utilisation) for rps in (found.low, high))
            machines = Range(value=most, low=least, high=most)
    return Sized(
        release=study.release.tag,
        models=tuple(study.slos),
        rows=study.rows,
        capacity=found,
        currency=cost.currency,
        utilisation=cost.utilisation,
        per_million=per_million,
        for_rate=rate,
        replicas=machines,
        tuned=tuned,
    )


def _tune(study: Study, found: Capacity, budget_s: float) -> Tuned:
    """Look for better settings than the present ones; they are kept where none is."""
    from headgate.gate import Descent, choices

    last_s = budget_s / 3  # for the winner
    ends_s = time.monotonic() + budget_s - last_s
    descent = Descent(study.present, choices(cores(), study.serving), cores=cores())
    tried: list[Tried] = []
    while time.monotonic() < ends_s and (setting := descent.next()) is not None:
        left = f"at most {ends_s + last_s - time.monotonic():.0f} s left"
        study.bundle.notify(f"trying {setting} beside {descent.best} ({left})")
        result = study.beside(descent.best, setting, ends_s)
        study.bundle.notify(f"  {result}")
        tried.append(result)
        descent.tell(better=result.better)
    best, gain, capacity = descent.best, None, None
    if best != study.present:
        # Measured anew: who has won many comparisons has also been lucky.
        study.bundle.notify(f"trying {best} beside {study.present} once more")
        again = study.beside(study.present, best, float("inf"), seed=1)
        study.bundle.notify(f"  {again}")
        tried.append(again)
        if again.better:
            capacity = study.capacity(best, last_s)
            if not _below(capacity, found):
                gain = again
    if gain is None:
        best, capacity = study.present, None
    return Tuned(
        now=study.present,
        best=best,
        gain=gain,
        lines=_lines(study, best),
        capacity=capacity,
        tried=tuple(tried),
    )


def _below(capacity: Capacity, other: Capacity) -> bool:
    """Whether a capacity is beyond doubt less than another one."""
    if capacity.high is None or other.low is None:
        return False
    return capacity.high <= other.low


def _lines(study: Study, best: Setting) -> dict[str, tuple[str, ...]]:
    """What to write into which file."""
    lines: dict[str, tuple[str, ...]] = {}
    server = [
        f"{name} = {getattr(best, name)}"
        for name in ("workers", "threads")
        if getattr(best, name) != getattr(study.present, name)
    ]
    if server:
        lines["headgate.toml"] = ("[server]", *server)
    serving = [
        f"{name} = {value}"
        for name in ("parallel_calls", "max_batch_rows")
        if (value := getattr(best, name)) is not None
    ]
    if serving:
        rooms = study.bundle.rooms
        for model in study.slos:
            known = model in rooms
            folder = rooms[model].path.relative_to(study.bundle.root) if known else Path(model)
            lines[str(folder / "model.toml")] = ("[serving]", *serving)
    return lines
