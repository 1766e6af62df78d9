"""The gate beyond Headgate: any HTTP endpoint, or samples measured by somebody else."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from headgate.config import DemandConfig, GateConfig, LoadProfile, SloConfig
from headgate.errors import GateError, InputError, ServingError
from headgate.records import Check, Evidence, Record, Release, Verdict

if TYPE_CHECKING:
    from headgate.gate import Moment, Subject, Target, Trial

__all__ = ["Endpoint", "Judged", "Wanted", "gate_samples", "gate_url"]

_UNASKED_MS = 1e9
"""Stands for no limit."""
_SHORTEST_S = 0.75
"""On one side at a time; the shorter, the more of the machine's noise do both share."""
_BLOCK = 100
"""Requests in a block; fewer say little of a percentile."""
_SATURATE_S = 0.5
_ROUNDS = 8
"""At least; what a budget of half a minute has room for."""
_NAMED = 5
"""Places that a note names."""
_ENOUGH = 200
"""Answered requests below which nothing is judged."""
_CHECKED = 5000
"""Compared answers that show equality: of one wrong in a thousand they miss one in 150 times."""


class Wanted(Record, frozen=True):
    """What an endpoint, or samples, must show."""

    p95_ms: float | None = None
    p99_ms: float | None = None
    max_error_rate: float = 0.001
    max_p95_ratio: float = 1.05
    min_throughput_ratio: float = 0.95


class Endpoint(Record, frozen=True):
    """How an endpoint is asked."""

    url: str
    request: Path
    """A JSON body, or one a line in a ``.jsonl``."""
    against: str | None = None
    """The baseline; None judges absolutely only."""
    headers: tuple[str, ...] = ()
    """``name: value``."""
    rate: float = 50
    """Requests per second."""
    budget_s: float = 300
    generators: int = 1
    """Locust processes on this machine that share the load."""
    remote: int = 0
    """And on other machines."""
    listen: str = GateConfig().listen
    """Where those find their work, ``host:port``."""
    same: bool = False
    """Whether answers must equal the baseline's, not just have their shape."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and what it rests on."""

    verdict: Verdict
    evidence: Evidence | None
    course: Sequence[Moment]

    def reports(self) -> dict[str, bytes]:
        """File name → content."""
        from headgate import gate as room

        return room.reports(self.verdict, self.evidence, self.course)


def gate_url(endpoint: Endpoint, wanted: Wanted, notify: Callable[[str], None]) -> Judged:
    """Judge an HTTP endpoint beside another one, or alone.

    Raises:
        InputError: an address, a body or a header is none, or somebody does not answer at all.
    """
    from headgate import gate as room

    profile = _profile(endpoint)
    try:
        candidate, champion, ignored = _subjects(endpoint, notify)
    except ServingError as error:
        raise _unreachable(error) from None
    beside = f" beside {endpoint.against}" if endpoint.against else ""
    notify(f"loading {endpoint.url}{beside} (at most {endpoint.budget_s:g} s)")
    trial = room.Trial()
    with tempfile.TemporaryDirectory(prefix="headgate-") as workdir:
        seen = room.measure(
            candidate,
            champion,
            profile,
            workdir=Path(workdir),
            listen=endpoint.listen,
            progress=notify,
            saturates=trial.saturates,
        )
        try:
            unasked = () if endpoint.same else ("parity",)
            trial.follow(seen, lambda evidence: _judge(evidence, wanted, profile, unasked=unasked))
        except ServingError as error:
            raise _unreachable(error) from None
        except GateError as error:
            trial.checks = (room.not_measured(error),)
    return _judged(endpoint.url, trial, _note(wanted, endpoint.against, ignored))


def _unreachable(error: ServingError) -> InputError:
    """Of somebody else's server: no verdict, but a mistake in what was asked for."""
    return InputError(error.what, where=error.where, remedy=error.remedy)


def _profile(endpoint: Endpoint) -> LoadProfile:
    """Half a minute at least, and in a small budget as much of it as fits."""
    budget_s, beside = endpoint.budget_s, endpoint.against is not None
    block_s = min(max(_SHORTEST_S, _BLOCK / endpoint.rate), 2.0, budget_s / 60)
    return LoadProfile(
        rate=endpoint.rate,
        block_s=block_s,
        duration_s=_ROUNDS * block_s,
        budget_s=budget_s,
        warmup_s=min(3.0, budget_s / 30),
        min_requests=_ENOUGH,
        min_checked=_CHECKED if endpoint.same else 0,
        compare=beside,
        generators=endpoint.generators,
        remote_generators=endpoint.remote,
        saturate_s=min(_SATURATE_S, budget_s / 60) if beside else 0,
    )


def gate_samples(samples: Path, against: Path | None, wanted: Wanted) -> Judged:
    """Judge samples that something else has measured: CSV, k6, Locust and others.

    Raises InputError for a file that cannot be read.
    """
    from headgate import gate as room
    from headgate.gate import imported

    side = imported.read_samples(samples, name=samples.name)
    beside = imported.read_samples(against, name=against.name) if against else None
    evidence = imported.as_evidence(side, beside)
    profile = LoadProfile(min_requests=100, compare=against is not None)
    # What was offered, and whether answers were right, only whoever measured could know.
    checks = _judge(evidence, wanted, profile, unasked=("parity", "throughput"))
    trial = room.Trial(checks=checks, evidence=evidence)
    return _judged(str(samples), trial, _note(wanted, against, ()))


