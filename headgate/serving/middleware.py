"""BentoML's own app, with its middleware mended where it leaks or costs for nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from _bentoml_impl.server.app import ServiceAppFactory
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.middleware import Middleware

from headgate.serving.http import reply

if TYPE_CHECKING:
    from headgate.serving.http import App, Message, Receive, Scope, Send

__all__ = ["AppFactory", "BoundedMetrics", "Timeout"]


class AppFactory(ServiceAppFactory):  # type: ignore[misc]
    """Makes BentoML's app.

    - Its timeout leaves a timer of 60 s behind for every request, which keeps the whole request
      alive and makes full garbage collections take 100 ms.
    - OpenTelemetry wraps every call even where nothing is sampled.
    - Its metrics take any path for a label.
    """

    def trace(self, app: App) -> App:
        """``app`` with OpenTelemetry round it, where any request is sampled."""
        if not BentoMLContainer.tracing.sample_rate.get():
            return app
        ours = next(each for each in super().middlewares if each.cls is OpenTelemetryMiddleware)
        traced: Any = ours.cls(app, **ours.kwargs)
        traced.refusals = getattr(app, "refusals", None)
        return traced  # type: ignore[no-any-return]

    @property
    def middlewares(self) -> list[Middleware]:
        """BentoML's list, mended."""
        mended = []
        for each in super().middlewares:
            if each.cls is OpenTelemetryMiddleware:
                continue
            if each.cls is TimeoutMiddleware:
                mended.append(Middleware(Timeout, seconds=self.timeout))
            elif each.cls is RunnerTrafficMetricsMiddleware:
                known = frozenset(getattr(route, "path", "") for route in self.routes)
                bounded: Any = BoundedMetrics
                mended.append(Middleware(bounded, known=known, **each.kwargs))
            else:
                mended.append(each)
        return mended


class Timeout:
    """Answers 504 for what takes too long, and leaves nothing behind."""

    def __init__(self, app: App, seconds: float) -> None:
        """``seconds`` from the request to the beginning of its answer."""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds) as limit:

                async def sending(message: Message) -> None:
                    limit.reschedule(None)
                    await send(message)

                await self._app(scope, receive, sending)
        except TimeoutError:
            if not limit.expired():
                raise
            body = {
                "error": f"no answer within {self._seconds:g} s",
                "where": scope["path"],
                "remedy": "try again later",
            }
            await reply(send, 504, orjson.dumps(body))


class BoundedMetrics(RunnerTrafficMetricsMiddleware):  # type: ignore[misc]
    """BentoML's request metrics, for the paths that are its own."""

    def __init__(self, app: App, known: frozenset[str], **options: Any) -> None:
        """``known`` are the paths that count."""
        super().__init__(app, **options)
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] in {"http", "websocket"} and scope["path"] not in self._known:
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
