"""Keeps the workers of one service alive and hands them its connections."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headgate.serving.launch.census import Census
from headgate.serving.launch.channel import Report, Reports, hand_over, tell_drain
from headgate.serving.launch.door import LAST_ATTEMPTS_S, Door
from headgate.serving.launch.standin import StandIn

__all__ = ["ENTRY", "Command", "Pool", "Timing", "Worker"]

ENTRY = "entry"
"""What metrics call the service that clients reach."""
_TICK_S = 0.25
_STALLED_S = 1.0
"""A look that comes so much too late says that it is the launcher that was stopped, or everything."""
_GIVE_UP_AFTER = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long things may take, in seconds."""

    ready_s: float = 60
    """A worker to become ready."""
    stale_s: float = 2
    """Without a sign of life a worker gets no more connections."""
    hung_s: float = 6
    """Without a sign of life a worker is replaced."""
    drain_s: float = 20
    """Requests in flight, once the server or their worker is to stop."""
    longest_pause_s: float = 30
    """Between two attempts to start a worker that keeps dying."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What one worker runs; ``--fd N`` is added when it starts."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]


class Worker:
    """One worker process and the launcher's end of its channel."""

    def __init__(self, command: Command, on_report: Callable[[Worker, Report], None]) -> None:
        self.started = self.heard = time.monotonic()
        self.ready = False
        self.speaks_grpc = False
        self.retiring_until: float | None = None
        self.last_words = ""
        self.last_given = 0.0
        """When it was last given a connection."""
        self._on_report = on_report
        self._open = self._received = self._sent = 0
        self._grpc_open = self._grpc_received = self._grpc_sent = 0
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        with theirs:
            self.process = subprocess.Popen(
                [*command.argv, "--fd", str(theirs.fileno())],
                cwd=command.cwd,
                env=dict(command.env),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # The launcher's standard output is for programs: one line when it is ready.
                stdout=sys.stderr.fileno(),
                # A Ctrl-C at the terminal is the launcher's to pass on.
                process_group=0,
            )
        self._reports = Reports(self._channel)
        asyncio.get_running_loop().add_reader(self._channel, self._read)

    @property
    def load(self) -> int:
        """Connections it has, with those on their way to it."""
        return self._open + self._sent - self._received

    @property
    def grpc_load(self) -> int:
        """Those among them that speak gRPC."""
        return self._grpc_open + self._grpc_sent - self._grpc_received

    def answers(self, timing: Timing) -> bool:
        """Whether it is ready, stays, and showed a sign of life just now."""
        return (
            self.ready
            and self.retiring_until is None
            and time.monotonic() - self.heard < timing.stale_s
        )

    def take(self, connection: socket.socket, *, grpc: bool = False) -> bool:
        """Hand a connection over; False when it cannot take it."""
        if not hand_over(self._channel, connection, grpc=grpc):
            return False
        self._sent += 1
        self._grpc_sent += grpc
        self.last_given = time.monotonic()
        return True

    def drain(self, until: float) -> None:
        """Let it answer what it has until the monotonic moment ``until``, then exit."""
        self.retiring_until = until
        if self.ready:
            self._tell_drain()
        else:
            self.kill()

    def _tell_drain(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_writer(self._channel)
        try:
            tell_drain(self._channel)
        except BlockingIOError:  # full of connections: once it has taken some
            loop.add_writer(self._channel, self._tell_drain)
        except OSError:
            self.kill()

    def kill(self, why: str = "") -> None:
        """End it at once."""
        self.last_words = self.last_words or why
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)

    def epitaph(self) -> str:
        """In one line, why it died."""
        code = self.process.returncode
        if self.last_words:
            return self.last_words
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    def close(self) -> None:
        """Let go of the channel, after the process has ended."""
        self._read()  # its last words may still lie there
        asyncio.get_running_loop().remove_reader(self._channel)
        asyncio.get_running_loop().remove_writer(self._channel)
        self._channel.close()

    def _read(self) -> None:
        reports = self._reports.read()
        if reports is None:
            asyncio.get_running_loop().remove_reader(self._channel)
            return
        for report in reports:
            self.heard = time.monotonic()
            if report.event == "beat":
                self._open, self._received = report.connections, report.received
                self._grpc_open = report.grpc_connections
                self._grpc_received = report.grpc_received
            elif report.event == "failed":
                self.last_words = report.reason
            self._on_report(self, report)


