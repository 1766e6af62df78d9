"""What is in front of BentoML's app: the prediction protocols, health, and a 404 that helps.

Everything else is BentoML's: its pages, ``/docs.json``, ``/schema.json``, ``/metrics``. What neither
knows ends here, so that nobody can grow BentoML's metrics, whose ``endpoint`` label is the path as
it came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from headgate.errors import HeadgateError, UnknownModelError
from headgate.serving.http import (
    App,
    Headers,
    MethodError,
    Receive,
    Scope,
    Send,
    UnknownVersionError,
    meaning,
    reply,
)

if TYPE_CHECKING:
    from headgate.serving.handlers import Problem
    from headgate.serving.metrics import SurfaceMetrics

__all__ = ["Handler", "HotPath", "Route", "Routes"]

Handler: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Route: TypeAlias = Mapping[str, Handler]
"""Handlers by method."""
Routes: TypeAlias = Mapping[str, Route]
"""By path."""

_BEFORE_A_MODEL = (
    ("v1", "models"),
    ("v2", "models"),
    ("v2", "repository", "models"),
    ("models",),
    ("predictions",),
)
_VERSION_FOLLOWS = {"models", "predictions"}
"""Where the version comes right after the model."""


class HotPath:
    """An ASGI app before another one."""

    def __init__(
        self,
        app: App,
        routes: Routes,
        *,
        known: Mapping[str, Collection[str]],
        prefixes: tuple[str, ...],
        models: Mapping[str, str],
        release: str,
        problem_of: Callable[[str], Problem],
        counts: SurfaceMetrics,
    ) -> None:
        """An app that answers ``routes`` itself.

        Args:
            app: BentoML's.
            routes: ours.
            known: methods by exact path of ``app``.
            prefixes: paths of ``app`` with whole trees under them.
            models: versions by name, for messages.
            release: whose answers these are.
            problem_of: how errors are told, by path.
            counts: of requests that are refused here.
        """
        self._app = app
        self._posts = {path: route["POST"] for path, route in routes.items() if "POST" in route}
        self._routes = routes
        self._known = known
        self._prefixes = prefixes
        self._models = models
        self._release = (b"x-headgate-release", release.encode())
        self._problem_of = problem_of
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if scope["method"] == "POST" and (hot := self._posts.get(path)) is not None:
            await hot(scope, receive, send)
            return
        route = self._routes.get(path) or self._routes.get(path.rstrip("/"))
        methods: Collection[str] | None = route if route is not None else self._known.get(path)
        if methods is None:
            if path.startswith(self._prefixes):
                await self._app(scope, receive, send)
            else:
                await self._refuse(self._unknown(path), scope, send)
            return
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in methods:
            allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
            error = MethodError(
                f"{scope['method'][:20]} is not allowed", where=path, remedy=f"use {allowed}"
            )
            await self._refuse(error, scope, send, [(b"allow", allowed.encode())])
        elif route is None:
            await self._app(scope, receive, send)
        else:
            await route[method](scope, receive, send)

    async def _refuse(
        self, error: HeadgateError, scope: Scope, send: Send, headers: Headers | None = None
    ) -> None:
        began = monotonic()
        status, outcome = meaning(error)
        body = self._problem_of(scope["path"])(error)
        await reply(send, status, body, [self._release, *(headers or [])])
        self._counts.failed(outcome, monotonic() - began)

    def _unknown(self, path: str) -> UnknownModelError:
        """What is wrong with a path that nobody serves, and which would do."""
        shown = path if len(path) <= 100 else f"{path[:100]}…"
        name, wanted = _named(path)
        if name and name not in self._models:
            return UnknownModelError(
                f"no model {name[:60]!r}",
                where=shown,
                remedy=f"served here: {', '.join(self._models)}",
            )
        if wanted and wanted != self._models[name]:
            return UnknownVersionError(
                f"no version {wanted[:60]!r} of {name}",
                where=shown,
                remedy=f"served here: version {self._models[name]}",
            )
        return UnknownModelError(
            "no such path",
            where=shown,
            remedy="see /docs.json, /v1/models and /v2 for what there is",
        )


def _named(path: str) -> tuple[str, str]:
    """The model and the version that a path names; empty for none."""
    pieces = path.strip("/").split("/")
    for prefix in _BEFORE_A_MODEL:
        if tuple(pieces[: len(prefix)]) == prefix and len(pieces) > len(prefix):
            name, *rest = pieces[len(prefix) :]
            if rest[:1] == ["versions"]:
                rest = rest[1:]
            elif prefix[0] not in _VERSION_FOLLOWS:
                rest = []
            return name.partition(":")[0], (rest[0] if rest else "").partition(":")[0]
    return "", ""
