"""Verdict → traffic, and back: promote, roll back, bring up, show."""

from __future__ import annotations

import datetime as dt
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec

from headgate import packaging, rollout
from headgate.errors import ArtifactError, InputError, PackagingError, RolloutError, ServingError
from headgate.pipeline.bundle import Bundle
from headgate.pipeline.judging import demanded
from headgate.pipeline.make import find
from headgate.predictor import read_manifest
from headgate.records import EventKind, ModelRef, Record, Release, RolloutState, Verdict

__all__ = ["LiveModel", "LiveRelease", "Status", "promote", "roll_back", "serve", "status", "up"]


class LiveRelease(Record, frozen=True):
    """The release that should have the traffic."""

    tag: str
    digest: str
    verdict: Verdict | None


class LiveModel(Record, frozen=True):
    """One model of the live release."""

    name: str
    version: str
    run_id: str
    digest: str
    aliases: tuple[str, ...]
    engine: str = ""
    """``onnx``, ``sklearn`` or ``torch``; empty where its Bento is not on this machine."""


class Status(Record, frozen=True):
    """What `headgate status` shows."""

    live: LiveRelease | None
    running: bool
    """Whether a server process of the live release answers ready."""
    pid: int | None
    addresses: dict[str, str]
    """``http``, ``grpc`` and ``metrics``, each ``host:port``: those that there are."""
    previous: str | None
    models: tuple[LiveModel, ...]


def promote(bundle: Bundle, release: Release, why: str) -> rollout.Running:
    """Give ``release`` the traffic, on the strength of its verdict.

    Raises:
        VerdictRequiredError: no verdict allows it.
        RolloutError: it did not serve; what served before serves again.
    """
    state = bundle.state()
    verdict = rollout.passing_verdict(
        state,
        release,
        now=dt.datetime.now(dt.UTC),
        max_age=bundle.max_verdict_age,
        profiles=demanded(bundle, release),
    )
    bundle.check_port()
    if not _is_live(bundle, state, release):
        bundle.append(EventKind.PROMOTED, release, why, verdict)
    return _serve_or_return(bundle, release, state, EventKind.ROLLED_BACK)


def roll_back(bundle: Bundle, tag: str | None, why: str) -> rollout.Running:
    """Go back to the release before the live one, or to ``tag``, which was live once.

    Where that is live already, nothing is appended.

    Raises:
        InputError: ``tag`` was never live, or fits several.
        RolloutError: there is none, it is gone or altered, or it did not serve; what served
            before serves again.
    """
    state = bundle.state()
    target = rollout.rollback_target(state, bundle.registry.events(), tag)
    _require_bento(bundle, target)
    bundle.check_port()
    if not _is_live(bundle, state, target):
        bundle.append(EventKind.ROLLED_BACK, target, why)
    return _serve_or_return(bundle, target, state, EventKind.PROMOTED)


def up(bundle: Bundle) -> rollout.Running:
    """Serve what the history says is live: after a reboot, a crash, a `headgate down`.

    It appends nothing: what is live does not change.
    """
    state = bundle.state()
    if state.live is None:
        raise RolloutError("nothing is live", remedy="run `headgate ship`")
    _require_bento(bundle, state.live)
    return _serve(bundle, state.live, state)


def status(bundle: Bundle) -> Status:
    """What is live, what serves, and what the gate said of it."""
    state = bundle.state()
    running = bundle.platform.running()
    live = state.live
    return Status(
        live=LiveRelease(tag=live.tag, digest=live.digest, verdict=state.verdicts.get(live.digest))
        if live
        else None,
        running=bool(running and live and running.digest == live.digest and is_ready(running.http)),
        pid=running.pid if running else None,
        addresses=_addresses(running) if running else {},
        previous=state.previous.tag if state.previous else None,
        models=tuple(_live_model(bundle, live, ref) for ref in live.models) if live else (),
    )


