"""skops, imported without torch: half of the time that a worker needs to start.

skops asks scikit-learn for all its estimators, for which every package of scikit-learn is imported,
one of them a bridge to torch. Nothing of that is used here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any

__all__ = ["skops_io"]


def skops_io() -> Any:
    """The module ``skops.io``."""
    if "skops.io" not in sys.modules and "torch" not in sys.modules:
        with _without_torch():
            import skops.io
    else:
        import skops.io
    return skops.io


class _NoTorch(MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        del path, target
        if name == "torch":
            raise ModuleNotFoundError("torch is not looked for here", name=name)


@contextmanager
def _without_torch() -> Iterator[None]:
    """Have imports find no torch, as where it is not installed."""
    finder = _NoTorch()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
