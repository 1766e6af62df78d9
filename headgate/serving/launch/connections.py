"""HTTP connections that a slow, silent or greedy client cannot hold for ever.

uvicorn with httptools bounds neither the size of a header nor the time a client may take over its
request. Both are done here at next to no cost per request: one comparison when bytes arrive, and
once a second a look at every open connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from headgate.serving.launch.refusing import Refusals, Refusing
from headgate.serving.launch.turns import ARRIVED, TURNS
from headgate.serving.launch.websocket import WebSocket

__all__ = ["CLOSE", "HEADER_BYTES", "Connection", "Patience", "is_idle"]

_What = Literal["first", "header", "body", "reading", "idle"]

CLOSE = (b"connection", b"close")
HEADER_BYTES = 32_768
"""Longest request line and header; more gets 431."""
HEADER_S = 10.0
"""For a request line and header to arrive, and for the first byte on a new connection."""
BODY_S = 10.0
"""A body may take this long, and longer while it comes at BODY_RATE or faster."""
BODY_RATE = 1024
"""Bytes per second."""
ANSWER_S = 30.0
"""For a client to take some of an answer that waits for it."""
IDLE_S = 75.0
"""For the next request where uvicorn's own timer has been cancelled: any byte that comes does."""


_NOTHING = object()
_NOBODY = Refusals({})
_TURNS_TO_READ = 2
"""Of the event loop, from taking a connection to reading what has come on it."""


class _Refused:
    """Stands for a request that was answered when its header was complete."""

    response_started = response_complete = keep_alive = True
    disconnected = False

    def __init__(self) -> None:
        self.scope: Any = None
        self.more_body = True
        self.message_event = asyncio.Event()


class Connection(HttpToolsProtocol):
    """uvicorn's, with a bound on the header, a count of the bytes received and early refusals."""

    header_bytes = 0
    received = 0
    opened: tuple[float, int] | None = None
    """When the connection itself may have arrived, and the turn in which it was taken."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """See uvicorn. What the app calls ``refusals`` may refuse requests early."""
        super().__init__(*args, **options)
        self._refusals: Refusals = getattr(self.app, "refusals", None) or _NOBODY
        self._refused: _Refused | None = None
        self._whole = b""
        """What was read last, where a request begins with it."""
        self._trailer_bytes = 0
        self._last: Any = None
        """While the server stops, the request whose answer ends this connection."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of a request; what follows a body in chunks is dropped, and bounded all the same."""
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            self._trailer_bytes += len(name) + len(value)
            if self._trailer_bytes > HEADER_BYTES:
                self.refuse(431, b"the trailer of the request is longer than 32 KiB")
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Refuse the request, or begin it."""
        self._trailer_bytes = 0
        refusing = self._refusals.at(self.url)
        since = TURNS.since if self.opened is None else self._first_since(*self.opened)
        if refusing is not None:
            early = self._last is None and refusing.pressed() and self._is_plain()
            if early and self._refuse_early(refusing, since):
                return
            refusing.let_in()
        self._whole = b""
        scope: Any = self.scope
        scope[ARRIVED] = since
        super().on_headers_complete()
        cycle: Any = self.cycle
        # One that becomes a WebSocket is no request.
        if self._last is not None and cycle is not None and cycle.scope is scope:
            self._close_after(cycle)

    def close_after_last(self) -> None:
        """Close once what has come is answered; what still comes before that is answered too."""
        cycle = self.pipeline[0][0] if self.pipeline else self.cycle
        if cycle is None or cycle.response_complete:
            self._last = _NOTHING
        else:
            self._close_after(cycle)

    def _close_after(self, cycle: Any) -> None:
        """Have the answer to this request, and none before it, end the connection."""
        last = self._last
        if last is not None and last is not _NOTHING and not last.response_started:
            last.keep_alive = True
            last.default_headers = [line for line in last.default_headers if line != CLOSE]
        # Said in the answer, where its headers are still to be written.
        if CLOSE not in cycle.default_headers:
            cycle.default_headers = [*cycle.default_headers, CLOSE]
        cycle.keep_alive = False
        self._last = cycle

    def _first_since(self, opened: float, turn: int) -> float:
        """When the first request may have arrived: with its connection, which had to wait too."""
        self.opened = None
        if TURNS.count - turn > _TURNS_TO_READ or opened < TURNS.busy_since:
            return TURNS.since  # it came later than its connection
        return min(opened, TURNS.since)

    def _refuse_early(self, refusing: Refusing, since: float) -> bool:
        head = dict(self.headers)
        refusal = refusing.refusal(head, since)
        if refusal is None:
            return False
        if self._refused is None:
            self._refused = _Refused()
        self._refused.scope = self.scope
        self._refused.more_body = True
        self.cycle = self._refused  # type: ignore[assignment]
        self._tell(*refusal)
        self.on_response_complete()
        if self._whole:
            self._refusals.keep(self._whole, refusing, self.headers, head)
            self._whole = b""
        return True

    def _refuse_known(self, data: bytes) -> bool:
        """Refuse a whole request that one like it has been: nothing of it is parsed."""
        known = self._refusals.known(data)
        if (
            known is None
            or not known.refusing.pressed()
            or self.flow.write_paused
            or self.transport.is_closing()
            or (refusal := known.refusing.refusal(known.head, TURNS.since)) is None
        ):
            return False
        self._unset_keepalive_if_required()  # from now on its patience is counted
        self._tell(*refusal)
        self.server_state.total_requests += 1
        return True

    def _tell(self, status: int, rest: bytes) -> None:
        self.transport.write(STATUS_LINE[status] + _head(self.server_state.default_headers) + rest)

    def _is_between(self) -> bool:
        """Whether a request was answered and received, and nothing has come since."""
        cycle: Any = self.cycle
        return (
            cycle is not None
            and cycle.response_complete
            and not cycle.more_body
            and cycle.scope is self.scope
            and self._last is None
            and self.opened is None
        )

    def on_message_complete(self) -> None:
        """Also of a request that was refused already."""
        cycle: Any = self.cycle
        if cycle is self._refused and cycle is not None:
            cycle.more_body = False
        else:
            super().on_message_complete()

    def _is_plain(self) -> bool:
        """Whether the request is one of those that stay on their connection, one by one."""
        parser, cycle = self.parser, self.cycle
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def data_received(self, data: bytes) -> None:
        """Count, and refuse a header that has grown too long."""
        TURNS.read(self.loop)
        size = len(data)
        self.received += size
        if self._is_between():
            if self._refuse_known(data):
                return
            self._whole = data
        scope, cycle = self.scope, self.cycle
        if scope is not None and (cycle is None or cycle.scope is not scope):
            self.header_bytes += size  # the header began in an earlier read
        else:
            self.header_bytes = 0
        if self.header_bytes > HEADER_BYTES or (
            size > HEADER_BYTES and not in_body(self) and b"\r\n\r\n" not in data[:HEADER_BYTES]
        ):
            self.refuse(431, b"the request header is longer than 32 KiB")
            return
        super().data_received(data)
        self._whole = b""

    def refuse(self, status: int, why: bytes) -> None:
        """Answer a request that will never be whole, and close."""
        answering = self.cycle is not None and self.cycle.response_started
        if not answering and not self.transport.is_closing():
            body = (
                b'{"error":"' + why + b'","where":"","remedy":"send a smaller or faster request"}'
            )
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: application/json\r\nconnection: close\r\ncontent-length: "
                + str(len(body)).encode()
                + b"\r\n\r\n"
                + body
            )
        self.transport.close()


_last_head: tuple[object, bytes] = (None, b"")


def _head(default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """The server's own headers. uvicorn makes a new list of them once a second."""
    global _last_head  # noqa: PLW0603  # worth a tenth of what a refusal costs
    if _last_head[0] is not default_headers:
        lines = b"".join([b"%b: %b\r\n" % line for line in default_headers])
        _last_head = (default_headers, lines)
    return _last_head[1]


