"""What a client of gRPC may keep us waiting for, and for how long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headgate.errors import DeadlineExceededError
from headgate.serving.grpc.frames import ErrorCode
from headgate.serving.launch import connections

if TYPE_CHECKING:
    from headgate.serving.grpc.connection import Connection

__all__ = ["look"]

SILENT_S = 60.0
"""A client that was silent for so long is asked whether it is there."""
ANSWER_S = 20.0
"""One that does not say so is given up."""
NUISANCES = 5000
"""Frames a second that cost something and say little: pings, resets, empty ones."""
PARTING_S = 5.0
"""A client that was told that nothing follows has so long to close."""


def look(members: Iterable[Connection], now: float) -> None:
    """Look at every connection; call it once a second with the time of the monotonic clock."""
    for connection in list(members):
        silent = now - connection.heard
        if _is_stuck(connection, now) or silent > SILENT_S + ANSWER_S:
            connection.sender.transport.abort()
        elif connection.nuisance > NUISANCES:
            connection.give_up(ErrorCode.ENHANCE_YOUR_CALM, "too much that says nothing")
        elif _waits(connection, now):
            connection.give_up(ErrorCode.NO_ERROR, "it took too long")
        else:
            connection.nuisance = 0
            if silent > SILENT_S:
                connection.ask(now)
            _look_at_calls(connection, now)


def _is_stuck(connection: Connection, now: float) -> bool:
    """Whether it does not read what we sent, or does not leave though all is said."""
    paused = connection.sender.paused_since
    left = connection.left_at
    return (paused is not None and now - paused > connections.ANSWER_S) or (
        left is not None and not connection.calls and now - left > PARTING_S
    )


def _waits(connection: Connection, now: float) -> bool:
    """Whether it keeps us waiting for its first words, or for headers."""
    partial = connection.partial_since
    header_s = connections.HEADER_S
    return (not connection.greeted and now - connection.began > header_s) or (
        partial is not None and now - partial > header_s
    )


def _look_at_calls(connection: Connection, now: float) -> None:
    for call, since in list(connection.sender.blocked.items()):
        if now - since > connections.ANSWER_S:
            connection.abort(call.stream)
    for call in list(connection.calls.values()):
        if call.is_slow(now):
            call.fail(
                DeadlineExceededError(
                    f"the message came at less than {connections.BODY_RATE} bytes a second",
                    where="message",
                    remedy="send it faster",
                )
            )
