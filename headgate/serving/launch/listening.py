"""Sockets that are nobody else's: taken exclusively, given up without losing a connection."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import socket
import struct
import sys
from pathlib import Path

from headgate.errors import PortInUseError, ServingError

__all__ = ["GRPC_SETTING", "holder_of", "listen_tcp", "listen_unix", "refuse_new"]

BACKLOG = 2048
HTTP_SETTING = "--port or HEADGATE_PORT"
GRPC_SETTING = "--grpc-port or HEADGATE_GRPC_PORT"
_SO_ATTACH_FILTER = 26
_CONNECT_S = 0.3


def listen_tcp(host: str, port: int, setting: str = HTTP_SETTING) -> socket.socket:
    """Listen on ``host:port``, shared with nobody; port 0 takes a free one.

    ``setting`` is where another port can be chosen.

    Without SO_REUSEPORT the kernel lets no second socket listen on an address of ours, 0.0.0.0
    against 127.0.0.1 included. It does let one listen on ``[::1]`` beside our 127.0.0.1, and then
    "localhost" means either; so whoever answers there counts as a holder too.

    Raises :class:`PortInUseError`, or :class:`ServingError` where listening is not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ServingError(
            f"no such address ({error})", where=host, remedy="give an address of this machine"
        ) from None
    if port and (rival := _answering(str(address[0]), port)):
        raise _in_use(rival, port, setting)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Only past TIME_WAIT: on Linux it never admits a second listener.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it; answers are small and go out at once.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise _in_use(host, port, setting) from None
        raise ServingError(
            f"cannot listen: {error.strerror}",
            where=f"{host}:{port}",
            remedy="give an address of this machine and a port above 1023",
        ) from None
    sock.setblocking(False)
    return sock


def listen_unix(path: Path) -> socket.socket:
    """Listen on a Unix socket at ``path``; who may connect is up to the folder it is in."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def refuse_new(sock: socket.socket) -> None:
    """Make the kernel drop further connection attempts, but finish those under way.

    Closing a listening socket resets what waits in its queue. With attempts dropped first, the
    queue can be emptied by ``accept`` and the socket closed with nobody in it; an attempt that was
    dropped is repeated by its sender's kernel and refused then. Linux only (a classic BPF filter
    on the SYN flag); elsewhere a connection that arrives in the moment of closing is reset.
    """
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return
    program = (
        (0x30, 0, 0, 13),  # load the byte with the TCP flags
        (0x45, 0, 1, 0x02),  # is SYN set?
        (0x06, 0, 0, 0),  # yes: drop
        (0x06, 0, 0, 0xFFFFFFFF),  # no: keep
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    with contextlib.suppress(OSError):  # a sandboxed kernel may know no filters
        sock.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HP", len(program), ctypes.addressof(code)),
        )


def holder_of(port: int) -> str:
    """Who listens on ``port``: ``name (pid 123)``, or "another process" where that is hidden."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for entry in psutil.net_connections(kind="tcp"):
            if entry.status == psutil.CONN_LISTEN and entry.laddr[1:] == (port,) and entry.pid:
                return f"{psutil.Process(entry.pid).name()} (pid {entry.pid})"
    return "another process"


def _answering(host: str, port: int) -> str:
    """The address at which somebody else accepts what is meant for ``host:port``, or nothing."""
    address = ipaddress.ip_address(host.partition("%")[0])
    candidates = [host]
    if address.is_unspecified or address.is_loopback:
        candidates = ["127.0.0.1", "::1"]
    for candidate in candidates:
        try:
            with socket.create_connection((candidate, port), timeout=_CONNECT_S):
                return candidate
        except TimeoutError:  # a listener with a full backlog is a listener
            if address.is_loopback or address.is_unspecified:
                return candidate
        except OSError:
            continue
    return ""


def _in_use(host: str, port: int, setting: str) -> PortInUseError:
    return PortInUseError(
        f"port {port} is in use by {holder_of(port)}",
        where=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        remedy=f"stop it, or choose another port with {setting}",
    )
