"""Requests and answers: bodies with a limit, JSON out, and what an error means in HTTP."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias

import orjson

from headgate.errors import (
    DeadlineExceededError,
    HeadgateError,
    InputError,
    OverloadError,
    ServingError,
    UnknownModelError,
)
from headgate.serving.job import ClientGoneError, QueueFullError
from headgate.serving.metrics import Outcome

__all__ = [
    "CODINGS",
    "DEADLINE",
    "ENCODING",
    "JSON",
    "App",
    "Head",
    "Headers",
    "MediaTypeError",
    "MethodError",
    "NotAcceptableError",
    "Receive",
    "Scope",
    "Send",
    "TooLargeError",
    "UnknownVersionError",
    "accept_json",
    "accept_plain",
    "check_rows",
    "deadline_s",
    "discard_body",
    "error_headers",
    "loads",
    "meaning",
    "names",
    "problem",
    "read_body",
    "reply",
    "still_there",
    "too_large",
]

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]
Head: TypeAlias = Mapping[bytes, bytes]
"""Of a repeated header the last."""

JSON = (b"content-type", b"application/json")
DEADLINE = b"x-headgate-deadline-ms"
ENCODING = b"content-encoding"
CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate", b"identity"})
"""The content encodings that :mod:`headgate.serving.packed` undoes."""
_CLOSE = (b"connection", b"close")
_DISCARD_BYTES = 256 * 1024 * 1024
_DISCARD_S = 5.0
# Sent by who means JSON and does not say so: curl the third, browsers and node the last.
_PLAIN_TYPES = (
    None,
    b"application/json",
    b"application/x-www-form-urlencoded",
    b"",
    b"text/plain",
)


class TooLargeError(InputError):
    """The body, or the number of its rows, is over the limit."""

    unread = False
    """Whether some of the body has not been received."""


class MediaTypeError(InputError):
    """The body is of a kind that is not understood here."""


class NotAcceptableError(InputError):
    """The answer is wanted in a form that it has not."""


class MethodError(InputError):
    """The path is there, the method is not."""


class UnknownVersionError(UnknownModelError):
    """The model is there, the version is not."""


_MEANING: tuple[tuple[type[HeadgateError], int, Outcome], ...] = (
    (TooLargeError, 413, "too_large"),
    (MediaTypeError, 415, "media_type"),
    (MethodError, 405, "method"),
    (NotAcceptableError, 406, "media_type"),
    (UnknownModelError, 404, "unknown"),
    (InputError, 400, "input"),
    (QueueFullError, 429, "overload"),
    (OverloadError, 503, "overload"),
    (DeadlineExceededError, 504, "deadline"),
    # Nobody reads it; 499 is what proxies log for it.
    (ClientGoneError, 499, "gone"),
    (ServingError, 500, "engine"),
)


def meaning(error: HeadgateError) -> tuple[int, Outcome]:
    """Status and outcome of an error. The one place where the error tree meets HTTP."""
    for kind, status, outcome in _MEANING:
        if isinstance(error, kind):
            return status, outcome
    return 500, "internal"


def problem(error: HeadgateError) -> bytes:
    """The body of an error."""
    return orjson.dumps({"error": error.what, "where": error.where, "remedy": error.remedy})


def error_headers(error: HeadgateError) -> Headers:
    """Headers that belong to an error."""
    if isinstance(error, OverloadError):
        return [(b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s)))]
    if isinstance(error, DeadlineExceededError):
        return [(b"retry-after", b"1")]
    return []


def names(version: str, release: str) -> Headers:
    """Headers that say who answers."""
    return [
        (b"x-headgate-model-version", version.encode()),
        (b"x-headgate-release", release.encode()),
    ]


async def reply(send: Send, status: int, body: bytes, headers: Iterable[Any] = ()) -> None:
    """Send a whole answer in JSON."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [JSON, (b"content-length", b"%d" % len(body)), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def discard_body(
    status: int, body: bytes, receive: Receive, send: Send, headers: Iterable[Any] = ()
) -> None:
    """Answer before the request's body is read, then throw away what still comes and close.

    Many clients read nothing before they have sent everything, and a connection that is closed
    with unread bytes is reset, which loses the answer. Bounded in bytes and time.
    """
    all_headers = [JSON, (b"content-length", b"%d" % len(body)), _CLOSE, *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    size = 0
    try:
        async with asyncio.timeout(_DISCARD_S):
            while size < _DISCARD_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})


