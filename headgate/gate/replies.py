"""Answers of any HTTP endpoint, held against those of another one or against its own first ones.

What differs between two answers of the same server to the same request (a time, an id) is noise
and not compared, as in Twitter's Diffy (https://github.com/opendiffy/diffy).
"""

from __future__ import annotations

import http.client
import math
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import msgspec

from headgate.errors import InputError
from headgate.gate.answers import Compared
from headgate.gate.plan import TIMEOUT_S, Target

__all__ = ["Replies", "first_replies", "place_of"]

Place: TypeAlias = tuple[str | int, ...]
"""Where in a JSON document: keys and indices from the root."""
_MOST_KNOWN = 65_536
"""Answers that are remembered; those with a time in them never come again."""
_WORDS = 80
_ROUNDING = 1e-6
_LIST = 8
"""Elements of a list whose shape is looked at; the others are taken to be alike."""


class Replies:
    """Knows what the requests of one endpoint were answered before the load."""

    def __init__(self, expected: Sequence[tuple[Any, Any]], *, same: bool) -> None:
        """Remember.

        Args:
            expected: Of each request, two documents that it was answered with.
            same: Whether an answer must equal them; else it must have their shape.
        """
        self._same = same
        self._shapes = [_shape(first) for first, _ in expected]
        self._values = [_leaves(first) for first, _ in expected]
        self.noise = frozenset(
            place
            for first, second in expected
            for place in _differing(_leaves(first), _leaves(second))
        )
        """Places that differ between equal requests."""
        self._known: dict[tuple[int, int, bytes], tuple[str, bool]] = {}

    def noisy(self) -> bool:
        """Whether some answer has nothing that could be compared."""
        return any(values and not values.keys() - self.noise for values in self._values)

    def compare(
        self, asks: Sequence[int], status: Sequence[int], bodies: Sequence[bytes]
    ) -> Compared:
        """As :meth:`headgate.gate.answers.Answers.compare`."""
        found = []
        for ask, code, body in zip(asks, status, bodies, strict=True):
            key = (ask, code, body)
            known = self._known.get(key)
            if known is None:
                known = self._judge(ask, code, body)
                if len(self._known) < _MOST_KNOWN:
                    self._known[key] = known
            found.append(known)
        return Compared.of(found)

    def _judge(self, ask: int, code: int, body: bytes) -> tuple[str, bool]:
        if code == 0:
            return body.decode(errors="replace")[:_WORDS], False
        if not 200 <= code < 300:
            return f"HTTP {code}", False
        try:
            document = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return f"HTTP {code} without JSON", False
        if where := _misshapen(document, self._shapes[ask]):
            return f"HTTP {code} of another shape at {where}", False
        if not self._same:
            return "", True
        apart = _differing(self._values[ask], _leaves(document)) - self.noise
        return "", not apart


def first_replies(target: Target, within_s: float) -> list[tuple[Any, Any]]:
    """Send every request twice, one after the other, without load.

    Raises InputError where one is not answered by 2xx and JSON: there is nothing to compare with;
    and where all of it takes longer than ``within_s``.
    """
    ends_s = time.monotonic() + within_s
    parts = urlsplit(target.url)
    connection = _connect(parts.scheme, parts.netloc)
    try:
        found = []
        for number, ask in enumerate(target.asks, 1):
            two = []
            if time.monotonic() > ends_s:
                raise InputError(
                    f"{len(target.asks):,} requests, twice each, take longer than {within_s:.0f} s",
                    where=target.url,
                    remedy="give fewer requests, or a larger --budget",
                )
            for _ in range(2):
                where = f"{target.url}{ask.path}, request {number}"
                connection.request(
                    "POST",
                    parts.path + ask.path,
                    ask.body,
                    {"content-type": "application/json", **dict(target.headers)},
                )
                reply = connection.getresponse()
                two.append(_document(where, reply.status, reply.read()))
            found.append((two[0], two[1]))
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"it did not answer ({error or type(error).__name__})",
            where=target.url,
            remedy="start it, or give another address",
        ) from None
    finally:
        connection.close()
    return found


def _connect(scheme: str, netloc: str) -> http.client.HTTPConnection:
    place = netloc.rpartition("@")[2]
    if scheme == "https":
        return http.client.HTTPSConnection(
            place, timeout=TIMEOUT_S, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(place, timeout=TIMEOUT_S)


def _document(where: str, status: int, body: bytes) -> Any:
    words = body[:_WORDS].decode(errors="replace")
    if not 200 <= status < 300:
        raise InputError(
            f"answered HTTP {status} before any load: {words!r}",
            where=where,
            remedy="give a request that it answers, and its headers with --header",
        )
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InputError(
            f"did not answer with JSON: {words!r}",
            where=where,
            remedy="only endpoints that answer with JSON can be judged",
        ) from None


def _leaves(document: Any, place: Place = ()) -> dict[Place, Any]:
    """Every value that holds no other, and where it is; empty lists and objects are values."""
    if isinstance(document, Mapping) and document:
        parts = document.items()
    elif isinstance(document, list) and document:
        parts = enumerate(document)  # type: ignore[assignment]
    else:
        return {place: document}
    found: dict[Place, Any] = {}
    for key, value in parts:
        found.update(_leaves(value, (*place, key)))
    return found


def _differing(first: Mapping[Place, Any], second: Mapping[Place, Any]) -> frozenset[Place]:
    return frozenset(
        place
        for place in {**first, **second}
        if place not in first or place not in second or not _equal(first[place], second[place])
    )


def _equal(one: Any, other: Any) -> bool:
    """Numbers that differ by rounding alone are equal, and so are 1 and 1.0."""
    if _kind(one) == _kind(other) == "number":
        return math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=_ROUNDING**2)
    return type(one) is type(other) and bool(one == other)


def _shape(document: Any) -> Any:
    """The document with the kind of each value in its place."""
    if isinstance(document, Mapping):
        return {key: _shape(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_shape(value) for value in document[:_LIST]]
    return _kind(document)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "number"
    return {str: "string", type(None): "null"}.get(type(value), "value")


def _misshapen(document: Any, shape: Any, place: Place = ()) -> str:
    """The first place where the document has not the shape; empty where it has it.

    Anything fits where there was null; a list's further elements fit the shape of its last.
    """
    if shape == "null":
        return ""
    if isinstance(shape, Mapping):
        if not isinstance(document, Mapping) or document.keys() != shape.keys():
            return place_of(place)
        parts = [(key, document[key], shape[key]) for key in shape]
    elif isinstance(shape, list):
        if not isinstance(document, list) or bool(document) != bool(shape):
            return place_of(place)
        parts = [
            (index, value, shape[min(index, len(shape) - 1)])
            for index, value in enumerate(document[:_LIST])
        ]
    else:
        return (
            ""
            if not isinstance(document, (Mapping, list)) and _kind(document) == shape
            else (place_of(place))
        )
    for key, value, expected in parts:
        if where := _misshapen(value, expected, (*place, key)):
            return where
    return ""


def place_of(place: Place) -> str:
    """In words."""
    return ("." + ".".join(str(key) for key in place))[:_WORDS]
