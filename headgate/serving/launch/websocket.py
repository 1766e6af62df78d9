"""WebSocket connections: dead, slow and greedy peers are let go, and a drain can be heard of.

uvicorn's, on the parser of ``websockets``: it masks in C and refuses a frame by its declared length.
Without compression: a message of a few bytes could unfold to megabytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from websockets.frames import Frame
    from websockets.http11 import Request

__all__ = ["DRAIN", "EXTENSION", "MAX_FRAGMENTS", "STALL_S", "WebSocket"]

EXTENSION = "headgate.connection"
"""Under this name among a scope's extensions, an app finds the :class:`WebSocket` itself."""
DRAIN = "headgate.drain"
"""Type of the message that a polite app receives when the server begins to stop."""
MAX_FRAGMENTS = 65_536
"""Frames of one message; empty ones would cost memory and count as nothing."""
PING_S = 20.0
"""A ping is sent so long after the last one was answered."""
PONG_S = 20.0
"""A peer that has not answered one by then is dead."""
STALL_S = 30.0
"""For a peer to take some of what waits for it."""
CLOSING_S = 10.0
"""For the last bytes to leave once the connection is to be closed."""
RATE = 1024
"""Bytes per second at which a peer that is in the middle of a message counts as alive."""
_TEXT = 0x81


class WebSocket(WebSocketsSansIOProtocol):
    """uvicorn's, bounded."""

    polite = False
    """Set by an app that ends its connection when it receives :data:`DRAIN`."""
    busy = False
    """Set by an app while it owes an answer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ping_interval, self.ping_timeout = PING_S, PONG_S
        self._received = 0
        self._received_at_ping = 0
        self._write_paused = False
        self._out: list[bytes] = []
        self._unsent = 0
        self._since: float | None = None

    def drain(self) -> None:
        """Tell a polite app, behind all that has come so far, that the server stops."""
        if self.polite:
            message: Any = {"type": DRAIN}
            self.queue.put_nowait(message)

    async def say(self, text: bytes) -> None:
        """Send a text message, in one write with all that is said in this turn of the event loop.

        uvloop writes at once, and a system call for each of many small answers would be what they
        cost most.

        Raises:
            ClientDisconnected: the peer has gone, or is about to.
        """
        if not self.writable.is_set():
            await self.writable.wait()
        if self.disconnected or self.close_sent:
            raise ClientDisconnected
        if not self._out:
            self.loop.call_soon(self._flush)
        self._out += (_head(len(text)), text)

    def look(self, now: float) -> None:
        """Cut off a peer that takes nothing of what waits for it; called once a second."""
        unsent = self.transport.get_write_buffer_size()
        closing = self.transport.is_closing()
        if not closing and not self._write_paused:
            self._since = None
        elif self._since is None or (unsent < self._unsent and not closing):
            self._since, self._unsent = now, unsent
        elif now - self._since > (CLOSING_S if closing else STALL_S):
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Count."""
        self._received += len(data)
        super().data_received(data)

    def handle_connect(self, event: Request) -> None:
        """Let the app find this connection."""
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    def handle_cont(self, event: Frame) -> None:
        """Bound the number of fragments as well as their size."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self._fail(1009, f"more than {MAX_FRAGMENTS} frames in a message")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Text as text, without uvicorn's traceback in the log for every client that sends none."""
        if self.close_sent or self.curr_msg_data_type != "text":
            super().send_receive_event_to_app()
            return
        whole = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        try:
            self.queue.put_nowait({"type": "websocket.receive", "text": whole.decode()})
        except UnicodeDecodeError as error:
            self._fail(1007, f"{error.reason} at position {error.start}")
            return
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        """Read nothing from a peer that reads nothing: its pings want answers too."""
        super().pause_writing()
        self._write_paused = True
        if not self.read_paused:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._write_paused = False
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    async def send(self, message: Any) -> None:
        """See ASGI. An answer that refuses the handshake completes it: uvicorn logs it as a fault."""
        self._flush()
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    async def receive(self) -> Any:
        """See ASGI; reading goes on when both what has come and what waits to leave allow it."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            if not self._write_paused and not self.transport.is_closing():
                self.transport.resume_reading()
        return message

    def send_keepalive_ping(self) -> None:
        """Remember what had come before the ping."""
        self._received_at_ping = self._received
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """Only a peer that could have been heard is dead: not while we do not read, or it sends."""
        ours = self.read_paused or self._write_paused
        came = self._received - self._received_at_ping
        if (ours or came > RATE * PONG_S) and not self.transport.is_closing():
            self._received_at_ping = self._received
            self.pong_timer = self.loop.call_later(PONG_S, self.keepalive_timeout)
            return
        super().keepalive_timeout()

    def _fail(self, code: int, why: str) -> None:
        self.conn.fail(code, why)
        self.handle_parser_exception()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and not self.close_sent and not self.transport.is_closing():
            self.transport.write(b"".join(out))


def _head(size: int) -> bytes:
    """What precedes a whole text message of so many bytes; a server masks nothing."""
    if size < 126:
        return bytes((_TEXT, size))
    if size < 65_536:
        return struct.pack("!BBH", _TEXT, 126, size)
    return struct.pack("!BBQ", _TEXT, 127, size)
