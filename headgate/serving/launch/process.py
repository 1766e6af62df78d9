"""A server as a child of another program: started, waited for, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headgate.errors import PortInUseError, ServingError

if TYPE_CHECKING:
    import psutil

__all__ = ["ServerProcess", "start"]

_POLL_S = 0.02
_LAST_LINES = 5


class _Ready(msgspec.Struct, frozen=True):
    """The launcher's line."""

    event: str
    http: str
    pid: int
    load_time_s: float
    grpc: str = ""


class ServerProcess:
    """A launcher that runs detached, logging to a file."""

    def __init__(self, process: psutil.Process, log: Path, *, skip: int = 0) -> None:
        """``skip`` bytes at the start of the log are from earlier servers."""
        self.log = log
        self.address = ""
        """``host:port`` of HTTP, once :meth:`wait_ready` has returned."""
        self.grpc = ""
        """The same of gRPC; empty where there is none."""
        self.load_time_s = 0.0
        """Seconds from its start until it was ready, once it was."""
        self._process = process
        self._skip = skip

    @property
    def pid(self) -> int:
        """The launcher's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        import psutil

        try:
            if self._process.status() != psutil.STATUS_ZOMBIE:
                return self._process.is_running()
        except psutil.Error:
            return False
        self._process.wait(0)
        return False

    def wait_ready(self, timeout: float) -> None:
        """Return once it is ready.

        Raises :class:`ServingError` with its last log lines when it ends or takes longer than
        ``timeout`` seconds (it goes on then: call :meth:`stop`), and :class:`PortInUseError`.
        """
        deadline = time.monotonic() + timeout
        while True:
            alive = self.alive  # before the log: its last line may come in between
            if ready := self._ready_line():
                self.address, self.load_time_s = ready.http, ready.load_time_s
                self.grpc = ready.grpc
                return
            if not alive:
                raise self.failure("the server did not start")
            if time.monotonic() > deadline:
                raise self.failure(f"the server was not ready within {timeout:g} s")
            time.sleep(_POLL_S)

    def stop(self, timeout: float) -> None:
        """Let it answer what is open, then end; returns when it has ended.

        After ``timeout`` seconds it is killed, its workers with it, and :class:`ServingError` says
        so.
        """
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self.alive:
            if time.monotonic() > deadline:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._process.kill()
                    self._process.wait(5)
                raise self.failure(f"the server did not stop within {timeout:g} s and was killed")
            time.sleep(_POLL_S)

    def last_lines(self, count: int = _LAST_LINES) -> list[str]:
        """The end of its log."""
        lines = self._text().splitlines()
        return [line for line in lines if line.strip()][-count:]

    def failure(self, what: str) -> ServingError:
        """An error that says ``what`` happened, with its last log lines."""
        last = self.last_lines()
        said = [line.removeprefix("headgate: ") for line in last if line.startswith("headgate: ")]
        kind = PortInUseError if said and " is in use by " in said[-1] else ServingError
        return kind(
            f"{what}; its last lines: " + " | ".join(said or last) if last else what,
            where=str(self.log),
            remedy="the log tells more",
        )

    def memory_mb(self) -> float | None:
        """Memory of all its processes, MiB, where shared pages count once; None once it is gone."""
        import psutil

        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.Error:
            return None
        total = 0
        for process in family:
            with contextlib.suppress(psutil.Error):
                told = process.memory_full_info()
                total += getattr(told, "pss", told.rss)
        return total / 2**20 if total else None

    def _text(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(self._skip)
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _ready_line(self) -> _Ready | None:
        for line in self._text().splitlines():
            if line.startswith('{"event": "ready"'):
                with contextlib.suppress(msgspec.DecodeError):  # still being written
                    ready = msgspec.json.decode(line, type=_Ready)
                    if ready.pid == self.pid:
                        return ready
        return None


def start(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    grpc_port: int | None = None,
    workers: int = 1,
    threads: int = 1,
    release: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    drain_s: float = 20,
    ready_timeout_s: float = 60,
) -> ServerProcess:
    """Start a launcher that outlives this program; its output goes to the end of ``log``.

    Port 0 takes a free one, told by :attr:`ServerProcess.address`; without ``grpc_port`` there is no
    gRPC. ``env`` is added to this
    program's environment. Raises :class:`ServingError` when there can be no process or log.
    """
    import psutil

    command = [sys.executable, "-m", "headgate.serving.launcher", str(path)]
    command += ["--host", host, "--port", str(port), "--workers", str(workers)]
    if grpc_port is not None:
        command += ["--grpc-port", str(grpc_port)]
    command += ["--threads", str(threads), "--release", release]
    command += ["--drain-s", str(drain_s), "--ready-timeout-s", str(ready_timeout_s)]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            skip = output.tell()
            child = subprocess.Popen(
                command,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise ServingError(
            f"cannot start a server: {error.strerror}", where=str(log), remedy="free some space"
        ) from None
    # Followed by psutil, which is not confused by a number that was given to another process.
    child.returncode = 0
    return ServerProcess(psutil.Process(child.pid), log, skip=skip)
