r"""What the launcher and a worker say to each other, over one Unix stream socket.

The launcher holds the listening socket and hands every accepted connection to a worker, as a file
descriptor (SCM_RIGHTS). So no connection reaches a worker that is hung, not ready or leaving, the
workers' loads stay even, and one process alone decides when new connections are refused.

Launcher to worker, one byte each: ``c`` comes with a connection, ``g`` with one that speaks gRPC, to
workers that said they do; ``d`` says there will be no more:
answer what is open, then exit. End of file means that the launcher is gone.

Worker to launcher, JSON lines of :class:`Report`. Unknown fields are ignored, so that a launcher can
serve a Bento of another Headgate version.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

__all__ = ["ForGrpc", "Report", "Reports", "hand_over", "incoming", "send_report", "tell_drain"]

_CONNECTION = b"c"
_GRPC = b"g"
_DRAIN = b"d"


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line from a worker."""

    event: Literal["ready", "beat", "retire", "failed"]
    """``ready``: can answer. ``beat``: the event loop turns. ``retire``: unfit, replace me.
    ``failed``: about to exit before it was ready."""
    connections: int = 0
    """Of a beat: open connections."""
    received: int = 0
    """Of a beat: connections handed over so far."""
    grpc: bool = False
    """Of ``ready``: whether it takes connections that speak gRPC."""
    grpc_connections: int = 0
    """Of a beat: those among the open ones that speak gRPC."""
    grpc_received: int = 0
    """Of a beat: those among the ones handed over so far."""
    reason: str = ""
    """Of ``retire`` and ``failed``: one line for a person."""


class ForGrpc(NamedTuple):
    """A connection that speaks gRPC."""

    connection: socket.socket


def hand_over(channel: socket.socket, connection: socket.socket, *, grpc: bool = False) -> bool:
    """Give ``connection`` to the worker; False when it cannot take it now."""
    try:
        socket.send_fds(channel, [_GRPC if grpc else _CONNECTION], [connection.fileno()])
    except OSError:  # full, or the worker just died
        return False
    return True


def tell_drain(channel: socket.socket) -> None:
    """Tell the worker that no more connections follow.

    Raises:
        BlockingIOError: the channel is full just now.
        OSError: nobody is there to hear it.
    """
    channel.send(_DRAIN)


def incoming(
    channel: socket.socket,
) -> Iterator[socket.socket | ForGrpc | Literal["drain", "gone"]]:
    """What the launcher sent since the last call; ``channel`` must not block."""
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if data in (_CONNECTION, _GRPC) and descriptors:
            connection = socket.socket(fileno=descriptors[0])
            connection.setblocking(False)
            yield connection if data == _CONNECTION else ForGrpc(connection)
        elif data == _DRAIN:
            yield "drain"
        elif not data:
            yield "gone"
            return


def send_report(channel: socket.socket, report: Report) -> None:
    """Send one line; it is dropped when the launcher does not read, and when it is gone."""
    try:
        channel.send(msgspec.json.encode(report) + b"\n")
    except OSError:
        return


class Reports:
    """Reads the lines of one worker."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._rest = b""
        self._decoder = msgspec.json.Decoder(Report)

    def read(self) -> list[Report] | None:
        """What came since the last call; None when the worker closed its end."""
        try:
            data = self._channel.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        reports = []
        for line in lines:
            # Torn when the launcher was stopped for so long that its buffer filled up.
            with contextlib.suppress(msgspec.DecodeError):
                reports.append(self._decoder.decode(line))
        return reports