class Pool:
    """The workers of one service, as many as there are commands, and its listening sockets."""

    def __init__(
        self,
        name: str,
        commands: Sequence[Command],
        listener: socket.socket,
        *,
        grpc: socket.socket | None = None,
        timing: Timing,
        most_connections: int,
        census: Census,
        standin: StandIn,
        say: Callable[[str], None],
        give_up: Callable[[str], None],
    ) -> None:
        """``say`` gets lines for the log; ``give_up`` the reason why no worker can be started.

        ``listener`` is that of HTTP, ``grpc`` that of gRPC.
        """
        self.name = name
        self.ready = asyncio.Event()
        """Set once every worker has been ready."""
        self._commands = commands
        self._doors = [Door(listener, self._place, say)]
        if grpc is not None:
            self._doors.append(Door(grpc, self._place_grpc, say))
        self._listens_for_grpc = grpc is not None
        self._timing = timing
        self._most = most_connections
        self._census = census
        self._standin = standin
        self._say = say
        self._give_up = give_up
        self._current: dict[int, Worker] = {}
        self._retired: set[Worker] = set()
        self._failures = 0
        self._draining = False
        self._ticked = time.monotonic()
        self._timers: set[asyncio.TimerHandle] = set()

    def start(self) -> None:
        """Accept connections and start the workers."""
        self._census.restarted(self.name, "died", 0)
        for door in self._doors:
            door.open()
        for slot in range(len(self._commands)):
            self._spawn(slot)
        self._tick()

    def reap(self) -> None:
        """Notice the workers that ended; call it on SIGCHLD."""
        for worker in [*self._current.values(), *self._retired]:
            if worker.process.poll() is not None:
                self._bury(worker)

    def kill(self) -> None:
        """End every worker at once."""
        for worker in [*self._current.values(), *self._retired]:
            worker.kill()

    async def drain(self) -> bool:
        """Refuse new connections, have the open ones answered; False when some were cut off."""
        loop = asyncio.get_running_loop()
        self._draining = True
        for timer in self._timers:
            timer.cancel()
        for door in self._doors:
            door.shut()
        await asyncio.sleep(LAST_ATTEMPTS_S)
        for door in self._doors:
            await door.close()
        until = loop.time() + self._timing.drain_s
        for worker in list(self._current.values()):
            worker.drain(until)
        await self._standin.finish()
        # A worker ends by itself when its time is up; it has a second to do so.
        while self._current or self._retired:
            if loop.time() > until + 1:
                self.kill()
                self._say(f"service {self.name}: cut off what took longer than the drain time")
                return False
            await asyncio.sleep(0.02)
        return True

    async def ended(self) -> None:
        """Wait until every worker has ended."""
        while self._current or self._retired:  # noqa: ASYNC110 - a moment after a kill
            await asyncio.sleep(0.02)

    def _spawn(self, slot: int) -> None:
        try:
            self._current[slot] = Worker(self._commands[slot], self._heard)
        except OSError as error:  # no memory, no processes: it may pass
            self._died_unready(slot, f"cannot start a process: {error.strerror}")

    def _heard(self, worker: Worker, report: Report) -> None:
        if report.event == "ready":
            worker.ready = True
            worker.speaks_grpc = report.grpc
            if self._listens_for_grpc and not report.grpc:
                self._say(f"{self.name} speaks no gRPC: connections to its port are closed")
            self._failures = 0
            if sum(w.ready for w in self._current.values()) == len(self._commands):
                self.ready.set()
        elif report.event == "retire" and not worker.ready:
            worker.kill(report.reason)
        elif report.event == "retire" and worker in self._current.values():
            self._replace(worker, report.reason)
        self._count()

    def _replace(self, worker: Worker, reason: str) -> None:
        """Start another in the place of one that is unfit but may finish what it has."""
        self._say(f"worker {worker.process.pid} of {self.name} leaves: {reason}")
        worker.drain(time.monotonic() + self._timing.drain_s)
        slot = next(slot for slot, other in self._current.items() if other is worker)
        self._retired.add(worker)
        del self._current[slot]
        if not self._draining:
            self._census.restarted(self.name, "unfit")
            self._spawn(slot)

    def _bury(self, worker: Worker) -> None:
        worker.close()
        self._census.buried(worker.process.pid, served=worker.ready)
        if worker in self._retired:
            self._retired.remove(worker)
            return
        slot = next(slot for slot, other in self._current.items() if other is worker)
        del self._current[slot]
        self._count()
        if self._draining:
            return
        self._say(f"worker {worker.process.pid} of {self.name} died: {worker.epitaph()}")
        if worker.ready:
            self._census.restarted(self.name, "hung" if worker.last_words else "died")
            self._spawn(slot)
        else:
            self._died_unready(slot, worker.epitaph())

    def _died_unready(self, slot: int, why: str) -> None:
        """Try again, after a pause that doubles; give up where nothing is left to serve."""
        self._failures += 1
        alive = any(worker.ready for worker in self._current.values())
        if self._failures >= _GIVE_UP_AFTER and not alive:
            self._give_up(why)
            return
        self._census.restarted(self.name, "unready")
        pause = min(self._timing.longest_pause_s, 0.1 * 2**self._failures)
        self._later(pause, lambda: self._spawn(slot))

    def _later(self, pause: float, action: Callable[[], None]) -> None:
        def act() -> None:
            self._timers.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(pause, act)
        self._timers.add(timer)

    def _tick(self) -> None:
        """Replace what hangs, a few times a second."""
        now = time.monotonic()
        stalled, self._ticked = now - self._ticked - _TICK_S, now
        for worker in self._current.values():
            if stalled > _STALLED_S:
                # What they said meanwhile has yet to be read.
                worker.heard += stalled
                worker.started += stalled
            if not worker.ready and now - worker.started > self._timing.ready_s:
                worker.kill(f"not ready within {self._timing.ready_s:g} s")
            elif worker.ready and now - worker.heard > self._timing.hung_s:
                worker.kill(f"gave no sign of life for {self._timing.hung_s:g} s")
        for worker in self._retired:
            if worker.retiring_until is not None and now > worker.retiring_until + 1:
                worker.kill()
        self._count()
        if not self._draining:
            self._later(_TICK_S, self._tick)

    def _count(self) -> None:
        living = sum(worker.answers(self._timing) for worker in self._current.values())
        self._census.live(self.name, living)

    def _place_grpc(self, connection: socket.socket) -> bool:
        """Give a connection to the worker with the fewest of its kind, or close it.

        Each carries many calls for a long time, so that it counts more than a connection of HTTP.
        """
        able = [
            worker
            for worker in self._current.values()
            if worker.answers(self._timing) and worker.speaks_grpc and worker.load < self._most
        ]
        able.sort(key=lambda worker: (worker.grpc_load, worker.load, worker.last_given))
        if not any(worker.take(connection, grpc=True) for worker in able) and any(
            worker.process.poll() is None for worker in able
        ):
            return False
        connection.close()
        return True

    def _place(self, connection: socket.socket) -> bool:
        """Give a connection to the least busy worker that answers, or answer it ourselves.

        False when it fits in no worker's channel just now.
        """
        able = [worker for worker in self._current.values() if worker.answers(self._timing)]
        free = sorted(
            (worker for worker in able if worker.load < self._most),
            key=lambda worker: (worker.load, worker.last_given),
        )
        if any(worker.take(connection) for worker in free):
            connection.close()
        elif any(worker.process.poll() is None for worker in free):
            return False
        elif able and not free:
            self._standin.take(connection, "every worker has as many connections as it may")
        elif self.ready.is_set():
            self._standin.take(connection, "no worker can answer; they are being replaced")
        else:
            self._standin.take(connection, "starting: no worker is ready yet")
        return True
