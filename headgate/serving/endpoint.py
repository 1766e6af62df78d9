"""A prediction over HTTP: the hot path. One instance per model and surface."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING

from headgate.errors import HeadgateError
from headgate.serving.admission import Admission
from headgate.serving.http import (
    ENCODING,
    JSON,
    Head,
    Headers,
    Receive,
    Scope,
    Send,
    TooLargeError,
    check_rows,
    discard_body,
    error_headers,
    meaning,
    names,
    read_body,
    reply,
    still_there,
)
from headgate.serving.job import ClientGoneError
from headgate.serving.launch.turns import ARRIVED, TURNS, noticed
from headgate.serving.metrics import ServingMetrics, SurfaceMetrics
from headgate.serving.packed import unpacked
from headgate.serving.wire import Wire, received

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.serving.model import Model
    from headgate.serving.surface import Asked, Surface, Told

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
        self._accept = surface.accept
        self._wire = Wire([JSON, *self._who])
        self._other_wire = Wire(self._who)
        self.admission = Admission(model, surface, self._counts, self._who)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = monotonic()
        arrived = noticed(scope.get(ARRIVED, began), began)
        head: Head = dict(scope["headers"])
        try:
            self._accept(head)
            deadline = arrived + self.admission.allowed_s(head)
            body = received(receive, self._max_body)
            if body is None:
                body = await read_body(head, receive, self._max_body)
            self.admission.hold(deadline, began)
            if ENCODING in head:
                body = unpacked(body, head[ENCODING], self._max_body)
            asked = self._surface.decode(body, head)
            content = await self._predict(asked, deadline, still_there(receive), began)
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
        if isinstance(content, bytes):
            await self._wire.answer(content, send)
        else:
            await self._other_wire.answer(content.body, send, content.headers)
        TURNS.active = now = monotonic()
        self._counts.answered(now - began)

    async def answer(self, decode: Callable[[], Asked], head: Head) -> tuple[int, bytes, Headers]:
        """The same for a request whose body somebody else has read: status, body, headers."""
        began = monotonic()
        try:
            asked = decode()
            deadline = began + self.admission.allowed_s(head)
            content = await self._predict(asked, deadline, None, began)
        except Exception as error:  # noqa: BLE001
            return self._failed(error, began)
        except asyncio.CancelledError:
            self._counts.failed("gone", monotonic() - began)
            raise
        self._counts.answered(monotonic() - began)
        if isinstance(content, bytes):
            return 200, content, self._who
        return 200, content.body, [*content.headers, *self._who]

    async def _predict(
        self, asked: Asked, deadline: float, alive: Callable[[], bool] | None, began: float
    ) -> bytes | Told:
        model = self._model
        batcher = model.batcher
        check_rows(asked.rows, model.max_rows)
        TURNS.active = decoded = monotonic()
        answer = await batcher.submit(asked.batch, asked.rows, deadline=deadline, alive=alive)
        counts = model.counts
        mark = monotonic()
        content = self._surface.encode(answer.outputs, asked)
        encoded = monotonic()
        counts.encode.observe(encoded - mark)
        counts.queue.observe(answer.queue_s)
        counts.inference.observe(answer.inference_s)
        self.admission.took(encoded - mark + decoded - began + batcher.on_loop_s(asked.rows))
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
