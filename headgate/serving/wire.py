"""The short way through uvicorn: a body that is complete, and an answer in one write.

ASGI has an answer sent in two messages, and uvicorn writes each by itself: two system calls, the
first of which wakes the client up for nothing. That is a third of what a small request costs.
uvicorn's request object is at hand (``receive`` and ``send`` are its methods), so a whole answer is
written here as its ``send`` would (uvicorn 0.54, ``httptools_impl.RequestResponseCycle.send``), in
one piece. Whatever is out of the ordinary, and every other server, takes ASGI's way.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from headgate.serving.http import Headers, Receive, Send

__all__ = ["Wire", "received"]

_OK: Final = STATUS_LINE[200]


def received(receive: Receive, limit: int) -> bytes | None:
    """The body, if it is here whole and within ``limit`` bytes; else nothing is taken."""
    cycle: Any = getattr(receive, "__self__", None)
    if (
        type(cycle) is not RequestResponseCycle
        or cycle.more_body
        or cycle.disconnected
        or len(cycle.body) > limit
    ):
        return None
    body = bytes(cycle.body)
    cycle.body = bytearray()
    cycle.message_event.clear()
    if cycle.flow.read_paused:
        # uvicorn stops reading while a large body waits, and would not notice a client that leaves.
        cycle.flow.resume_reading()
    return body


class Wire:
    """Writes answers of status 200 that have the same headers but for their length."""

    def __init__(self, headers: Headers) -> None:
        """``headers`` are those of every answer, without the length."""
        self._headers = headers
        self._ours = b"".join(b"%b: %b\r\n" % header for header in headers) + b"content-length: "
        self._defaults: Any = None
        self._head = b""
        self._ordinary = False

    async def answer(self, body: bytes, send: Send, more: Headers | None = None) -> None:
        """Send ``body`` with status 200; ``more`` are headers of this answer alone."""
        cycle: Any = getattr(send, "__self__", None)
        if (
            type(cycle) is not RequestResponseCycle
            or not self._is_ordinary(cycle)
            or cycle.scope["method"] == "HEAD"
        ):
            length = (b"content-length", b"%d" % len(body))
            headers = [*self._headers, length, *(more or ())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        cycle.chunked_encoding = False
        if more is None:
            cycle.transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        else:
            told = b"".join(b"%b: %b\r\n" % header for header in more)
            cycle.transport.write(b"%b%d\r\n%b\r\n%b" % (self._head, len(body), told, body))
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()

    def _is_ordinary(self, cycle: Any) -> bool:
        if cycle.default_headers is not self._defaults:
            # uvicorn makes a new list every second, with the date, and when it is about to stop.
            self._defaults = cycle.default_headers
            ahead = b"".join(b"%b: %b\r\n" % header for header in self._defaults)
            self._head = _OK + ahead + self._ours
            self._ordinary = all(name != b"connection" for name, _ in self._defaults)
        return (
            self._ordinary
            and cycle.keep_alive
            and not cycle.disconnected
            and not cycle.response_started
            and not cycle.flow.write_paused
            and not cycle.access_log
        )
