"""`headgate ship`: everything, and only what is not yet done."""

from __future__ import annotations

import datetime as dt

from headgate import rollout
from headgate.pipeline.bundle import Bundle
from headgate.pipeline.judging import demanded, gate
from headgate.pipeline.live import promote, up
from headgate.pipeline.make import build, lock, pick, train
from headgate.records import Outcome, Record, Release, RolloutState, Verdict

__all__ = ["Shipped", "ship"]


class Shipped(Record, frozen=True):
    """What `headgate ship` came to."""

    release: Release
    verdict: Verdict
    live: bool
    """Whether this release has the traffic."""
    judged: bool
    """Whether the verdict was measured now; else it is an earlier one on the same release."""
    changed: bool
    """Whether the traffic moved to this release now."""
    http: str
    """Where the live release answers, ``host:port``; empty where nothing is live."""
    examples: tuple[str, ...]
    """The models that have a request body in ``examples/``."""


def ship(bundle: Bundle, profile: str | None = None) -> Shipped:
    """Train what has no version, build, gate and promote; without a pass, all stays as it was."""
    if profile is not None:
        bundle.profile(profile)
    bundle.check_port()
    _pin(bundle)
    release = build(bundle).release
    state = bundle.state()
    live = state.live is not None and state.live.digest == release.digest
    verdict = state.verdicts.get(release.digest)
    # What is live keeps a pass, however old.
    settled = verdict is not None and (
        verdict.outcome is Outcome.PASS if live else _is_valid(bundle, release, verdict)
    )
    judged = verdict is None or not settled
    if verdict is None or not settled:
        verdict = gate(bundle, release, profile)
    if live:
        http = up(bundle).http
    elif verdict.outcome is Outcome.PASS:
        http = promote(bundle, release, why="headgate ship").http
    else:
        http = _stay(bundle, state)
    names = [ref.name for ref in release.models]
    return Shipped(
        release=release,
        verdict=verdict,
        live=live or verdict.outcome is Outcome.PASS,
        judged=judged,
        changed=not live and verdict.outcome is Outcome.PASS,
        http=http,
        examples=tuple(
            name for name in names if (bundle.root / "examples" / f"{name}.json").is_file()
        ),
    )


def _pin(bundle: Bundle) -> None:
    """Make ``models.lock`` name the models that have a room, and keep the versions it names."""
    from headgate.registry import read_lock

    for name in bundle.rooms:
        if bundle.registry.latest(name) is None:
            train(bundle, name)
    pinned = read_lock(bundle.root)
    names = {ref.name for ref in pinned}
    if names != bundle.rooms.keys():
        kept = [ref for ref in pinned if ref.name in bundle.rooms]
        missing = [pick(bundle, name) for name in bundle.rooms if name not in names]
        lock(bundle, [*kept, *missing])


def _is_valid(bundle: Bundle, release: Release, verdict: Verdict) -> bool:
    now = dt.datetime.now(dt.UTC)
    return rollout.is_valid(
        verdict, now=now, max_age=bundle.max_verdict_age, profiles=demanded(bundle, release)
    )


def _stay(bundle: Bundle, state: RolloutState) -> str:
    """Leave serving what is live; returns its address."""
    if state.live is None:
        return ""
    running = bundle.platform.running()
    return running.http if running is not None else up(bundle).http