def _judge(
    evidence: Evidence, wanted: Wanted, profile: LoadProfile, *, unasked: Collection[str]
) -> tuple[Check, ...]:
    """Every check that was asked for, in words for whom there is neither model nor champion."""
    from headgate import gate as room

    slo = SloConfig(
        p95_ms=wanted.p95_ms or _UNASKED_MS,
        p99_ms=wanted.p99_ms,
        min_rps=profile.rate,
        max_error_rate=wanted.max_error_rate,
    )
    demand = DemandConfig(
        max_p95_ratio=wanted.max_p95_ratio, min_throughput_ratio=wanted.min_throughput_ratio
    )
    names = [samples.model for samples in evidence.candidate.samples]
    checks = room.judge(
        evidence,
        dict.fromkeys(names, slo),
        dict.fromkeys(names, demand),
        profile,
        max_generator_lateness_ms=GateConfig().max_generator_lateness_ms,
    )
    return tuple(
        msgspec.structs.replace(check, reason=_in_their_words(check.reason))
        for check in checks
        if check.name not in unasked and (check.name != "p95" or wanted.p95_ms is not None)
    )


def _in_their_words(reason: str) -> str:
    return reason.replace("the model as trained", "the baseline").replace("champion", "baseline")


def _judged(name: str, trial: Trial, note: str) -> Judged:
    from headgate import gate as room

    release = Release(tag=name, digest="", models=())
    verdict = room.conclude(release, trial.checks, "", dt.datetime.now(dt.UTC), note=note)
    return Judged(verdict, trial.evidence, trial.course)


def _note(wanted: Wanted, against: object, ignored: Collection[str]) -> str:
    """What was not judged, so that nobody takes it for good."""
    notes = []
    if against is None:
        notes.append("There is no baseline: judged absolutely only.")
        if wanted.p95_ms is None and wanted.p99_ms is None:
            notes.append("Latency was not judged: --p95-ms would set a limit.")
    if ignored:
        some = ", ".join(sorted(ignored)[:_NAMED]) + (" …" if len(ignored) > _NAMED else "")
        notes.append(f"Not compared, for it differs between equal requests: {some}.")
    return " ".join(notes)


def _subjects(
    endpoint: Endpoint, notify: Callable[[str], None]
) -> tuple[Subject, Subject | None, tuple[str, ...]]:
    """Both sides, and what of their answers cannot be compared.

    Whoever gives the expected answers is asked first, without load.
    """
    from headgate import gate as room

    bodies = _bodies(endpoint.request)
    headers = tuple(_header(line) for line in endpoint.headers)
    urls = [endpoint.url] + ([endpoint.against] if endpoint.against else [])
    targets = [_target(url, bodies, headers) for url in urls]
    for target in targets:
        room.reach(target.url)
    notify(f"asking {urls[-1]} for what to expect")
    answers = room.Replies(room.first_replies(targets[-1], endpoint.budget_s), same=endpoint.same)
    if endpoint.same and answers.noisy():
        raise InputError(
            "every value of an answer differs between two equal requests: nothing can be compared",
            where=urls[-1],
            remedy="leave out --expect same",
        )
    ignored = tuple(room.place_of(each) for each in answers.noise) if endpoint.same else ()
    subjects = [
        room.Subject(
            release=url,
            url=target.url,
            headers=headers,
            asked=(room.Asked(model="", asks=target.asks, answers=answers, rate=endpoint.rate),),
        )
        for url, target in zip(urls, targets, strict=True)
    ]
    return subjects[0], subjects[1] if len(subjects) > 1 else None, ignored


def _bodies(path: Path) -> list[bytes]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            error.strerror or str(error), where=str(path), remedy="give a file with a JSON body"
        ) from None
    lines = [text] if path.suffix != ".jsonl" else text.splitlines()
    bodies = [line for line in lines if line.strip()]
    for number, body in enumerate(bodies, 1):
        try:
            msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            where = f"{path}, line {number}" if len(lines) > 1 else str(path)
            remedy = "give JSON; one body a line in a file that ends in .jsonl"
            raise InputError(f"no JSON ({error})", where=where, remedy=remedy) from None
    if not bodies:
        raise InputError("holds no request", where=str(path), remedy="write a JSON body into it")
    return bodies


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip().isascii() or not name.strip() or "\n" in line or "\r" in line:
        raise InputError("no header", where=repr(line), remedy="write 'name: value'")
    return name.strip().lower(), value.strip()


def _target(url: str, bodies: Sequence[bytes], headers: tuple[tuple[str, str], ...]) -> Target:
    from headgate import gate as room

    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(str(error), where=repr(url), remedy="give http://host:port/path") from None
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InputError("no http address", where=repr(url), remedy="give http://host:port/path")
    if "@" in parts.netloc:
        raise InputError(
            "holds a name or a password, and would be printed",
            where=f"{parts.scheme}://…@{parts.netloc.rpartition('@')[2]}",
            remedy="give them as --header 'authorization: Basic …'",
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return room.Target(
        url=f"{parts.scheme}://{parts.netloc}",
        asks=tuple(room.Ask(path=path, body=body) for body in bodies),
        headers=headers,
    )
