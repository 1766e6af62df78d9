"""Puts the hot paths in front of BentoML's app, and ties the worker to its lifespan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.routing import Mount, Route

from headgate.serving.hotpath import HotPath
from headgate.serving.metrics import SurfaceMetrics
from headgate.serving.page import page
from headgate.serving.routes import build_routes

if TYPE_CHECKING:
    from headgate.serving.http import App, Message, Receive, Scope, Send
    from headgate.serving.worker import Worker

__all__ = ["Front"]


class Front:
    """The ASGI app of a worker."""

    def __init__(self, app: Any, worker: Worker) -> None:
        """``app`` is BentoML's, a Starlette app."""
        self._app: App = app
        self._worker = worker
        pages = (route for route in app.routes if isinstance(route, Route))
        known = {route.path: route.methods for route in pages if route.methods}
        prefixes = tuple(f"{route.path}/" for route in app.routes if isinstance(route, Mount))
        routes = build_routes(worker)
        routes["/metrics"] = {"GET": self._metrics}
        routes["/"] = {"GET": page}
        self._hot = HotPath(
            app,
            routes,
            known=known,
            prefixes=prefixes,
            release=worker.release,
            models={model.name: model.version for model in worker.models.values()},
            counts=SurfaceMetrics(worker.metrics, "other", ""),
        )
        # It would print a line for every request, and costs even where nobody reads it.
        access = logging.getLogger("uvicorn.access")
        access.handlers, access.propagate = [], False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self._hot(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._worker.start()
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            await self._worker.stop()

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._worker.flush()
        await self._app(scope, receive, send)
