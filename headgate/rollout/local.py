"""One machine: one server process, found again by the file that names it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import psutil

from headgate.errors import RolloutError, ServingError
from headgate.records import Record, Release

__all__ = ["OWNER", "Launched", "LocalPlatform", "Running"]


OWNER = "HEADGATE_OWNER"
"""Environment variable by which a process started for a bundle names the bundle's state folder."""
_KILLED_S = 5.0
_POLL_S = 0.05


class Launched(Protocol):
    """A server process that was started and is not yet known to be ready."""

    @property
    def pid(self) -> int:
        """Process id of the launcher."""

    def wait_ready(self, timeout: float) -> None:
        """Return once it is ready; raise ServingError if it never is."""


class Running(Record, frozen=True):
    """The server process that serves this bundle's traffic."""

    release: str
    digest: str
    pid: int
    created: float
    """The process's start time as the kernel has it: a reused pid is not mistaken for it."""
    http: str
    """``host:port``."""
    log: str
    grpc: str = ""
    """``host:port``; empty where there is none."""


class LocalPlatform:
    """Holds at most one server process; every method may be called after any crash."""

    def __init__(
        self,
        home: Path,
        *,
        address: str,
        grpc_address: str = "",
        launch: Callable[[Release, Path], Launched],
        ready_timeout_s: float,
        stop_timeout_s: float,
    ) -> None:
        """``launch(release, log)`` starts a process that listens on ``address``, ``host:port``.

        For gRPC it listens on ``grpc_address``, where that is not empty. ``home`` is the bundle's
        state folder.
        """
        self._address = address
        self._grpc_address = grpc_address
        self.owner = str(home)
        self._file = home / "run" / "serving.json"
        self._logs = home / "logs"
        self._launch = launch
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s

    def running(self) -> Running | None:
        """The process that serves now, or ``None``."""
        try:
            known = msgspec.json.decode(self._file.read_bytes(), type=Running)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return known if _process(known) is not None else None

    def switch(self, release: Release) -> Running:
        """Serve ``release`` and nothing else; a no-op where it already is, on those addresses.

        Raises:
            ServingError: it did not become ready; nothing serves then.
        """
        now = self.running()
        wanted = (release.digest, self._address, self._grpc_address)
        if now is not None and (now.digest, now.http, now.grpc) == wanted:
            return now
        self.stop()
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{release.tag.replace(':', '-')}.log"
        process = self._launch(release, log)
        # Named before it is ready: killed here, the next command still finds and stops it.
        running = Running(
            release=release.tag,
            digest=release.digest,
            pid=process.pid,
            created=psutil.Process(process.pid).create_time(),
            http=self._address,
            grpc=self._grpc_address,
            log=str(log),
        )
        self._write(running)
        try:
            process.wait_ready(self._ready_timeout_s)
        except ServingError:
            self.stop()
            raise
        return running

    def stop(self) -> Running | None:
        """Drain and end the process; returns what was stopped."""
        known = self.running()
        if known is not None:
            process = _process(known)
            if process is not None:
                _end(process, known, self._stop_timeout_s)
        self._file.unlink(missing_ok=True)
        return known

    def sweep(self) -> list[int]:
        """End what a killed command left behind; returns the pids.

        Call it only while holding the bundle's lock: then every process started for this
        bundle, other than those that serve, belongs to nobody.
        """
        known = self.running()
        mine = psutil.Process()
        spared = {mine.pid, *(each.pid for each in mine.parents())}
        if known is not None:
            spared |= {known.pid, *_descendants(known.pid)}
        left = []
        for process in psutil.process_iter():
            try:
                if process.pid not in spared and process.environ().get(OWNER) == self.owner:
                    process.terminate()
                    left.append(process)
            except psutil.Error:
                continue  # ended meanwhile, or somebody else's
        for process in left:
            if not _ended(process, self._stop_timeout_s):
                process.kill()
        return [process.pid for process in left]

    def _write(self, running: Running) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(running))
        temporary.replace(self._file)


def _descendants(pid: int) -> list[int]:
    try:
        return [each.pid for each in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _process(known: Running) -> psutil.Process | None:
    try:
        process = psutil.Process(known.pid)
        same = abs(process.create_time() - known.created) < 1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _end(process: psutil.Process, known: Running, timeout_s: float) -> None:
    process.send_signal(signal.SIGTERM)
    if _ended(process, timeout_s):
        return
    process.kill()
    if not _ended(process, _KILLED_S):
        raise RolloutError(
            "the process does not end, not even by SIGKILL",
            where=f"{known.release}, pid {known.pid}",
            remedy="see what it waits for (a hung disk or device)",
        )


def _ended(process: psutil.Process, timeout_s: float) -> bool:
    """Wait until it has ended, whether or not its parent has taken note."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_S)
