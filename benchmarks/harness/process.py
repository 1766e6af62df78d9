"""A server as a child process: started, asked, weighed, stopped with all that it started."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.harness.environments import ROOT

__all__ = ["NotStartedError", "Running", "ask", "free_ports", "running"]

HOST = "127.0.0.1"
READY_S = 90.0
"""A server that has not answered by then will not."""
STOP_S = 15.0
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


class NotStartedError(Exception):
    """A server ended, or did not answer rightly in time."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that answers."""

    port: int
    grpc_port: int
    process: psutil.Process
    startup_s: float
    """From its start to its first right answer."""

    @property
    def family(self) -> list[psutil.Process]:
        """It and everything it started."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """Processor time that it has used so far, seconds."""
        return sum(self.cpu_times())

    def cpu_times(self) -> tuple[float, float]:
        """The same, in its own code and in the kernel."""
        user = system = 0.0
        for process in self.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                user, system = user + times.user, system + times.system
        return user, system

    def memory_mb(self) -> float:
        """Its share of memory (PSS), MiB."""
        total = 0
        for process in self.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / 2**20


_JSON = {"content-type": "application/json"}


def ask(
    port: int, path: str, body: bytes, headers: Mapping[str, str] = _JSON, timeout: float = 10
) -> bytes:
    """The body of a 200 answer; raises OSError or HTTPException otherwise."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=timeout)) as connection:
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        content = answer.read()
    if answer.status != 200:
        raise http.client.HTTPException(
            f"{answer.status}: {content[:300].decode(errors='replace')}"
        )
    return content


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    grpc_port: int = 0,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    check: Callable[[], None],
    apart: bool = True,
) -> Iterator[Running]:
    """Start ``command``; ready once ``check`` raises nothing of ``OSError`` or ``HTTPException``.

    With ``apart``, load comes from the last core, and the server has the others: where both may be
    anywhere, half of what is measured is where the scheduler happens to put them.

    Raises :class:`NotStartedError` with the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _place(child.pid, apart=apart)
    family: list[psutil.Process] = []
    try:
        process = psutil.Process(child.pid)
        _await(child, check, log, began)
        started = Running(
            port=port, grpc_port=grpc_port, process=process, startup_s=time.monotonic() - began
        )
        yield started
        family = started.family
    finally:
        _stop(child, family)


def _place(server: int, *, apart: bool) -> None:
    """Give the server, which has no threads yet, its cores, and this process its own."""
    if len(_CORES) < 2:
        return
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(server, _CORES[:-1] if apart else _CORES)
    os.sched_setaffinity(0, _CORES[-1:] if apart else _CORES)


def _await(
    child: subprocess.Popen[bytes], check: Callable[[], None], log: Path, began: float
) -> None:
    last: Exception | None = None
    while True:
        try:
            check()
        except (OSError, http.client.HTTPException) as error:
            last = error
        else:
            return
        if child.poll() is not None:
            raise NotStartedError(f"it ended with {child.returncode}: {_tail(log)}")
        if time.monotonic() - began > READY_S:
            raise NotStartedError(f"no right answer within {READY_S:g} s ({last}): {_tail(log)}")
        time.sleep(0.02)


def _stop(child: subprocess.Popen[bytes], family: Sequence[psutil.Process]) -> None:
    """Ask it to end; kill what is left of its session and family."""
    if child.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = family or psutil.Process(child.pid).children(recursive=True)
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _tail(log: Path, lines: int = 2) -> str:
    """The end of a log, without where on this machine all this lies."""
    said = log.read_text(errors="replace").replace(f"{ROOT}/", "").splitlines()
    last = [line.strip()[:200] for line in said if line.strip()][-lines:]
    return " | ".join(last) or "its log is empty"
