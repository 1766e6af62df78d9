"""What a protocol has to say about a prediction: how it is asked for and how it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from headgate.errors import HeadgateError
    from headgate.predictor import Batch, Outputs

__all__ = ["Asked", "Surface"]


class Asked(NamedTuple):
    """A valid request."""

    batch: Batch
    rows: int
    details: Any = None
    """What the same surface needs to encode the answer."""


class Surface(Protocol):
    """One protocol for one model."""

    @property
    def name(self) -> str:
        """What the metrics call it."""

    def decode(self, body: bytes) -> Asked:
        """Raises :class:`headgate.errors.InputError`, whatever is wrong with it."""

    def encode(self, outputs: Outputs, asked: Asked) -> bytes:
        """The body of the answer."""

    def problem(self, error: HeadgateError) -> bytes:
        """The body of an error."""
