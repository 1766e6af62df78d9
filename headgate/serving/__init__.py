"""Online serving; :func:`predict` is for an ``app.py`` beside the models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.serving.inprocess import Predictions, in_process, predict

__all__ = ["Predictions", "in_process", "predict"]


def __getattr__(name: str) -> Any:
    """On first use: the launcher imports this package, and does without numpy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from headgate.serving import inprocess

    return getattr(inprocess, name)
