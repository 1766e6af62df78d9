"""The bundle's own ``app.py``, where there is one: an ASGI app beside the models, under ``/app``."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
import traceback
from time import monotonic
from typing import TYPE_CHECKING, Any

from headgate.errors import ConfigError, HeadgateError
from headgate.serving.http import (
    TooLargeError,
    discard_body,
    error_headers,
    meaning,
    problem,
)
from headgate.serving.launch.child import last_clear_line

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.serving.http import App, Message, Receive, Scope, Send
    from headgate.serving.metrics import ServingMetrics
    from headgate.serving.tally import Bins, Count

__all__ = ["FILE", "PREFIX", "Beside", "load_app"]

FILE = "app.py"
PREFIX = "/app"
_MODULE = "app"
_REQUIREMENTS = "requirements/app.txt"
_MOST_ROUTES = 100
"""Routes that are counted by name; an app that makes up more is counted as one beyond that."""
_STATUSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


def load_app(root: Path) -> App | None:
    """The object ``app`` of ``root``'s ``app.py``; None where there is no such file.

    Its own handling of errors left alone, an app of Starlette or FastAPI answers a
    :class:`HeadgateError` that nobody caught as the other protocols do.

    Raises:
        ConfigError: importing it fails, or it has no ASGI app; one line, with the line it is about.
    """
    path = root / FILE
    if not path.is_file():
        return None
    spec: Any = importlib.util.spec_from_file_location(_MODULE, path)
    module = sys.modules[_MODULE] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[_MODULE]
        raise _broken(path, error) from error
    app = getattr(module, "app", None)
    if not _is_asgi(app):
        del sys.modules[_MODULE]
        raise ConfigError(
            "it has no `app`" if app is None else f"its `app` is no ASGI app but {_shown(app)}",
            where=str(path),
            remedy="define one, say `app = FastAPI()`; a WSGI app needs a2wsgi.WSGIMiddleware",
        )
    if HeadgateError not in getattr(app, "exception_handlers", {HeadgateError: None}):
        app.add_exception_handler(HeadgateError, _answer_error)  # type: ignore[union-attr]
    found: App = app  # type: ignore[assignment]
    return found


class Beside:
    """That app in a worker: its lifespan, its limits, its counts."""

    def __init__(self, app: App, metrics: ServingMetrics, release: str, max_body: int) -> None:
        """``max_body`` is in bytes."""
        self._app = app
        self._release = (b"x-headgate-release", release.encode())
        self._max_body = max_body
        self._counts = _Counts(metrics)
        self._lifespan = _Lifespan(app)

    async def start(self) -> None:
        """Run what it does on startup; raises ConfigError when that fails."""
        await self._lifespan.start()

    async def stop(self) -> None:
        """Run what it does on shutdown."""
        await self._lifespan.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI; the path begins with :data:`PREFIX`."""
        inner = dict(scope)
        inner["root_path"] = scope.get("root_path", "") + PREFIX
        inner["state"] = {**scope.get("state", {}), **self._lifespan.state}
        if scope["type"] != "http":
            await self._app(inner, receive, send)
            return
        began = monotonic()
        request = _Request(receive, send, self._release, self._max_body)
        try:
            length = dict(scope["headers"]).get(b"content-length", b"")
            if length.isdigit() and int(length) > self._max_body:
                await request.refuse()
            else:
                await self._app(inner, request.receive, request.send)
        except Exception:
            if not request.refused:
                raise  # else it is but the app's word for a body that was cut off
        finally:
            route = getattr(inner.get("route"), "path", None)
            self._counts.add(route, request.status, monotonic() - began)


class _Request:
    """One request: its body with a limit, its answer with a name."""

    def __init__(
        self, receive: Receive, send: Send, release: tuple[bytes, bytes], limit: int
    ) -> None:
        self._receive = receive
        self._send = send
        self._release = release
        self._limit = limit
        self._left = limit
        self.status = 500
        self.refused = False
        self._started = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0 and not self._started:
            await self.refuse()
        return message if self._left >= 0 else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.refused:
            return  # it was answered already
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), self._release]}
        await self._send(message)

    async def refuse(self) -> None:
        """Answer that the body is too large."""
        self._started = self.refused = True
        self.status = 413
        error = TooLargeError(
            f"the body has more than {self._limit} bytes",
            where="body",
            remedy="send a smaller one, or raise server.max_body_mb",
        )
        await discard_body(413, problem(error), self._receive, self._send, [self._release])


