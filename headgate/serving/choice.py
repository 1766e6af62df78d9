"""Which model a request is for whose path names none."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from headgate.errors import HeadgateError, InputError, UnknownModelError
from headgate.serving.http import Receive, Scope, Send, meaning, reply

if TYPE_CHECKING:
    from headgate.serving.endpoint import Endpoint
    from headgate.serving.handlers import Problem
    from headgate.serving.http import Headers
    from headgate.serving.metrics import SurfaceMetrics

__all__ = ["Choice"]

_HEADERS = {
    b"x-headgate-model": "header X-Headgate-Model",
    b"x-amzn-sagemaker-target-model": "header X-Amzn-SageMaker-Target-Model",
}
_QUERY = "query ?model="
_MOST_FIELDS = 100
_ARCHIVE = ".tar.gz"
"""SageMaker's target models are called by their archive."""


class Choice:
    """Hands a request to the model that it names, or to the only one there is."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        problem: Problem,
        counts: SurfaceMetrics,
        who: Headers,
    ) -> None:
        """``problem`` tells errors, ``counts`` is told of them, ``who`` are their headers."""
        self._endpoints = endpoints
        self._problem = problem
        self._counts = counts
        self._who = who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        began = monotonic()
        try:
            endpoint = self._endpoint(scope)
        except HeadgateError as error:
            status, outcome = meaning(error)
            await reply(send, status, self._problem(error), self._who)
            self._counts.failed(outcome, monotonic() - began)
        else:
            await endpoint(scope, receive, send)

    def _endpoint(self, scope: Scope) -> Endpoint:
        choices = ", ".join(self._endpoints)
        named = _named(scope)
        if not named:
            if len(self._endpoints) == 1:
                return next(iter(self._endpoints.values()))
            raise InputError(
                "which model is meant?",
                where=scope["path"].rstrip("/"),
                remedy=f"send the header X-Headgate-Model, or ?model=, with one of: {choices}",
            )
        where, name = next(iter(named.items()))
        if len(set(named.values())) > 1:
            raise InputError(
                f"two models are named: {', '.join(repr(each[:60]) for each in named.values())}",
                where=" and ".join(named),
                remedy="name one",
            )
        if name not in self._endpoints:
            raise UnknownModelError(
                f"no model {name[:60]!r}", where=where, remedy=f"served here: {choices}"
            )
        return self._endpoints[name]


def _named(scope: Scope) -> dict[str, str]:
    """The names that a request gives, by where."""
    found = {}
    for key, value in scope["headers"]:
        if key in _HEADERS:
            found[_HEADERS[key]] = _decoded(value)
    if scope["query_string"] and (text := _pairs(scope["query_string"]).get("model")):
        found[_QUERY] = text
    target = _HEADERS[b"x-amzn-sagemaker-target-model"]
    if target in found:
        found[target] = found[target].removeprefix("/").removesuffix(_ARCHIVE)
    return found


def _pairs(query: bytes) -> dict[str, str]:
    """Of a repeated name the last."""
    try:
        return dict(parse_qsl(query.decode("latin-1"), max_num_fields=_MOST_FIELDS))
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
