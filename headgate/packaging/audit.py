"""Nothing of a model is opened before every file of it that could run code was looked at."""

from __future__ import annotations

import ast
import io
import re
import zipfile
from collections.abc import Collection
from pathlib import Path

from headgate.errors import ConfigError, UnsafeModelError
from headgate.packaging.allowed import allowed
from headgate.packaging.exported import ForbiddenContentError, check_exported
from headgate.packaging.pickles import MalformedPickleError, globals_of
from headgate.packaging.source import Format, Source

__all__ = ["audit_model", "room_names"]

_ZIP = b"PK\x03\x04"
_PROTOCOL = re.compile(rb"\x80[\x02-\x05]")
_PICKLE_NAMES = {".joblib", ".pickle", ".pkl", ".pt", ".pth"}
_SAFER = (
    "log it with a format that needs no pickle (skops for scikit-learn, pt2 for torch), or keep to "
    "scikit-learn, numpy, scipy, torch and the classes of packaging.module in its model.toml"
)


def audit_model(folder: Path, source: Source, room: Collection[str] = ()) -> tuple[str, ...]:
    """Look at every pickle and every archive in ``folder``; returns what was looked at.

    The model itself is looked at as what ``source`` says it will be opened as, whatever it is
    called and begins with. ``room`` holds ``module.name`` of the classes that the model's
    reviewed module defines. Files that no library opens as code (text, JSON, skops, which has
    its own list) pass.

    Raises:
        UnsafeModelError: a file names something that is not allowed, or cannot be followed.
    """
    looked_at = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise UnsafeModelError("a link", where=str(path), remedy="log the model again")
        name = path.relative_to(folder).as_posix()
        opened = source.format if name == source.file else None
        if path.is_file() and _check_file(path, opened, room):
            looked_at.append(name)
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


def _check_file(path: Path, opened: Format | None, room: Collection[str]) -> bool:
    """Whether the file was of a kind that had to be looked at."""
    if opened == "skops":
        return False
    if opened == "pickle":
        _check_pickle(str(path), path.read_bytes(), room, persistent=False)
        return True
    with path.open("rb") as file:
        head = file.read(4)
    # torch goes by how a file begins, zipfile by how it ends: whoever reads it must see one archive.
    if head == _ZIP or zipfile.is_zipfile(path):
        _check_archive(path, opened, head, room)
        return True
    # Protocol 2 and up begin with their number; older ones with anything.
    if opened or path.suffix in _PICKLE_NAMES or _PROTOCOL.match(head):
        _check_pickle(str(path), path.read_bytes(), room, persistent=False)
        return True
    return False


def _check_archive(path: Path, opened: Format | None, head: bytes, room: Collection[str]) -> None:
    where = str(path)

    def nested(name: str, content: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            _hold_one_archive(inner, content[:4])
            _check_torch(f"{where}!{name}", inner, ())

    try:
        with zipfile.ZipFile(path) as archive:
            names = _hold_one_archive(archive, head)
            if opened == "pt2" or any(name.endswith("archive_format") for name in names):
                check_exported(archive, nested)
            else:
                _check_torch(where, archive, room)
    except (ForbiddenContentError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UnsafeModelError(str(error), where=where, remedy=_SAFER) from None


def _hold_one_archive(archive: zipfile.ZipFile, head: bytes) -> list[str]:
    """The names in it, if nothing lies before it and no two of them may be taken for each other.

    torch finds records whatever the case of their names.
    """
    records = archive.infolist()
    if head != _ZIP or min(record.header_offset for record in records) != 0:
        raise ForbiddenContentError("an archive with something before it")
    names = [record.filename for record in records]
    if len({name.lower() for name in names}) != len(names):
        raise ForbiddenContentError("two records of one name")
    return names


def _check_torch(where: str, archive: zipfile.ZipFile, room: Collection[str]) -> None:
    """An archive of ``torch.save``: one pickle, the rest the bytes of tensors."""
    names = archive.namelist()
    if any(name.lower().endswith("constants.pkl") for name in names):
        raise UnsafeModelError("TorchScript, a program of its own", where=where, remedy=_SAFER)
    for name in names:
        if name.lower().endswith(".pkl"):
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
