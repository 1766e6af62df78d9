"""Release → samples → verdict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING

import msgspec

from headgate import packaging
from headgate.errors import GateError, ServingError
from headgate.pipeline.bundle import Bundle, read_rooms
from headgate.records import Check, EventKind, ModelRef, Outcome, Release, Samples, Verdict

if TYPE_CHECKING:
    from headgate.config import LoadProfile, SloConfig
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
    state = bundle.state()
    live = state.live
    if verdict.outcome is Outcome.PASS and (live is None or live.digest != release.digest):
        bundle.follow_aliases(live, release, state.verdicts.get(live.digest) if live else None)
    return verdict


def _checks(bundle: Bundle, release: Release, profile: str) -> Iterator[Check]:
    """Start the release on a port of its own and load all its models at once, as users will."""
    from headgate import gate as room

    rooms = read_rooms(packaging.bento_path(bundle.store, release.tag) / "src")
    slos = {ref.name: rooms[ref.name].config.slo for ref in release.models}
    plan = bundle.config.gate.profiles[profile]
    try:
        with _started(bundle, release, min(slo.max_load_s for slo in slos.values())) as server:
            samples = _load(bundle, release, profile, server, slos)
    except ServingError as error:
        yield _about_all("serving", Outcome.FAIL, f"The release did not serve: {error}")
        return
    late_ms = bundle.config.gate.max_generator_lateness_ms
    for each in samples:
        yield from room.judge(each, slos[each.model], plan, max_generator_lateness_ms=late_ms)


@contextmanager
def _started(bundle: Bundle, release: Release, limit_s: float) -> Iterator[ServerProcess]:
    """A ready server of the release, started anew while that takes longer than ``limit_s``.

    At most three times: a busy machine delays a start, but nothing makes one too quick.
    """
    bento = packaging.bento_path(bundle.store, release.tag)
    for attempt in range(_STARTS):
        bundle.notify(f"starting {release.tag} for the gate")
        server = bundle.launch(
            bento,
            release,
            port=0,
            grpc_port=None if bundle.config.server.grpc is None else 0,
            log=bundle.home / "logs" / "gate.log",
        )
        try:
            server.wait_ready(bundle.config.server.ready_timeout_s)
            if server.load_time_s <= limit_s or attempt == _STARTS - 1:
                yield server
                return
        finally:
            server.stop(bundle.config.server.drain_s)
        bundle.notify(f"  ready after {server.load_time_s:.1f} s: once more, to be sure")


def _load(
    bundle: Bundle,
    release: Release,
    profile: str,
    server: ServerProcess,
    slos: Mapping[str, SloConfig],
) -> list[Samples]:
    """Each model's samples, of one load on all of them."""
    plan = bundle.config.gate.profiles[profile]
    shown = f"{profile}, {plan.warmup_s + plan.duration_s:g} s"
    bundle.notify(f"loading {', '.join(slos)} ({shown})")
    # One progress is enough for a person.
    tell = chain([bundle.notify], repeat(_say_nothing))
    loads = [
        _one_load(bundle, release, ref, server, plan, slo=slos[ref.name], progress=say)
        for ref, say in zip(release.models, tell, strict=False)
    ]
    with ThreadPoolExecutor(len(loads)) as pool:
        runs = [pool.submit(load) for load in loads]
    return [run.result() for run in runs]


def _one_load(
    bundle: Bundle,
    release: Release,
    ref: ModelRef,
    server: ServerProcess,
    plan: LoadProfile,
    *,
    slo: SloConfig,
    progress: Callable[[str], None],
) -> Callable[[], Samples]:
    """What is needed to load one model, all read; calling it loads."""
    from headgate import gate as room
    from headgate.predictor import read_manifest

    source = packaging.bento_path(bundle.store, release.tag) / "src"
    manifest = read_manifest(source / packaging.BUNDLE / ref.name)
    return partial(
        room.measure,
        f"http://{server.address}",
        ref.name,
        packaging.reference_of(bundle.fetch(ref), manifest),
        manifest.signature,
        plan,
        rate=max(plan.rate, slo.min_rps),
        release=release.tag,
        tolerance=manifest.tolerance,
        load_time_s=server.load_time_s,
        locustfile=bundle.root / "load_tests" / "locustfile.py",
        workdir=bundle.home / "run",
        progress=progress,
    )


def _say_nothing(_: str) -> None:
    pass


def _about_all(name: str, outcome: Outcome, reason: str) -> Check:
    return Check(name=name, model="", outcome=outcome, reason=reason, samples=0)
