"""What an error means in gRPC. The one place where the error tree meets its statuses."""

from __future__ import annotations

import math
from enum import IntEnum

from headgate.errors import (
    DeadlineExceededError,
    HeadgateError,
    InputError,
    OverloadError,
    UnknownModelError,
)
from headgate.serving.grpc.headers import outcome
from headgate.serving.http import TooLargeError
from headgate.serving.job import ClientGoneError, QueueFullError

__all__ = [
    "MessageTooLargeError",
    "Status",
    "StoppingError",
    "UnimplementedError",
    "ending",
    "status_of",
]


class Status(IntEnum):
    """Those that are used: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md ."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class MessageTooLargeError(TooLargeError):
    """A message is over the limit in bytes."""


class UnimplementedError(InputError):
    """There is no such method, or nobody here can decompress so."""


class StoppingError(HeadgateError):
    """This server takes no more messages on a stream."""


_STATUSES: tuple[tuple[type[HeadgateError], Status], ...] = (
    (MessageTooLargeError, Status.RESOURCE_EXHAUSTED),
    (UnimplementedError, Status.UNIMPLEMENTED),
    (UnknownModelError, Status.NOT_FOUND),
    (InputError, Status.INVALID_ARGUMENT),
    (QueueFullError, Status.RESOURCE_EXHAUSTED),
    (OverloadError, Status.UNAVAILABLE),
    (StoppingError, Status.UNAVAILABLE),
    (DeadlineExceededError, Status.DEADLINE_EXCEEDED),
    (ClientGoneError, Status.CANCELLED),
)
_HTTP_WAY = "with the header X-Headgate-Deadline-Ms"
_OUR_WAY = "with a later deadline"


def status_of(error: HeadgateError) -> Status:
    """The status by which a call ends."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return Status.INTERNAL


def text_of(error: HeadgateError) -> str:
    """What is said about it to a person."""
    return str(error).replace(_HTTP_WAY, _OUR_WAY)


def ending(error: HeadgateError) -> bytes:
    """The header block that ends a call so."""
    more = []
    if isinstance(error, OverloadError):
        # What clients that retry by themselves wait for.
        more.append(
            (b"grpc-retry-pushback-ms", b"%d" % max(1, math.ceil(error.retry_after_s * 1e3)))
        )
    return outcome(status_of(error), text_of(error), more)
