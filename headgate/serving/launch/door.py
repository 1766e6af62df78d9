"""A listening socket, through which clients come to a service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from headgate.serving.launch.listening import refuse_new

__all__ = ["LAST_ATTEMPTS_S", "Door"]

LAST_ATTEMPTS_S = 0.05
"""For connection attempts that were under way when the door was shut."""
_CATCH_UP_S = 0.005
_AT_A_TIME = 64
_EXHAUSTED_S = 0.2


class Door:
    """Accepts connections and gives each away."""

    def __init__(
        self,
        listener: socket.socket,
        place: Callable[[socket.socket], bool],
        say: Callable[[str], None],
    ) -> None:
        """``place`` takes a connection, or is False when it has to be asked again in a moment."""
        self._listener = listener
        self._place = place
        self._say = say
        self._held: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._shut = False

    def open(self) -> None:
        """Accept connections."""
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def shut(self) -> None:
        """Refuse new connections; those under way still come."""
        self._shut = True
        if self._timer is not None:
            self._timer.cancel()
        refuse_new(self._listener)

    async def close(self) -> None:
        """Give away all that waits in the kernel's queue, and close."""
        asyncio.get_running_loop().remove_reader(self._listener)
        connection, self._held = self._held or self._next(), None
        while connection is not None:
            if self._place(connection):
                connection = self._next()
            else:
                await asyncio.sleep(_CATCH_UP_S)
        self._listener.close()

    def _accept(self) -> None:
        """Take some of what waits in the kernel's queue."""
        for _ in range(_AT_A_TIME):
            connection = self._next()
            if connection is None:
                return
            if not self._place(connection):
                self._hold(connection)
                return

    def _next(self) -> socket.socket | None:
        """The next connection that waits in the kernel's queue."""
        try:
            return self._listener.accept()[0]
        except BlockingIOError:
            return None
        except OSError as error:
            # Out of file descriptors: trying again at once would only burn the CPU.
            self._say(f"cannot accept connections: {error.strerror}")
            self._pause(_EXHAUSTED_S, self.open)
            return None

    def _hold(self, connection: socket.socket) -> None:
        """Keep a connection until a worker has caught up with those it was given."""
        self._held = connection
        self._pause(_CATCH_UP_S, self._give_held)

    def _give_held(self) -> None:
        connection, self._held = self._held, None
        if connection is None:
            return
        if self._place(connection):
            self.open()
        else:
            self._hold(connection)

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        """Leave what comes in the kernel's queue for a moment."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        if not self._shut:
            self._timer = loop.call_later(seconds, then)
