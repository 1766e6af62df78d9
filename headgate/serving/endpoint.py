"""A prediction over HTTP: the hot path. One instance per model and surface."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING

from headgate.errors import HeadgateError
from headgate.serving.http import (
    DEADLINE,
    JSON,
    Head,
    Headers,
    Receive,
    Scope,
    Send,
    TooLargeError,
    accept_json,
    check_rows,
    deadline_s,
    discard_body,
    error_headers,
    meaning,
    names,
    read_body,
    reply,
    still_there,
)
from headgate.serving.job import ClientGoneError
from headgate.serving.metrics import ServingMetrics, SurfaceMetrics
from headgate.serving.wire import Wire, received

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.serving.model import Model
    from headgate.serving.surface import Asked, Surface

__all__ = ["Endpoint"]

logger = logging.getLogger("bentoml.headgate")

_FAULT = HeadgateError("a fault of this server; its log says more", remedy="report it")


class Endpoint:
    """Reads, validates, predicts, answers, counts."""

    def __init__(
        self, model: Model, surface: Surface, metrics: ServingMetrics, max_body: int
    ) -> None:
        """``max_body`` is in bytes."""
        self._model = model
        self._surface = surface
        self._counts = SurfaceMetrics(metrics, surface.name, model.name)
        self._max_body = max_body
        self._who = names(model.version, model.release)
        self._wire = Wire([JSON, *self._who])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = monotonic()
        head: Head = dict(scope["headers"])
        try:
            accept_json(head)
            body = received(receive, self._max_body)
            if body is None:
                body = await read_body(head, receive, self._max_body)
            asked = self._surface.decode(body)
            content = await self._predict(asked, began, head, still_there(receive))
        except TooLargeError as error:
            self._counts.failed("too_large", monotonic() - began)
            told = self._surface.problem(error)
            if error.unread:
                await discard_body(413, told, receive, send, self._who)
            else:
                await reply(send, 413, told, self._who)
            return
        except Exception as error:  # noqa: BLE001
            status, body, headers = self._failed(error, began)
            await reply(send, status, body, headers)
            return
        except asyncio.CancelledError:
            self._counts.failed("gone", monotonic() - began)
            raise
        await self._wire.answer(content, send)
        self._counts.answered(monotonic() - began)

    async def answer(self, decode: Callable[[], Asked], head: Head) -> tuple[int, bytes, Headers]:
        """The same for a request whose body somebody else has read: status, body, headers."""
        began = monotonic()
        try:
            content = await self._predict(decode(), began, head, None)
        except Exception as error:  # noqa: BLE001
            return self._failed(error, began)
        self._counts.answered(monotonic() - began)
        return 200, content, self._who

    async def _predict(
        self, asked: Asked, began: float, head: Head, alive: Callable[[], bool] | None
    ) -> bytes:
        model = self._model
        check_rows(asked.rows, model.max_rows)
        allowed = model.deadline_s if DEADLINE not in head else deadline_s(head, model.deadline_s)
        answer = await model.batcher.submit(
            asked.batch, asked.rows, deadline=began + allowed, alive=alive
        )
        counts = model.counts
        mark = monotonic()
        content = self._surface.encode(answer.outputs, asked)
        counts.encode.observe(monotonic() - mark)
        counts.queue.observe(answer.queue_s)
        counts.inference.observe(answer.inference_s)
        return content

    def _failed(self, error: Exception, began: float) -> tuple[int, bytes, Headers]:
        if not isinstance(error, HeadgateError):
            logger.error("%s: %r", self._model.name, error, exc_info=error)
            error = _FAULT
        status, outcome = meaning(error)
        if outcome == "engine":
            logger.error("%s: %s", self._model.name, error)
        self._counts.failed(outcome, monotonic() - began)
        body = b"" if isinstance(error, ClientGoneError) else self._surface.problem(error)
        return status, body, [*self._who, *error_headers(error)]
