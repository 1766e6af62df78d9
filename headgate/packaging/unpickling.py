"""Opening a pickle, in the child process, with every name checked once more as it is looked up."""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headgate.errors import UnsafeModelError
from headgate.packaging.allowed import allowed

__all__ = ["install_source", "load_pickle", "no_side_effects", "pickle_module"]

_OURS = {"numpy", "scipy", "sklearn", "torch"}
_EVENTS = ("ctypes.dlopen", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn", "socket.", "subprocess.", "webbrowser.")  # fmt: skip
"""Audit events of programs started and connections made: no model needs them to be read."""
_forbidding = False
_hooked = False


def pickle_module(room: Collection[str], source: types.ModuleType | None) -> types.ModuleType:
    """A stand-in for :mod:`pickle` that looks up allowed names only; ``torch.load`` takes it.

    ``room`` holds ``module.name`` of the reviewed classes, which ``source`` defines.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if not allowed(module, name, room):
                raise UnsafeModelError(f"unpickling it would import {module}.{name}")
            if f"{module}.{name}" in room and source is not None:
                return getattr(source, name)
            found = super().find_class(module, name)
            package = module.partition(".")[0]
            home = str(getattr(found, "__module__", None) or package).partition(".")[0]
            if package in _OURS and home not in {*_OURS, "builtins"}:
                # A name that the library only imported from elsewhere.
                raise UnsafeModelError(f"{module}.{name} is {home}'s, not {package}'s")
            if isinstance(found, types.ModuleType):
                raise UnsafeModelError(f"{module}.{name} is a module")
            return found

    module = types.ModuleType("headgate_pickle")
    module.Unpickler = Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: Unpickler(file, **options).load()  # type: ignore[attr-defined]
    module.UnpicklingError = pickle.UnpicklingError  # type: ignore[attr-defined]
    return module


def install_source(source: types.ModuleType, room: Collection[str]) -> None:
    """Make the reviewed classes importable under the names that a model knows them by.

    A class of the training script was ``__main__``'s when the model was saved.
    """
    for each in room:
        module, _, name = each.rpartition(".")
        home = sys.modules.setdefault(module, types.ModuleType(module))
        setattr(home, name, getattr(source, name))


def load_pickle(path: Path, room: Collection[str], source: types.ModuleType | None) -> Any:
    """Unpickle ``path`` with :func:`pickle_module`.

    Raises:
        UnsafeModelError: it names something that is not allowed.
    """
    data = io.BytesIO(path.read_bytes())
    with no_side_effects():
        return pickle_module(room, source).load(data)


@contextmanager
def no_side_effects() -> Iterator[None]:
    """While it lasts, starting a program or opening a connection raises :class:`PermissionError`.

    A second line behind the list of names, for this process only: audit hooks stay for good.
    """
    global _forbidding, _hooked  # noqa: PLW0603
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    _forbidding = True
    try:
        yield
    finally:
        _forbidding = False


def _hook(event: str, _: object) -> None:
    if _forbidding and event.startswith(_EVENTS):
        raise PermissionError(f"opening a model must not cause {event}")
