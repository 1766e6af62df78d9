"""A file as text, whatever it was packed and encoded in."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO, cast

from headgate.errors import InputError

__all__ = ["opened"]

_HEAD = 65_536
"""Bytes in which the first line must end."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[str, TextIO]]:
    """The first line that is not empty, and the whole text from its beginning."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with gzip.open(raw) if packed else nullcontext(raw) as file:
            buffered = io.BufferedReader(cast("io.RawIOBase", file), buffer_size=_HEAD)
            head = buffered.peek(_HEAD)[:_HEAD]
            encoding = _encoding(path, head)
            first = next(filter(str.strip, head.decode(encoding, "replace").splitlines()), "")
            with io.TextIOWrapper(buffered, encoding, errors="replace", newline="") as stream:
                yield first.strip(), stream


def _encoding(path: Path, head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"  # what PowerShell redirects into a file
    if b"\x00" in head:
        raise InputError(
            "holds no text",
            where=str(path),
            remedy="of vegeta's results, give what `vegeta encode --to csv` makes",
        )
    return "utf-8-sig"
