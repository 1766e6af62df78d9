"""Which model a request is for whose path names none."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from headgate.errors import HeadgateError, InputError, UnknownModelError
from headgate.serving.http import Receive, Scope, Send, meaning, reply

if TYPE_CHECKING:
    from headgate.serving.handlers import Problem
    from headgate.serving.hotpath import Handler
    from headgate.serving.http import Headers
    from headgate.serving.metrics import SurfaceMetrics

__all__ = ["Choice"]

_TARGET = b"x-amzn-sagemaker-target-model"
_HEADERS = {
    b"x-headgate-model": "header X-Headgate-Model",
    _TARGET: "header X-Amzn-SageMaker-Target-Model",
}
_QUERY = "query ?model="
_MOST_FIELDS = 100
_ARCHIVE = ".tar.gz"
"""SageMaker's target models are called by their archive."""


class Choice:
    """Hands a request to the model that it names, or to what answers where it names none."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        problem: Problem,
        who: Headers,
        *,
        counts: SurfaceMetrics | None = None,
        unnamed: Handler | None = None,
    ) -> None:
        """``problem`` tells errors, ``counts`` is told of them, ``who`` are their headers.

        ``handlers`` are by model. Without ``unnamed`` the only one of them takes its place; where
        there are several, a request has to name one.
        """
        self._handlers = handlers
        self._problem = problem
        self._who = who
        self._counts = counts
        self._unnamed = unnamed
        if unnamed is None and len(handlers) == 1:
            [self._unnamed] = handlers.values()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        began = monotonic()
        try:
            handler = self._handler(scope)
        except HeadgateError as error:
            status, outcome = meaning(error)
            await reply(send, status, self._problem(error), self._who)
            if self._counts is not None:
                self._counts.failed(outcome, monotonic() - began)
        else:
            await handler(scope, receive, send)

    def _handler(self, scope: Scope) -> Handler:
        choices = ", ".join(self._handlers)
        named = _named(scope)
        if not named:
            if self._unnamed is not None:
                return self._unnamed
            raise InputError(
                "which model is meant?",
                where=scope["path"].rstrip("/"),
                remedy=f"send the header X-Headgate-Model, or ?model=, with one of: {choices}",
            )
        where, name = named[0]
        others = [each for each in named if each[1] != name]
        if others:
            raise InputError(
                f"two models are named: {name[:60]!r}, {others[0][1][:60]!r}",
                where=" and ".join(dict.fromkeys([where, others[0][0]])),
                remedy=f"name one of: {choices}",
            )
        if name not in self._handlers:
            raise UnknownModelError(
                f"no model {name[:60]!r}", where=where, remedy=f"served here: {choices}"
            )
        return self._handlers[name]


def _named(scope: Scope) -> list[tuple[str, str]]:
    """Where a request names a model, and the name; an empty one is none."""
    found = []
    for key, value in scope["headers"]:
        if key in _HEADERS and value:
            name = _decoded(value)
            if key == _TARGET:
                name = name.removeprefix("/").removesuffix(_ARCHIVE)
            found.append((_HEADERS[key], name))
    if scope["query_string"]:
        pairs = _pairs(scope["query_string"])
        found += [(_QUERY, value) for key, value in pairs if key == "model"]
    return found


def _pairs(query: bytes) -> list[tuple[str, str]]:
    """The fields of a query that are not empty."""
    try:
        return parse_qsl(query.decode("latin-1"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise InputError(
            f"it has more than {_MOST_FIELDS} fields", where="query", remedy="send ?model= alone"
        ) from None


def _decoded(value: bytes) -> str:
    """The text of a header, which may be UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
