"""Puts the hot paths in front of BentoML's app, and ties the worker to its lifespan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.routing import Mount, Route

from headgate.errors import HeadgateError
from headgate.serving.beside import PREFIX, Beside
from headgate.serving.endpoint import Endpoint
from headgate.serving.hotpath import HotPath
from headgate.serving.inprocess import InProcess, serves
from headgate.serving.launch.refusing import Refusals
from headgate.serving.metrics import SurfaceMetrics
from headgate.serving.page import page
from headgate.serving.protocols.websocket import Sockets, make_sockets, upgrade_required
from headgate.serving.routes import build_routes, problem_of

if TYPE_CHECKING:
    from headgate.serving.http import App, Message, Receive, Scope, Send
    from headgate.serving.worker import Worker

__all__ = ["Front"]


class Front:
    """The ASGI app of a worker."""

    def __init__(self, app: Any, worker: Worker, own: App | None = None) -> None:
        """``app`` is BentoML's, a Starlette app; ``own`` is the bundle's, if it has one."""
        self._app: App = app
        self._worker = worker
        self._beside = own and Beside(own, worker.metrics, worker.release, worker.max_body)
        pages = (route for route in app.routes if isinstance(route, Route))
        known = {route.path: route.methods for route in pages if route.methods}
        prefixes = tuple(f"{route.path}/" for route in app.routes if isinstance(route, Mount))
        if self._beside is not None:
            known[PREFIX] = {"GET"}
            prefixes = (*prefixes, f"{PREFIX}/")
        routes = build_routes(worker)
        routes["/metrics"] = {"GET": self._metrics}
        routes["/"] = {"GET": page}
        counts = SurfaceMetrics(worker.metrics, "other", "")
        sockets = make_sockets(worker)
        routes.update((path, {"GET": upgrade_required}) for path in sockets)
        self._sockets = Sockets(
            sockets,
            origins=worker.bundle.server.allowed_origins,
            release=worker.release,
            counts=counts,
        )
        self._hot = HotPath(
            self._others,
            routes,
            known=known,
            prefixes=prefixes,
            release=worker.release,
            models={model.name: model.version for model in worker.models.values()},
            problem_of=problem_of,
            counts=counts,
        )
        posts = ((path, route.get("POST")) for path, route in routes.items())
        self.refusals = Refusals(
            {
                path.encode(): handler.admission
                for path, handler in posts
                if isinstance(handler, Endpoint)
            }
        )
        """Who refuses requests before they are read; see ``launch/connections.py``."""
        # It would print a line for every request, and costs even where nobody reads it.
        access = logging.getLogger("uvicorn.access")
        access.handlers, access.propagate = [], False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http":
            await self._hot(scope, receive, send)
        elif self._is_beside(scope):
            await self._others(scope, receive, send)
        else:
            await self._sockets(scope, receive, send)

    def _is_beside(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return self._beside is not None and (path == PREFIX or path.startswith(f"{PREFIX}/"))

    async def _others(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is not ours: the bundle's own app, or BentoML's."""
        if self._beside is not None and self._is_beside(scope):
            await self._beside(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self._start()
                except HeadgateError as error:
                    message = {"type": "lifespan.startup.failed", "message": str(error)}
            await send(message)

        with serves(InProcess(self._worker)):
            try:
                await self._app(scope, receive, sending)
            finally:
                if self._beside is not None:
                    await self._beside.stop()
                await self._worker.stop()

    async def _start(self) -> None:
        """The models first: what is beside them may ask them as it starts."""
        await self._worker.start()
        if self._beside is not None:
            await self._beside.start()

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._worker.flush()
        await self._app(scope, receive, send)
