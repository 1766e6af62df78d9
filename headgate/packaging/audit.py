"""Nothing of a model is opened before every file of it that could run code was looked at."""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Collection
from pathlib import Path

from headgate.errors import ConfigError, UnsafeModelError
from headgate.packaging.allowed import allowed
from headgate.packaging.exported import ForbiddenContentError, check_exported
from headgate.packaging.pickles import MalformedPickleError, globals_of

__all__ = ["audit_model", "room_names"]

_PICKLE_NAMES = {".joblib", ".pickle", ".pkl", ".pt", ".pth"}
_SAFER = (
    "log it with a format that needs no pickle (skops for scikit-learn, pt2 for torch), or keep to "
    "scikit-learn, numpy, scipy, torch and the classes of packaging.module in its model.toml"
)


def audit_model(folder: Path, room: Collection[str] = ()) -> tuple[str, ...]:
    """Look at every pickle and every archive in ``folder``; returns what was looked at.

    ``room`` holds ``module.name`` of the classes that the model's reviewed module defines.
    Files that no library opens as code (text, JSON, skops, which has its own list) pass.

    Raises:
        UnsafeModelError: a file names something that is not allowed, or cannot be followed.
    """
    looked_at = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise UnsafeModelError("a link", where=str(path), remedy="log the model again")
        if path.is_file() and _check_file(path, room):
            looked_at.append(path.relative_to(folder).as_posix())
    return tuple(looked_at)


def room_names(module: Path | None, *, functions: bool) -> frozenset[str]:
    """``module.name`` of every class that the room's module file defines, read, not run.

    ``functions`` adds its functions: a skops file only refers to them, while a pickle could
    call them with anything. What the training script itself defines is known as ``__main__``'s.

    Raises:
        ConfigError: the file is not there or no Python.
    """
    if module is None:
        return frozenset()
    try:
        tree = ast.parse(module.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(
            f"cannot be read: {error}",
            where=str(module),
            remedy="packaging.module in model.toml names a Python file in the model's room",
        ) from None
    kinds = (ast.ClassDef, ast.FunctionDef) if functions else (ast.ClassDef,)
    names = [node.name for node in tree.body if isinstance(node, kinds)]
    return frozenset(f"{where}.{name}" for where in ("__main__", module.stem) for name in names)


def _check_file(path: Path, room: Collection[str]) -> bool:
    """Whether the file was of a kind that had to be looked at."""
    if path.suffix == ".skops":
        return False
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _check_archive(str(path), archive, room)
        return True
    with path.open("rb") as file:
        head = file.read(2)
    # Protocol 2 and up begin with their number; older ones with anything.
    if path.suffix in _PICKLE_NAMES or (head[:1] == b"\x80" and head[1:] in b"\x02\x03\x04\x05"):
        _check_pickle(str(path), path.read_bytes(), room, persistent=False)
        return True
    return False


def _check_archive(where: str, archive: zipfile.ZipFile, room: Collection[str]) -> None:
    names = [info.filename for info in archive.infolist()]

    def nested(name: str, content: bytes) -> None:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as inner:
                _check_torch(f"{where}!{name}", inner, ())
        except zipfile.BadZipFile:
            raise UnsafeModelError(
                "no torch archive", where=f"{where}!{name}", remedy=_SAFER
            ) from None

    try:
        if any(name.endswith("archive_format") for name in names):
            check_exported(archive, nested)
        else:
            _check_torch(where, archive, room)
    except (ForbiddenContentError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UnsafeModelError(str(error), where=where, remedy=_SAFER) from None


def _check_torch(where: str, archive: zipfile.ZipFile, room: Collection[str]) -> None:
    """An archive of ``torch.save``: one pickle, the rest the bytes of tensors."""
    names = [info.filename for info in archive.infolist()]
    if any(name.endswith("constants.pkl") for name in names):
        raise UnsafeModelError("TorchScript, a program of its own", where=where, remedy=_SAFER)
    for name in names:
        if name.endswith(".pkl"):
            _check_pickle(f"{where}!{name}", archive.read(name), room, persistent=True)


def _check_pickle(where: str, data: bytes, room: Collection[str], *, persistent: bool) -> None:
    try:
        found = globals_of(data, persistent=persistent)
    except MalformedPickleError as error:
        raise UnsafeModelError(str(error), where=where, remedy=_SAFER) from None
    for module, name in sorted(found):
        if not allowed(module, name, room):
            raise UnsafeModelError(
                f"unpickling it would import {module}.{name}", where=where, remedy=_SAFER
            )
