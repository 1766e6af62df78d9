"""Pickles written opcode by opcode, as somebody who wants to do harm would."""

from __future__ import annotations

import pickle
import struct
from typing import Any

PROTO = b"\x80\x04"
STOP = b"."


def text(value: str) -> bytes:
    """Pushes a string."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def named(module: str, name: str, *, on_stack: bool = False) -> bytes:
    """Pushes what ``module`` has under ``name``."""
    if on_stack:
        return text(module) + text(name) + b"\x93"
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def value(given: Any) -> bytes:
    """Pushes anything that pickle knows by itself."""
    return pickle.dumps(given, 3)[2:-1]


def call(function: bytes, *arguments: bytes) -> bytes:
    """Calls it."""
    return function + b"(" + b"".join(arguments) + b"tR"


def state(thing: bytes, attributes: dict[str, bytes]) -> bytes:
    """Gives it these attributes, by its ``__setstate__`` or its ``__dict__``."""
    pairs = b"".join(text(name) + each for name, each in attributes.items())
    return thing + b"}(" + pairs + b"ub"


def whole(*parts: bytes) -> bytes:
    """The last part's value, in a pickle."""
    return PROTO + b"0".join(parts) + STOP
