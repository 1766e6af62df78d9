"""``models.lock``: which model versions a bundle is meant to serve, for git to keep."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from headgate.errors import ConfigError
from headgate.records import ModelRef

__all__ = ["read_lock", "write_lock"]

_HEADER = """\
# The model versions of this bundle. Written by `headgate lock` and `headgate train`;
# `headgate build` reads nothing else. Commit it, and review a change of it like code.
"""


class _Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[ModelRef, ...] = ()


def read_lock(root: Path) -> tuple[ModelRef, ...]:
    """The pinned versions, in the file's order; no file pins nothing.

    Raises:
        ConfigError: it is malformed or pins a model twice.
    """
    path = root / "models.lock"
    remedy = "restore it from git, or write it anew with `headgate lock`"
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=_Lock).model
    except FileNotFoundError:
        return ()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(error), where=str(path), remedy=remedy) from None
    names = [ref.name for ref in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"pins {', '.join(twice)} twice", where=str(path), remedy=remedy)
    for ref in found:
        if not ref.digest.startswith("sha256:"):
            raise ConfigError(
                f"digest {ref.digest!r} of {ref.name} is no sha256", where=str(path), remedy=remedy
            )
    return found


def write_lock(root: Path, refs: Sequence[ModelRef]) -> None:
    """Replace ``models.lock``; readers see the old file or the new one, never a part."""
    entries = [
        "\n[[model]]\n"
        + "".join(
            f"{name} = {msgspec.json.encode(getattr(ref, name)).decode()}\n"
            for name in ("name", "version", "run_id", "digest")
        )
        for ref in refs
    ]
    path = root / "models.lock"
    fresh = path.with_name(f".models.lock.{secrets.token_hex(4)}")
    try:
        with fresh.open("w") as file:
            file.write(_HEADER + "".join(entries))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