def in_header(connection: Any) -> bool:
    """Whether a request line or header has begun and is not complete."""
    scope, cycle = connection.scope, connection.cycle
    return scope is not None and (cycle is None or cycle.scope is not scope)


def in_body(connection: Any) -> bool:
    """Whether a header is complete and its body is not, or was answered before it was."""
    return connection.cycle is not None and connection.cycle.more_body


def is_idle(connection: Any) -> bool:
    """Whether nothing was asked that is not answered."""
    if not isinstance(connection, HttpToolsProtocol):
        return not (isinstance(connection, WebSocket) and connection.busy)
    cycle = connection.cycle
    answered = cycle is None or cycle.response_complete
    return answered and not connection.pipeline and not in_header(connection)


@dataclass(slots=True)
class _Wait:
    """What a client keeps us waiting for."""

    what: _What
    token: object
    """The same object for as long as it is the same wait."""
    since: float
    received: int
    """Bytes it had sent by then."""
    unsent: int
    """Bytes of an answer it had yet to read."""


class Patience:
    """Remembers, from one look to the next, since when each connection keeps us waiting."""

    def __init__(self) -> None:
        self._waits: dict[Connection, _Wait] = {}

    def look(self, connections: Iterable[Any], now: float) -> None:
        """Close the connections that have kept us waiting for too long; call once a second.

        ``now`` is the event loop's clock.
        """
        waits = {}
        for connection in list(connections):
            if isinstance(connection, WebSocket):
                connection.look(now)
            if not isinstance(connection, Connection) or not (wait := _waiting(connection, now)):
                continue
            known = self._waits.get(connection)
            if known and _is_same(known, wait):
                if _give_up(connection, known, now):
                    continue
                wait = known
            waits[connection] = wait
        self._waits = waits


def _is_same(known: _Wait, wait: _Wait) -> bool:
    """Whether a client still keeps us waiting as it did."""
    came = wait.what == "idle" and known.received != wait.received
    return known.token is wait.token and known.unsent == wait.unsent and not came


def _waiting(connection: Connection, now: float) -> _Wait | None:
    unsent = 0
    what: _What
    token: object
    if connection.flow.write_paused:
        unsent = connection.transport.get_write_buffer_size()
        what, token = "reading", connection.flow
    elif in_header(connection):
        what, token = "header", connection.scope
    elif connection.cycle is None:
        what, token = "first", connection
    elif in_body(connection) and not connection.flow.read_paused:
        what, token = "body", connection.scope
    elif connection.timeout_keep_alive_task is None and is_idle(connection):
        what, token = "idle", connection.cycle
    else:
        return None
    return _Wait(what, token, now, connection.received, unsent)


def _give_up(connection: Connection, wait: _Wait, now: float) -> bool:
    elapsed = now - wait.since
    if wait.what == "first" and elapsed > HEADER_S:
        connection.transport.close()
    elif wait.what == "header" and elapsed > HEADER_S:
        connection.refuse(408, b"the request header did not arrive within 10 s")
    elif wait.what == "body" and elapsed > BODY_S:
        if connection.received - wait.received > elapsed * BODY_RATE:
            return False
        connection.refuse(408, b"the request body came at less than 1 KiB/s")
    elif wait.what == "idle" and elapsed > IDLE_S:
        connection.transport.close()
    elif wait.what == "reading" and elapsed > ANSWER_S:
        connection.transport.abort()
    else:
        return False
    return True
