"""Artifacts → the bundle that serving reads and the Bento carries."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from headgate.errors import PackagingError
from headgate.predictor import complete_folder, read_manifest
from headgate.predictor.artifact import verify_files

__all__ = ["assemble_bundle"]


def assemble_bundle(bundle_dir: Path, artifacts: Sequence[tuple[str, Path]]) -> None:
    """Write ``bundle_dir`` with one predictor artifact for each ``(name, artifact)``.

    It appears complete or not at all: killed at any moment, there is the old bundle, the new
    one, or none.

    Raises:
        ArtifactError: an artifact is incomplete or altered.
        PackagingError: two of one name, or a name that is no folder's name.
    """
    names = [name for name, _ in artifacts]
    for name in names:
        if names.count(name) > 1 or name in {"", ".", ".."} or "/" in name or name == "bundle.json":
            raise PackagingError(
                "twice in one bundle, or no name for a folder",
                where=repr(name),
                remedy="register each model under a plain name of its own",
            )
    with complete_folder(bundle_dir) as fresh:
        for name, path in artifacts:
            shutil.copytree(path, fresh / name)
            verify_files(fresh / name, read_manifest(fresh / name))
        listed = {"format": 1, "models": [{"name": name, "path": name} for name in names]}
        content = msgspec.json.format(msgspec.json.encode(listed))
        (fresh / "bundle.json").write_bytes(content + b"\n")
