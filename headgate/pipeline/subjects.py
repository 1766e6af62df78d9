"""A release, served on a port of its own and ready to be loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headgate import packaging
from headgate.config import ServerConfig
from headgate.errors import GateError
from headgate.pipeline.bundle import Bundle
from headgate.records import Release

if TYPE_CHECKING:
    from headgate.gate import Asked, Subject
    from headgate.serving.launcher import ServerProcess

__all__ = ["asked_of", "started", "subject"]

_STARTS = 3


def asked_of(
    bundle: Bundle,
    release: Release,
    rates: Mapping[str, float],
    rows: int,
    *,
    beside: Sequence[Asked] | None = None,
) -> tuple[Asked, ...]:
    """What each model of a release is asked: its reference rows.

    Args:
        bundle: Where its Bento lies.
        release: Whose models.
        rates: Requests per second, by model.
        rows: In a request.
        beside: What another release is asked. Only its models are asked then, and for the same
            rows where they take them.
    """
    from headgate.gate import ModelAnswers, ask_model
    from headgate.predictor import read_manifest

    others = None if beside is None else {asked.model: asked.answers for asked in beside}
    source = packaging.bento_path(bundle.store, release.tag) / "src"
    found = []
    for ref in release.models:
        if others is not None and ref.name not in others:
            continue
        manifest = read_manifest(source / packaging.BUNDLE / ref.name)
        other = others[ref.name] if others else None
        same = isinstance(other, ModelAnswers) and other.signature == manifest.signature
        found.append(
            ask_model(
                ref.name,
                other.reference
                if isinstance(other, ModelAnswers) and same
                else packaging.reference_of(bundle.fetch(ref), manifest),
                manifest.signature,
                rate=rates[ref.name],
                rows=rows,
                release=release.tag,
                tolerance=manifest.tolerance,
                own=not same,
            )
        )
    return tuple(found)


@contextmanager
def started(
    bundle: Bundle,
    release: Release,
    log: str,
    limit_s: float = math.inf,
    *,
    bento: Path | None = None,
    server: ServerConfig | None = None,
) -> Iterator[ServerProcess]:
    """A ready server, stopped afterwards; started anew while that takes longer than ``limit_s``.

    At most three times: a busy machine delays a start, but nothing makes one too quick.

    Args:
        bundle: Where it is launched from.
        release: What to serve.
        log: Name of its log.
        limit_s: Seconds from start to ready.
        bento: Another folder than the release's own.
        server: Other settings than the bundle's.
    """
    config = server or bundle.config.server
    for attempt in range(_STARTS):
        process = bundle.launch(
            bento or packaging.bento_path(bundle.store, release.tag),
            release,
            port=0,
            grpc_port=None if config.grpc is None else 0,
            log=bundle.home / "logs" / f"{log}.log",
            server=config,
        )
        try:
            process.wait_ready(config.ready_timeout_s)
            if process.load_time_s <= limit_s or attempt == _STARTS - 1:
                yield process
                return
        finally:
            process.stop(config.drain_s)
        bundle.notify(f"  ready after {process.load_time_s:.1f} s: once more, to be sure")


def subject(
    release: Release, server: ServerProcess, asked: Sequence[Asked], *, champion: bool = False
) -> Subject:
    """A release that is served, ready to be loaded.

    That the ``champion`` ends is nothing against the candidate: it proves nothing.
    """
    from headgate.gate import Subject

    def watch() -> float | None:
        if server.alive:
            return server.memory_mb()
        crash = server.failure("it ended under load")
        if champion:
            raise GateError(f"the champion: {crash}", where=release.tag)
        raise crash

    return Subject(
        release=release.tag,
        url=f"http://{server.address}",
        asked=tuple(asked),
        load_time_s=server.load_time_s,
        watch=watch,
    )
