"""Release → samples → verdict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from headgate import packaging
from headgate.errors import GateError, ServingError
from headgate.pipeline.bundle import Bundle, read_rooms
from headgate.records import Check, EventKind, Outcome, Release, Verdict

if TYPE_CHECKING:
    from headgate.serving.launcher import ServerProcess

__all__ = ["gate"]

_STARTS = 3


def gate(bundle: Bundle, release: Release, profile: str | None = None) -> Verdict:
    """Load the release's Bento, judge it, and append the verdict to the history."""
    from headgate import gate as room

    profile = bundle.profile(profile)
    bundle.registry.events()  # an unreachable registry is found before the load, not after
    try:
        checks = tuple(_checks(bundle, release, profile))
    except GateError as error:
        checks = (_about_all("measurement", Outcome.INCONCLUSIVE, str(error)),)
    at = dt.datetime.now(dt.UTC)
    verdict = room.conclude(release, checks, profile, at)
    reports = {
        "verdict.json": msgspec.json.format(msgspec.json.encode(verdict)),
        "report.md": room.markdown(verdict).encode(),
    }
    folder = bundle.home / "reports" / f"{release.tag.replace(':', '-')}-{at:%Y%m%dT%H%M%SZ}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in reports.items():
        (folder / name).write_bytes(content)
    bundle.append(EventKind.GATED, release, verdict.reason, verdict, reports)
    live = bundle.state().live
    if verdict.outcome is Outcome.PASS and (live is None or live.digest != release.digest):
        bundle.follow_aliases(live, release)
    return verdict


def _checks(bundle: Bundle, release: Release, profile: str) -> Iterator[Check]:
    """Start the release on a port of its own and load one model after the other."""
    source = packaging.bento_path(bundle.store, release.tag) / "src"
    rooms = read_rooms(source)
    names = [ref.name for ref in release.models]
    try:
        with _started(
            bundle, release, min(rooms[name].config.slo.max_load_s for name in names)
        ) as server:
            for name in names:
                yield from _load(bundle, release, name, profile, server)
    except ServingError as error:
        yield _about_all("serving", Outcome.FAIL, f"The release did not serve: {error}")


@contextmanager
def _started(bundle: Bundle, release: Release, limit_s: float) -> Iterator[ServerProcess]:
    """A ready server of the release, started anew while that takes longer than ``limit_s``.

    At most three times: a busy machine delays a start, but nothing makes one too quick.
    """
    bento = packaging.bento_path(bundle.store, release.tag)
    for attempt in range(_STARTS):
        bundle.notify(f"starting {release.tag} for the gate")
        server = bundle.launch(bento, release, port=0, log=bundle.home / "logs" / "gate.log")
        try:
            server.wait_ready(bundle.config.server.ready_timeout_s)
            if server.load_time_s <= limit_s or attempt == _STARTS - 1:
                yield server
                return
        finally:
            server.stop(bundle.config.server.drain_s)
        bundle.notify(f"  ready after {server.load_time_s:.1f} s: once more, to be sure")


def _load(
    bundle: Bundle, release: Release, name: str, profile: str, server: ServerProcess
) -> tuple[Check, ...]:
    from headgate import gate as room
    from headgate.predictor import read_manifest

    source = packaging.bento_path(bundle.store, release.tag) / "src"
    manifest = read_manifest(source / packaging.BUNDLE / name)
    slo = read_rooms(source)[name].config.slo
    plan = bundle.config.gate.profiles[profile]
    ref = next(ref for ref in release.models if ref.name == name)
    bundle.notify(f"loading {name} ({profile}, {plan.warmup_s + plan.duration_s:g} s)")
    samples = room.measure(
        f"http://{server.address}",
        name,
        packaging.reference_of(bundle.fetch(ref), manifest),
        manifest.signature,
        plan,
        rate=max(plan.rate, slo.min_rps),
        release=release.tag,
        tolerance=manifest.tolerance,
        load_time_s=server.load_time_s,
        locustfile=bundle.root / "load_tests" / "locustfile.py",
        workdir=bundle.home / "run",
        progress=bundle.notify,
    )
    return room.judge(
        samples,
        slo,
        plan,
        max_generator_lateness_ms=bundle.config.gate.max_generator_lateness_ms,
    )


def _about_all(name: str, outcome: Outcome, reason: str) -> Check:
    return Check(name=name, model="", outcome=outcome, reason=reason, samples=0)
