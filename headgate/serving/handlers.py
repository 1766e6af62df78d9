"""Handlers of what is no prediction: pages of JSON, readiness, and small requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from headgate.errors import HeadgateError
from headgate.serving.drain import leaving
from headgate.serving.http import (
    ENCODING,
    Headers,
    Receive,
    Scope,
    Send,
    TooLargeError,
    accept_json,
    discard_body,
    meaning,
    read_body,
    reply,
)
from headgate.serving.job import ClientGoneError
from headgate.serving.packed import unpacked

if TYPE_CHECKING:
    from headgate.serving.hotpath import Handler

__all__ = ["Body", "Problem", "asked", "ready", "told"]

Body: TypeAlias = Callable[[], bytes]
Problem: TypeAlias = Callable[[HeadgateError], bytes]
"""The body of an error, as a protocol has it."""

_MOST_BYTES = 65_536


def told(body: Body, who: Headers) -> Handler:
    """Answers 200 with ``body()``; ``who`` are the headers that say who answers."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await reply(send, 200, body(), who)

    return handler


def ready(
    trouble: Callable[[], str | None],
    body: Body,
    who: Headers,
    *,
    wrong: Callable[[str], bytes],
) -> Handler:
    """Answers 200 with ``body()`` while there is no trouble, else 503 with ``wrong(trouble)``."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        found = trouble() or leaving()
        if found is None:
            await reply(send, 200, body(), who)
        else:
            await reply(send, 503, wrong(found), who)

    return handler


def asked(answer: Callable[[bytes], bytes], problem: Problem, who: Headers) -> Handler:
    """Answers 200 with what ``answer`` makes of the request's body, which may be empty."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        head = dict(scope["headers"])
        try:
            accept_json(head)
            body = await read_body(head, receive, _MOST_BYTES, fixed=True)
            if ENCODING in head:
                body = unpacked(body, head[ENCODING], _MOST_BYTES, fixed=True)
            body = answer(body)
        except ClientGoneError:
            return
        except HeadgateError as error:
            status = meaning(error)[0]
            if isinstance(error, TooLargeError) and error.unread:
                await discard_body(status, problem(error), receive, send, who)
            else:
                await reply(send, status, problem(error), who)
        else:
            await reply(send, 200, body, who)

    return handler
