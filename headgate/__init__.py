"""Headgate: from the model registry to live traffic, through a gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.registry.reference import log_reference

__all__ = ["log_reference"]


def __getattr__(name: str) -> Any:
    """Import on first use: `import headgate` alone does no work."""
    if name == "log_reference":
        from headgate.registry.reference import log_reference

        return log_reference
    raise AttributeError(f"module 'headgate' has no attribute {name!r}")
