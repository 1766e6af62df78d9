"""What a pickle would import, found by walking its opcodes: nothing is imported or called."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any

__all__ = ["MalformedPickleError", "globals_of"]

_STRINGS = {
    "BINSTRING",
    "BINUNICODE",
    "BINUNICODE8",
    "SHORT_BINSTRING",
    "SHORT_BINUNICODE",
    "STRING",
    "UNICODE",
}
_REFUSED = {
    "EXT1": "names a class by number",
    "EXT2": "names a class by number",
    "EXT4": "names a class by number",
    "INST": "makes an instance the way of Python 1",
    "OBJ": "makes an instance the way of Python 1",
    "NEXT_BUFFER": "wants a buffer from outside",
    "READONLY_BUFFER": "wants a buffer from outside",
}
_CALLED = {"REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3}
"""Opcodes that call something, and how deep on the stack it lies."""
_ALTERED = {"APPEND": 2, "BUILD": 2, "SETITEM": 3}
"""Opcodes that put something into something else, and how deep on the stack that lies."""
_FILLED = {"ADDITEMS", "APPENDS", "SETITEMS"}
"""The same for several values at once: it lies below the last mark."""
_MARK = object()
_GLOBAL = object()
_OPAQUE = object()


class MalformedPickleError(ValueError):
    """No pickle, or one that cannot be followed without running it."""


def globals_of(data: bytes, *, persistent: bool = False) -> set[tuple[str, str]]:
    """Every ``(module, name)`` that unpickling ``data`` would look up.

    The stack and the memo are followed as the unpickler would, with every value but strings
    opaque, so that a name put together on the stack is seen as it would be used. ``persistent``
    allows persistent ids, which torch uses for storages.

    What is called must have been looked up by name, and what was looked up must stay as it is:
    an object of harmless parts may, once called, reach what no name on a list allows.

    Raises:
        MalformedPickleError: the stream is broken or goes on behind its end, uses an opcode no
            model needs, takes a name from anything but a plain string, calls an object, or
            alters a class, function or module.
    """
    machine = _Machine()
    try:
        for opcode, argument in _operations(data):
            if opcode.name in _REFUSED:
                raise MalformedPickleError(f"{opcode.name} {_REFUSED[opcode.name]}")
            if opcode.name in {"PERSID", "BINPERSID"} and not persistent:
                raise MalformedPickleError("a persistent id outside of a torch archive")
            machine.step(opcode, argument)
    except (IndexError, KeyError) as error:
        raise MalformedPickleError(f"its stack does not add up ({error!r})") from None
    return machine.found


def _operations(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    last = -1
    try:
        for opcode, argument, position in pickletools.genops(data):
            last = position or 0
            yield opcode, argument
    # pickletools raises whatever its decoding happens to raise.
    except Exception as error:  # noqa: BLE001
        raise MalformedPickleError(f"no pickle ({error})") from None
    if last + 1 != len(data):
        raise MalformedPickleError("something follows its end")


class _Machine:
    """The unpickler's stack and memo, without its deeds."""

    def __init__(self) -> None:
        self.found: set[tuple[str, str]] = set()
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name, stack = opcode.name, self._stack
        if name in _STRINGS:
            stack.append(argument)
        elif name == "GLOBAL":
            module, _, attribute = argument.partition(" ")
            self.found.add((module, attribute))
            stack.append(_GLOBAL)
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not isinstance(attribute, str) or not isinstance(module, str):
                raise MalformedPickleError("a name that is computed")
            self.found.add((module, attribute))
            stack.append(_GLOBAL)
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            self._memo[argument] = stack[-1]
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            stack.append(self._memo[argument])
        else:
            self._generic(opcode)

    def _generic(self, opcode: pickletools.OpcodeInfo) -> None:
        """Pop and push as many values as :mod:`pickletools` says the opcode does."""
        self._check_target(opcode.name)
        before = opcode.stack_before
        if pickletools.markobject in before:
            while self._stack.pop() is not _MARK:
                pass
            before = before[: before.index(pickletools.markobject)]
        for _ in before:
            self._stack.pop()
        self._stack.extend(_OPAQUE for _ in opcode.stack_after)

    def _check_target(self, name: str) -> None:
        stack = self._stack
        if name in _CALLED and stack[-_CALLED[name]] is not _GLOBAL:
            raise MalformedPickleError(f"{name} calls what was not looked up by name")
        if name in _ALTERED:
            altered = stack[-_ALTERED[name]]
        elif name in _FILLED:
            altered = self._below_mark()
        else:
            return
        if altered is _GLOBAL:
            raise MalformedPickleError(f"{name} alters what was looked up by name")

    def _below_mark(self) -> Any:
        for index in range(len(self._stack) - 1, 0, -1):
            if self._stack[index] is _MARK:
                return self._stack[index - 1]
        raise IndexError("no mark")