async def read_body(head: Head, receive: Receive, limit: int, *, fixed: bool = False) -> bytes:
    """The whole body. Unless ``limit`` is ``fixed``, it is ``server.max_body_mb``.

    Raises:
        TooLargeError: it is, or says that it will be, over ``limit`` bytes; nothing beyond that
            was read.
        ClientGoneError: the client left before it was complete.
    """
    length = head.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise too_large(limit, f"{int(length)} bytes", unread=True, fixed=fixed)
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGoneError("the client left before its request was complete")
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise too_large(limit, f"{len(body)} bytes", fixed=fixed)
        return body
    chunks = [body]
    size = len(body)
    while message.get("more_body"):
        if size > limit:
            raise too_large(limit, f"more than {limit} bytes", unread=True, fixed=fixed)
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError("the client left before its request was complete")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    if size > limit:
        raise too_large(limit, f"{size} bytes", fixed=fixed)
    return b"".join(chunks)


def too_large(limit: int, size: str, *, unread: bool = False, fixed: bool = False) -> TooLargeError:
    """What is said of a body of ``size``, of which some may be ``unread``."""
    remedy = f"send at most {limit} bytes"
    error = TooLargeError(
        f"the body has {size}",
        where="body",
        remedy=remedy if fixed else f"{remedy}, or raise server.max_body_mb",
    )
    error.unread = unread
    return error


def check_rows(rows: int, most: int) -> None:
    """Hold that a request has at most so many rows; before they are looked at, if possible.

    Raises:
        TooLargeError: it has more.
    """
    if rows > most:
        raise TooLargeError(
            f"{rows} rows", where="body", remedy=f"send at most {most} rows at a time"
        )


def accept_json(head: Head) -> None:
    """Refuse bodies that say they are something else than JSON.

    Raises:
        MediaTypeError: the content type or the content encoding is not understood.
    """
    kind = head.get(b"content-type")
    if kind not in _PLAIN_TYPES:
        plain = kind.split(b";")[0].strip().lower()
        if plain not in _PLAIN_TYPES and not plain.endswith(b"+json"):
            raise MediaTypeError(
                f"{_text(kind)} is not understood",
                where="header Content-Type",
                remedy="send application/json",
            )
    accept_plain(head)


def accept_plain(head: Head) -> None:
    """Refuse bodies that cannot be made plain: compressed in a way that is not known here.

    Raises:
        MediaTypeError: the content encoding is not understood.
    """
    if ENCODING in head and head[ENCODING].lower() not in CODINGS:
        raise MediaTypeError(
            f"{_text(head[ENCODING])} is not understood",
            where="header Content-Encoding",
            remedy="send gzip, deflate or the body as it is",
        )


def deadline_s(head: Head, default_s: float) -> float:
    """Seconds that the client allows; ``X-Headgate-Deadline-Ms``, else the default.

    Raises:
        InputError: the header holds no number above 0.
    """
    value = head.get(DEADLINE)
    if value is None:
        return default_s
    try:
        seconds = float(value) / 1000
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(
            f"{_text(value)} is no time",
            where="header X-Headgate-Deadline-Ms",
            remedy="send milliseconds, a number above 0",
        )
    return seconds


def loads(body: bytes | memoryview | str) -> Any:
    """What the JSON of ``body`` says. NaN, Infinity and numbers beyond a double are no JSON.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        what = f"invalid JSON: {error}" if body else "the body is empty"
        raise InputError(
            what, where="body", remedy="send valid JSON in UTF-8; null, not NaN, is missing"
        ) from None


def still_there(receive: Receive) -> Callable[[], bool] | None:
    """A cheap look at whether the client of a request is still connected.

    ASGI tells only those who await ``receive``, which would cost every request a task. uvicorn's
    request knows; other servers' requests count as connected.
    """
    cycle: Any = getattr(receive, "__self__", None)
    if not hasattr(cycle, "disconnected"):
        return None
    return lambda: not cycle.disconnected


def _text(value: bytes) -> str:
    return repr(value[:60].decode("latin-1"))
