"""``models.lock``: which model versions a bundle is meant to serve, for git to keep."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from headgate.config import MODEL_NAME
from headgate.errors import ConfigError
from headgate.records import ModelRef

__all__ = ["DIGEST", "read_lock", "write_lock"]

DIGEST = r"sha256:[0-9a-f]{64}"

# They become parts of paths; MLflow itself makes versions and run ids of these characters.
_FORM = {
    "name": (MODEL_NAME, "letters, digits, spaces, dots, dashes and underscores"),
    "version": (r"[0-9]{1,18}", "a number in quotes"),
    "run_id": (r"([A-Za-z0-9][A-Za-z0-9_-]{0,255})?", "letters, digits, dashes, underscores"),
    "digest": (DIGEST, "sha256: and 64 hexadecimal digits"),
}
_HEADER = """\
# The model versions of this bundle. Written by `headgate lock` and `headgate train`;
# `headgate build` reads nothing else. Commit it, and review a change of it like code.
"""


class _Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[ModelRef, ...] = ()


def read_lock(root: Path) -> tuple[ModelRef, ...]:
    """The pinned versions, in the file's order; no file pins nothing.

    Raises:
        ConfigError: it is malformed, pins a model twice, or holds what `headgate lock` never
            writes.
    """
    path = root / "models.lock"
    remedy = "restore it from git, or delete it and run `headgate lock`"
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
        for field, (form, words) in _FORM.items():
            if not re.fullmatch(form, value := getattr(ref, field)):
                raise ConfigError(
                    f"{field} {value[:80]!r} of model {ref.name[:80]!r} is not {words}",
                    where=str(path),
                    remedy=remedy,
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
