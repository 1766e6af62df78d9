"""`headgate prune`: delete from this machine what no rollback will want."""

from __future__ import annotations

import shutil
from pathlib import Path

from headgate import packaging, rollout
from headgate.pipeline.bundle import Bundle
from headgate.records import EventKind, Record

__all__ = ["Pruned", "prune"]


class Pruned(Record, frozen=True):
    """What `headgate prune` did."""

    kept: tuple[str, ...]
    deleted: tuple[str, ...]
    freed_mb: float


def prune(bundle: Bundle, keep: int | None = None) -> Pruned:
    """Keep the live, the previous and ``keep`` other releases, and what they are made of.

    Of the others the newest that were live once, before those that never were.

    Downloads and predictors that no kept release uses go too: they can be made again from
    the registry, which nothing is deleted from.
    """
    events = bundle.registry.events()
    state = rollout.replay(events)
    bentos = packaging.list_bentos(bundle.store)
    releases = {path: packaging.read_release(path) for path in bentos}
    wanted = {each.tag for each in (state.live, state.previous) if each is not None}
    lived = {event.release.digest for event in events if event.kind is not EventKind.GATED}
    others = [path for path in bentos if releases[path].tag not in wanted]
    others.sort(key=lambda path: releases[path].digest in lived)
    count = bundle.config.store.keep_releases if keep is None else keep
    old = others[: max(0, len(others) - count)]
    kept = [path for path in bentos if path not in old]
    digests = {ref.digest.removeprefix("sha256:") for path in kept for ref in releases[path].models}
    downloads = _children(bundle.home / "cache" / "models")
    predictors = _children(bundle.home / "cache" / "predictors")
    doomed = [
        *old,
        *(path for path in downloads if path.name not in digests),
        *(path for path in predictors if not path.name.startswith(tuple(digests))),
    ]
    freed = sum(_size(path) for path in doomed)
    for path in doomed:
        shutil.rmtree(path)
    return Pruned(
        kept=tuple(releases[path].tag for path in kept),
        deleted=tuple(releases[path].tag for path in old),
        freed_mb=freed / 2**20,
    )


def _children(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
