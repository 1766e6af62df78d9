"""What an image is built from, and what it says of itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from headgate.records import Release

__all__ = ["image_labels", "stage"]

_EPOCH = (0, 0)
_READ, _ENTER = 0o644, 0o755


def stage(bento: Path, folder: Path) -> None:
    """Copy a Bento into ``folder``, with the same times and modes every time.

    An image's layers are named by what is in them, times and modes too.
    """
    shutil.copytree(
        bento, folder, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in (folder, *_below(folder)):
        path.chmod(_ENTER if path.is_dir() else _READ)
        os.utime(path, _EPOCH)


def image_labels(release: Release, revision: str = "") -> dict[str, str]:
    """What an image says of itself: the names of the Open Container Initiative, then Headgate's own.

    ``revision`` is the commit that it was built from.
    """
    labels = {
        "org.opencontainers.image.title": release.tag.partition(":")[0],
        "org.opencontainers.image.version": release.tag.partition(":")[2],
        "headgate.release": release.tag,
        "headgate.digest": release.digest,
    }
    if revision:
        labels["org.opencontainers.image.revision"] = revision
    for model in release.models:
        labels[f"headgate.model.{model.name}.version"] = model.version
        labels[f"headgate.model.{model.name}.digest"] = model.digest
    return labels


def _below(folder: Path) -> Iterator[Path]:
    """Everything in it, a folder after what is in it: changing that changes its own time."""
    for name, folders, files in os.walk(folder, topdown=False):
        yield from (Path(name) / each for each in (*files, *folders))