def serve(bundle: Bundle, which: str | None, host: str | None) -> int:
    """Serve a Bento in the foreground until a signal; returns the exit code.

    ``which`` is a tag or a Bento's folder; by default what is live, else the build of
    ``models.lock``.
    """
    from headgate.serving import launcher

    if which is not None and (Path(which) / "bento.yaml").is_file():
        release, bento = packaging.read_release(Path(which)), Path(which)
    else:
        live = bundle.state().live if which is None else None
        release = live or find(bundle, which)
        bento = packaging.bento_path(bundle.store, release.tag)
    server = bundle.config.server
    if host is not None:
        server = msgspec.structs.replace(server, host=host)
    return launcher.run(bento, server, release=release.tag)


def _addresses(running: rollout.Running) -> dict[str, str]:
    grpc = {"grpc": running.grpc} if running.grpc else {}
    return {"http": running.http, **grpc, "metrics": running.http}


def _live_model(bundle: Bundle, release: Release, ref: ModelRef) -> LiveModel:
    known = {each.version: each.aliases for each in bundle.registry.versions(ref.name)}
    return LiveModel(
        name=ref.name,
        version=ref.version,
        run_id=ref.run_id,
        digest=ref.digest,
        aliases=known.get(ref.version, ()),
        engine=_engine(bundle, release, ref),
    )


def _engine(bundle: Bundle, release: Release, ref: ModelRef) -> str:
    try:
        source = packaging.bento_path(bundle.store, release.tag) / "src"
        return read_manifest(source / packaging.BUNDLE / ref.name).engine
    except (ArtifactError, InputError):
        return ""


def _require_bento(bundle: Bundle, release: Release) -> None:
    """Hold that the release's Bento lies here as it was built."""
    remedy = "restore its models.lock from git and run `headgate build`"
    try:
        found = packaging.read_release(packaging.bento_path(bundle.store, release.tag))
    except (InputError, PackagingError) as error:
        raise RolloutError(
            f"its Bento is not on this machine any more ({error.what})",
            where=release.tag,
            remedy=remedy,
        ) from None
    if found.digest != release.digest:
        raise RolloutError(
            f"its Bento was altered after it was built: {found.digest[:19]} instead of "
            f"{release.digest[:19]}",
            where=release.tag,
            remedy=f"delete {packaging.bento_path(bundle.store, release.tag)}, {remedy}",
        )


def _is_live(bundle: Bundle, state: RolloutState, release: Release) -> bool:
    """Whether ``release`` is what is live; says so."""
    live = state.live is not None and state.live.digest == release.digest
    if live:
        bundle.notify(f"{release.tag} is live already")
    return live


def _serve_or_return(
    bundle: Bundle, release: Release, state: RolloutState, back: EventKind
) -> rollout.Running:
    """Switch to ``release``; where it does not serve, record the way ``back`` and take it.

    ``state`` is what was before.
    """
    before = state.live
    try:
        return _serve(bundle, release, state)
    except ServingError as error:
        if before is None or before.digest == release.digest:
            raise
        bundle.append(back, before, f"{release.tag} did not serve: {error}")
        _serve(bundle, before, state)
        raise RolloutError(
            f"it did not serve ({error}); {before.tag} has the traffic again",
            where=release.tag,
            remedy=f"see its log in {bundle.home / 'logs'}",
        ) from None


def _serve(bundle: Bundle, release: Release, state: RolloutState) -> rollout.Running:
    """Switch the platform to ``release``, a new process where the old one hangs."""
    bundle.notify(f"serving {release.tag}")
    before = bundle.platform.running()
    if before is not None and not is_ready(before.http):
        bundle.platform.stop()
    running = bundle.platform.switch(release)
    _watch(bundle, running)
    bundle.follow_aliases(release, None, state.verdicts.get(release.digest))
    return running


def _watch(bundle: Bundle, running: rollout.Running) -> None:
    """Hold that the release stays ready for ``rollout.watch_s``."""
    until = time.monotonic() + bundle.config.rollout.watch_s
    while True:
        if not is_ready(running.http):
            raise ServingError(
                "it stopped being ready right after it got the traffic",
                where=running.release,
                remedy=f"see {running.log}",
            )
        if time.monotonic() >= until:
            return
        time.sleep(0.2)


def is_ready(address: str) -> bool:
    """Whether ``http://address/readyz`` answers 200 within two seconds."""
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
