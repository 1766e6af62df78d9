"""What a protocol has to say about a prediction: how it is asked for and how it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from headgate.errors import HeadgateError
    from headgate.predictor import Batch, Outputs
    from headgate.serving.http import Head, Headers

__all__ = ["Asked", "Surface", "Told"]


class Asked(NamedTuple):
    """A valid request."""

    batch: Batch
    rows: int
    details: Any = None
    """What the same surface needs to encode the answer."""


class Told(NamedTuple):
    """An answer that is not just JSON."""

    body: bytes
    headers: Headers
    """What it is: its content type, and whatever else reading it takes."""


class Surface(Protocol):
    """One protocol for one model."""

    @property
    def name(self) -> str:
        """What the metrics call it."""

    def accept(self, head: Head) -> None:
        """Look at the headers before the body is read.

        Raises:
            InputError: a body with these headers is not understood, or the answer that they ask
                for is not given.
        """

    def decode(self, body: bytes, head: Head) -> Asked:
        """Raises :class:`headgate.errors.InputError`, whatever is wrong with it."""

    def encode(self, outputs: Outputs, asked: Asked) -> bytes | Told:
        """The body of the answer, which is JSON unless it says what else."""

    def problem(self, error: HeadgateError) -> bytes:
        """The body of an error."""
