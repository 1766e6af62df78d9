"""Bundle → Bento → Release: building it, naming it by its digest, finding it again."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pathspec
import yaml

from headgate.errors import InputError, PackagingError
from headgate.predictor.folder import working_folder
from headgate.records import ModelRef, Release

__all__ = ["BENTO_NAME", "bento_path", "build_bento", "list_bentos", "read_release"]

BENTO_NAME = "headgate"
BUNDLE = ".headgate/bundle"
_REWRITTEN = {"bentofile.yaml"}
"""BentoML writes these anew into a Bento, so they are no part of its digest."""


def tree_digest(root: Path, files: list[str]) -> str:
    """``sha256:`` over the sorted relative paths and contents of ``files`` under ``root``."""
    total = hashlib.sha256()
    for name in sorted(set(files) - _REWRITTEN):
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        total.update(f"{name}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"


def build_bento(root: Path, store: Path, models: tuple[ModelRef, ...]) -> tuple[Release, bool]:
    """Build the Bento of ``root``'s ``bentofile.yaml``; an equal one is not built again.

    Returns the release and whether it is new. The Bento appears in the store complete or
    not at all.

    Raises:
        PackagingError: BentoML refused, or made something else than what it was given.
    """
    files = _included(root)
    digest = tree_digest(root, files)
    version = digest.removeprefix("sha256:")[:12]
    release = Release(tag=f"{BENTO_NAME}:{version}", digest=digest, models=models)
    target = store / "bentos" / BENTO_NAME / version
    if target.is_dir():
        if _is_bento(target) and _digest_of(target) == digest:
            return release, False
        shutil.rmtree(target)
    with working_folder(store / "build") as folder:
        built = _build(root, files, folder, version)
        made = _digest_of(built)
        if made != digest:
            raise PackagingError(
                f"its sources digest to {made}, not to {digest}",
                where=release.tag,
                remedy="something changed the bundle during the build: build again",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        built.rename(target)
    (target.parent / "latest").write_text(version)  # for BentoML's own command line
    return release, True


def _build(root: Path, files: list[str], folder: Path, version: str) -> Path:
    """The Bento, in a store of its own below ``folder``: BentoML copies it into place bit by bit."""
    staged, store = folder / "context", folder / "store"
    _stage(root, files, staged)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "bentoml", "build", "--version", version),
            # Named by hand, the file may lie below a hidden folder.
            *("--bentofile", str(staged / "bentofile.yaml"), str(staged)),
        ],
        env=bentoml_environment(store),
        cwd=staged,
        capture_output=True,
        text=True,
        check=False,
    )
    built = store / "bentos" / BENTO_NAME / version
    if result.returncode != 0 or not built.is_dir():
        raise PackagingError(
            f"bentoml build failed: {_last_line(result.stderr or result.stdout)}",
            where=str(root / "bentofile.yaml"),
            remedy="run `bentoml build` there to see all of its output",
        )
    return built


def bentoml_environment(store: Path) -> dict[str, str]:
    """The environment in which BentoML's own programs keep to this bundle's store."""
    return {**os.environ, "BENTOML_HOME": str(store), "BENTOML_DO_NOT_TRACK": "True"}


def bento_path(store: Path, tag: str) -> Path:
    """Where the Bento ``tag`` (with or without ``headgate:``; a prefix will do) lies.

    Raises:
        InputError: there is none, or the prefix fits several.
    """
    version = tag.removeprefix(f"{BENTO_NAME}:")
    known = [path.name for path in list_bentos(store)]
    fitting = [name for name in known if name == version] or [
        name for name in known if version and name.startswith(version)
    ]
    if len(fitting) != 1:
        problem = "no such release" if not fitting else f"fits several: {', '.join(fitting)}"
        raise InputError(
            problem,
            where=tag,
            remedy=f"built here: {', '.join(known) or 'none, run `headgate build`'}",
        )
    return store / "bentos" / BENTO_NAME / fitting[0]


def list_bentos(store: Path) -> list[Path]:
    """The Bentos in the store, oldest first."""
    folder = store / "bentos" / BENTO_NAME
    if not folder.is_dir():
        return []
    complete = [path for path in folder.iterdir() if _is_bento(path)]
    return sorted(complete, key=lambda path: (path / "bento.yaml").stat().st_mtime)


def read_release(bento: Path) -> Release:
    """The release that a Bento's folder holds, its digest computed from what lies there.

    Raises:
        PackagingError: it is no Bento of Headgate.
    """
    try:
        info = yaml.safe_load((bento / "bento.yaml").read_bytes())
        labels = msgspec.convert(info["labels"], dict[str, str])
        names = labels["headgate.models"].split(",")
        models = tuple(
            ModelRef(
                name=name,
                version=labels[f"headgate.model.{name}.version"],
                run_id=labels[f"headgate.model.{name}.run_id"],
                digest=labels[f"headgate.model.{name}.digest"],
            )
            for name in names
        )
        tag = f"{info['name']}:{info['version']}"
        digest = _digest_of(bento)
    except (OSError, yaml.YAMLError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise PackagingError(
            f"not a Bento made by Headgate ({type(error).__name__}: {_one_line(error)})",
            where=str(bento),
            remedy="build one with `headgate build` or `bentoml build` in the bundle's root",
        ) from None
    return Release(tag=tag, digest=digest, models=models)


def _included(root: Path) -> list[str]:
    """The files that ``bentofile.yaml`` puts into a Bento, relative to ``root``."""
    path = root / "bentofile.yaml"
    try:
        options = yaml.safe_load(path.read_text())
        wanted = pathspec.GitIgnoreSpec.from_lines(options["include"])
        unwanted = pathspec.GitIgnoreSpec.from_lines(
            [*options.get("exclude", []), "__pycache__/", ".DS_Store"]
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise PackagingError(
            f"cannot be read: {_one_line(error)}",
            where=str(path),
            remedy="restore it from the repository",
        ) from None
    return [
        name for name in _walk(root) if wanted.match_file(name) and not unwanted.match_file(name)
    ]


def _walk(root: Path) -> Iterator[str]:
    """Every file under ``root``, but for folders that are never sources and may be huge."""
    for folder, below, files in os.walk(root):
        here = Path(folder).relative_to(root)
        below[:] = [
            name
            for name in below
            if not name.startswith((".", "__pycache__", "venv"))
            or (here / name).as_posix() in {".headgate", BUNDLE}
        ]
        if here.as_posix() == ".headgate":
            below[:] = [name for name in below if name == "bundle"]
        yield from ((here / name).as_posix() for name in files)


def _stage(root: Path, files: list[str], staged: Path) -> None:
    """Copy the files into a clean folder: BentoML walks its whole build context."""
    for name in [*files, "bentofile.yaml"]:
        target = staged / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)


def _is_bento(path: Path) -> bool:
    return (path / "bento.yaml").is_file() and (path / "src").is_dir()


def _digest_of(bento: Path) -> str:
    source = bento / "src"
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is missing")
    files = [file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()]
    return tree_digest(source, [name for name in files if "__pycache__" not in name])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
