"""Folders that appear complete or not at all, whatever kills their writer."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["complete_folder", "working_folder"]


@contextmanager
def complete_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that takes its place when the block ends well.

    Everything in it is on disk before it is renamed. Killed in between, ``target`` is either
    what it was, or missing, or complete; what the kill left beside it is swept by the next
    writer. If the block raises, ``target`` is as before.

    Raises:
        OSError: the disk is full, the folder read-only and the like.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    fresh = _beside(target, "new")
    fresh.mkdir()
    try:
        yield fresh
        _sync_tree(fresh)
        if target.exists():
            old = _beside(target, "old")
            target.rename(old)
            fresh.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def working_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that is gone afterwards.

    What a killed process left of its own is swept by the next one that works on ``target``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    folder = _beside(target, "work")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}.{os.getpid()}.{secrets.token_hex(4)}")


def _sweep(target: Path) -> None:
    """Remove what writers that are no more left beside ``target``."""
    for what in ("new", "old", "work"):
        for left in target.parent.glob(f".{target.name}.{what}.*.*"):
            pid = left.name.split(".")[-2]
            if pid.isdigit() and not _alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
