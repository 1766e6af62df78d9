"""The connection between the gate and one of its load generators: framed messages over TCP.

TCP and not files or pipes, because a generator may run on a machine of its own.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
import struct
import time
from typing import TypeVar

import msgspec

__all__ = ["LOAD", "Link"]

LOAD = "HEADGATE_LOAD"
"""Environment variable ``host:port:token`` that makes a generator take its orders there."""
_LENGTH = struct.Struct("!Q")
_MOST = 1 << 32
"""Bytes of one message; the token keeps strangers out, this a slip of the framing."""
_PIECE = 1 << 20
_GREETING_S = 2.0
"""A stranger may take so long to say the token, and holds up no more than that."""
T = TypeVar("T")


class Link:
    """One end."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection

    @classmethod
    def to(cls, address: str) -> Link:
        """The generator's end; raises OSError where nobody listens."""
        place, _, token = address.rpartition(":")
        host, _, port = place.rpartition(":")
        link = cls(socket.create_connection((host, int(port)), timeout=30))
        link.socket.settimeout(None)
        link.send(token)
        return link

    @classmethod
    def taken(cls, connection: socket.socket, token: str) -> Link | None:
        """The gate's end of an accepted connection; None for a stranger."""
        link = cls(connection)
        with contextlib.suppress(OSError, EOFError, msgspec.DecodeError, UnicodeDecodeError):
            said = link.receive(str, most=1000, within_s=_GREETING_S)
            if hmac.compare_digest(said.encode(), token.encode()):
                return link
        connection.close()
        return None

    def send(self, message: object, *, within_s: float | None = None) -> None:
        """Raises OSError where the other end is gone, TimeoutError where it does not take it."""
        body = msgspec.msgpack.encode(message)
        if within_s is not None:
            self.socket.settimeout(within_s)
        self.socket.sendall(_LENGTH.pack(len(body)))
        self.socket.sendall(body)

    def receive(self, kind: type[T], *, most: int = _MOST, within_s: float | None = None) -> T:
        """The next message.

        Raises:
            EOFError: the other end is gone, or speaks of more than ``most`` bytes.
            TimeoutError: it has not said all of it ``within_s``.
            msgspec.DecodeError: it says something else.
        """
        ends_s = None if within_s is None else time.monotonic() + within_s
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size, ends_s))
        if length > most:
            raise EOFError
        return msgspec.msgpack.decode(self._exactly(length, ends_s), type=kind)

    def close(self) -> None:
        """Tell the other end that this was all."""
        self.socket.close()

    def _exactly(self, count: int, ends_s: float | None) -> bytearray:
        # It grows with what comes: a count may be anything.
        got = bytearray()
        while len(got) < count:
            if ends_s is not None:
                left_s = ends_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self.socket.settimeout(left_s)
            try:
                more = self.socket.recv(min(count - len(got), _PIECE))
            except ConnectionError:
                raise EOFError from None
            if not more:
                raise EOFError
            got += more
        return got
