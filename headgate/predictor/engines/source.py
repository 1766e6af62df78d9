"""Source code that travels with a model: the module file from its room, where it was reviewed.

It is part of the artifact, so its hash is part of the release.
"""

from __future__ import annotations

import hashlib
import sys
import types
from pathlib import Path

__all__ = ["MODULE", "load_source", "names_of"]

MODULE = "module.py"


def load_source(path: Path) -> types.ModuleType:
    """Run the source file as a module named after its content; nothing is written beside it.

    Equal files become one module, whatever they are called.
    """
    source = path.read_bytes()
    name = f"headgate_module_{hashlib.sha256(source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses, type hints and skops look the module up by name.
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102
    except BaseException:
        del sys.modules[name]
        raise
    return module


def names_of(module: types.ModuleType) -> frozenset[str]:
    """``module.name`` of every class and function that the module defines itself."""
    return frozenset(
        f"{module.__name__}.{name}"
        for name, value in vars(module).items()
        if isinstance(value, type | types.FunctionType) and value.__module__ == module.__name__
    )
