"""One value of a file: read, or refused by column."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from headgate.errors import InputError
from headgate.gate.imported.clock import clock_of

__all__ = ["Wrong", "bad_status", "clock", "moment", "number", "whole", "word"]

_TRUE = frozenset(("true", "1", "ok", "success", "successful", "passed", "pass", "yes"))
_FALSE = frozenset(("false", "0", "ko", "fail", "failed", "failure", "error", "no"))


class Wrong(Exception):  # noqa: N818
    """A value that cannot be read; whoever counts the lines makes an error for people of it."""

    def __init__(self, why: str, value: str = "", column: str = "") -> None:
        self.why, self.value, self.column = why, value, column
        super().__init__(why)

    def at(self, path: Path, line: int) -> InputError:
        """With the file and the line."""
        where = f"{path}, line {line}"
        if not self.column:
            return InputError(self.why, where=where, remedy="mend the line or leave it out")
        shown = repr(self.value if len(self.value) <= 60 else f"{self.value[:60]} …")
        return InputError(
            f"{shown} {self.why}",
            where=f"{where}, column {self.column}",
            remedy="mend the line or leave it out",
        )


def number(text: str, column: str) -> float:
    """A finite number, not negative."""
    try:
        value = float(text)
    except ValueError:
        raise Wrong("is no number", text, column) from None
    if not 0 <= value < math.inf:
        raise Wrong("is not finite, or negative", text, column)
    return value


def whole(text: str, column: str) -> int:
    """A whole number that fits into 64 bits."""
    try:
        value = int(text)
    except ValueError:
        raise Wrong("is no whole number", text, column) from None
    if not -(2**63) <= value < 2**63:
        raise Wrong("is too large", text, column)
    return value


def word(text: str, column: str) -> bool:
    """Whether a word says that all was well."""
    lower = text.strip().lower()
    if lower in _TRUE:
        return True
    if lower in _FALSE:
        return False
    raise Wrong("is neither true nor false", text, column)


def bad_status(status: str) -> bool:
    """Whether it is no success of HTTP, nor a redirection."""
    return not (status.isdecimal() and 200 <= int(status[:4]) < 400)


def clock(unit_s: float, text: str, column: str) -> Callable[[str], float]:
    """How to read a column of times, by its first."""
    try:
        return clock_of(unit_s, text)
    except ValueError:
        raise Wrong("is no time", text, column) from None


def moment(read: Callable[[str], float], text: str, column: str) -> float:
    """One of them, in seconds."""
    try:
        at_s = read(text)
    except ValueError:
        raise Wrong("is no time", text, column) from None
    if not math.isfinite(at_s):
        raise Wrong("is no time", text, column)
    return at_s
