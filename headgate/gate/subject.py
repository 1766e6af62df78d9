"""Whom a load test asks, and for what."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np

from headgate.errors import GateError, InputError, ServingError
from headgate.gate.answers import Answers, ModelAnswers
from headgate.gate.plan import Ask
from headgate.predictor import Reference, Signature
from headgate.predictor.rows import batch_to_rows

__all__ = ["Asked", "Subject", "ask_model", "reach"]

_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one model is asked, and by whom its answers are judged."""

    model: str
    asks: tuple[Ask, ...]
    answers: Answers
    rate: float
    """Requests per second."""
    rows: int = 1
    """In each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One release that is loaded."""

    release: str
    url: str
    """``http://host:port``."""
    asked: tuple[Asked, ...]
    """One for each model."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with each request."""
    load_time_s: float | None = None
    watch: Callable[[], float | None] = lambda: None
    """Called after each block, and now and then in a long one: its resident memory, MiB, or None.
    It raises where the release is gone."""


def ask_model(
    model: str,
    reference: Reference,
    signature: Signature,
    *,
    rate: float,
    rows: int,
    release: str,
    tolerance: float,
    own: bool = True,
) -> Asked:
    """Ask a model that speaks the V1 protocol for its reference rows.

    Args:
        model: Its name there.
        reference: The rows to send, and what was predicted for them.
        signature: What the model takes and gives.
        rate: Requests per second.
        rows: Neighbouring rows in a request.
        release: The release's tag; an answer that names another counts as an error.
        tolerance: Largest difference from the reference that counts as equal.
        own: False where the reference is another model's: then any prediction is right.

    Raises:
        GateError: there is nothing to send.
    """
    if reference.rows == 0:
        raise GateError(
            "the reference has no rows, so there is nothing to send",
            where=model,
            remedy="log some with `headgate.log_reference`",
        )
    known = batch_to_rows(signature, reference.inputs)
    groups = [np.arange(start, start + rows) % len(known) for start in range(0, len(known), rows)]
    path = f"/v1/models/{quote(model)}:predict"
    return Asked(
        model=model,
        asks=tuple(
            Ask(path=path, body=msgspec.json.encode({"instances": [known[row] for row in group]}))
            for group in groups
        ),
        answers=ModelAnswers(
            groups, reference, signature, tolerance=tolerance, release=release, own=own
        ),
        rate=rate,
        rows=rows,
    )


def reach(url: str) -> None:
    """Hold that somebody listens at ``url``."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise _no_address(url, str(error)) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _no_address(url, "not an http address")
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_S).close()
    except UnicodeError as error:
        raise _no_address(url, str(error)) from None
    except OSError as error:
        raise ServingError(
            f"nobody answers ({error.strerror or error})",
            where=url,
            remedy="start it, or give another address",
        ) from None


def _no_address(url: str, why: str) -> InputError:
    return InputError(why, where=url, remedy="give http://host:port")