class _Counts:
    """Requests and seconds by route, a bounded number of them."""

    def __init__(self, metrics: ServingMetrics) -> None:
        from prometheus_client import Counter, Histogram

        self._metrics = metrics
        self._requests = Counter(
            "headgate_app_requests",
            "Requests to the bundle's own app by the class of their status.",
            ["route", "status"],
            registry=metrics.registry,
        )
        self._seconds = Histogram(
            "headgate_app_request_seconds",
            "From a request to the bundle's own app to the end of its answer.",
            ["route"],
            buckets=metrics.bounds,
            registry=metrics.registry,
        )
        self._routes: dict[str, tuple[dict[str, Count], Bins]] = {}

    def add(self, route: str | None, status: int, seconds: float) -> None:
        """Count one; ``route`` is its template, None where the app has none for it."""
        label = "other" if route is None else f"{PREFIX}{route}"
        if label not in self._routes:
            if len(self._routes) >= _MOST_ROUTES:
                label = "other"
            if label not in self._routes:
                self._routes[label] = self._bind(label)
        counts, bins = self._routes[label]
        counts[f"{min(max(status // 100, 1), 5)}xx"].steps += 1
        bins.observe(seconds)

    def _bind(self, label: str) -> tuple[dict[str, Count], Bins]:
        counts = {
            status: self._metrics.count(self._requests.labels(label, status))
            for status in _STATUSES
        }
        return counts, self._metrics.bins(self._seconds.labels(label), self._metrics.bounds)


class _Lifespan:
    """An app's startup and shutdown, where it has them."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}
        """What it wants to find in the state of each request."""

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        told = await self._step("startup")
        if told is not None and told["type"] == "lifespan.startup.failed":
            raise ConfigError(
                f"its startup failed: {last_clear_line(told.get('message', ''))}",
                where=FILE,
                remedy="mend what it does in its lifespan",
            )

    async def stop(self) -> None:
        if self._task is None:
            return
        await self._step("shutdown")
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        await self._app(scope, self._inbox.get, self._told.put)

    async def _step(self, name: str) -> Message | None:
        """What it says to a step; None where it knows no lifespan."""
        task = self._task
        if task is None or task.done():
            return None
        self._inbox.put_nowait({"type": f"lifespan.{name}"})
        saying = asyncio.ensure_future(self._told.get())
        await asyncio.wait({saying, task}, return_when=asyncio.FIRST_COMPLETED)
        if saying.done():
            return saying.result()
        saying.cancel()
        task.exception()  # it knows no lifespan: that is no fault
        return None


async def _answer_error(request: Any, error: Any) -> Any:
    """Of Starlette: what a prediction that was not to be had is answered with."""
    from starlette.responses import Response

    del request
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(
        problem(error), meaning(error)[0], headers=headers, media_type="application/json"
    )


def _is_asgi(app: Any) -> bool:
    """As uvicorn tells ASGI 3 from what is none."""
    if inspect.isclass(app) or app is None:
        return False
    call = app if inspect.isroutine(app) else getattr(app, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(call)


def _broken(path: Path, error: BaseException) -> ConfigError:
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    remedy = "mend it, or move it away"
    if isinstance(error, ModuleNotFoundError):
        remedy = f"put the package into {_REQUIREMENTS} and install it"
    said = " ".join(str(error).split())
    return ConfigError(
        f"cannot be imported: {type(error).__name__}{': ' + said if said else ''}",
        where=f"{path}, line {line}" if line else str(path),
        remedy=remedy,
    )


def _shown(app: Any) -> str:
    return f"a class, {app.__name__}" if inspect.isclass(app) else f"of type {type(app).__name__}"
