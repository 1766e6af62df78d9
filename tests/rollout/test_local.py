"""The platform on one machine, holding a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from headgate.errors import ServingError
from headgate.records import Release
from headgate.rollout import OWNER, LocalPlatform

SLEEPER = "import sys, time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


class Process:
    def __init__(self, code: str, *, env: dict[str, str], ready: bool = True) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code, "headgate.serving.launcher"],
            stdout=subprocess.PIPE,
            env={**os.environ, **env},
        )
        assert self.popen.stdout is not None
        self.popen.stdout.readline()
        self.ready = ready

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_ready(self, timeout: float) -> None:
        if not self.ready:
            raise ServingError("it ended", where="test")

    def close(self) -> None:
        assert self.popen.stdout is not None
        self.popen.kill()
        self.popen.wait()
        self.popen.stdout.close()


class Machine:
    """A platform with processes that are closed after the test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.started: list[Process] = []
        self.code = SLEEPER
        self.ready = True

    def platform(self, grpc: str = "") -> LocalPlatform:
        return LocalPlatform(
            self.home,
            address="127.0.0.1:1",
            grpc_address=grpc,
            launch=self.launch,
            ready_timeout_s=5,
            stop_timeout_s=0.5,
        )

    def launch(self, release: Release, log: Path) -> Process:
        return self.start(ready=self.ready)

    def start(self, *, ready: bool = True, owner: str | None = None) -> Process:
        env = {OWNER: str(self.home) if owner is None else owner}
        self.started.append(Process(self.code, env=env, ready=ready))
        return self.started[-1]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for process in machine.started:
        process.close()


def release(name: str) -> Release:
    return Release(tag=f"headgate:{name}", digest=f"sha256:{name}", models=())


def test_nothing_runs_at_first(machine: Machine) -> None:
    assert machine.platform().running() is None
    assert machine.platform().stop() is None


def test_another_command_finds_what_serves(machine: Machine) -> None:
    started = machine.platform().switch(release("a"))
    assert machine.platform().running() == started
    assert machine.platform().switch(release("a")) == started
    assert len(machine.started) == 1


def test_a_switch_ends_the_old_process(machine: Machine) -> None:
    machine.platform().switch(release("a"))
    second = machine.platform().switch(release("b"))
    assert machine.started[0].popen.poll() is not None
    assert machine.platform().running() == second


def test_what_serves_on_another_port_of_grpc_is_started_anew(machine: Machine) -> None:
    first = machine.platform("127.0.0.1:2").switch(release("a"))
    assert first.grpc == "127.0.0.1:2"
    assert machine.platform("127.0.0.1:2").switch(release("a")) == first
    assert machine.platform("127.0.0.1:3").switch(release("a")).grpc == "127.0.0.1:3"
    assert machine.platform().switch(release("a")).grpc == ""
    assert len(machine.started) == 3


def test_a_process_that_ignores_sigterm_is_killed(machine: Machine) -> None:
    machine.code = STUBBORN
    machine.platform().switch(release("a"))
    stopped = machine.platform().stop()
    assert stopped is not None
    assert stopped.release == "headgate:a"
    assert machine.started[0].popen.poll() is not None
    assert machine.platform().running() is None


def test_a_dead_process_is_not_running(machine: Machine) -> None:
    machine.platform().switch(release("a"))
    machine.started[0].close()
    assert machine.platform().running() is None


def test_a_reused_pid_is_not_mistaken(machine: Machine) -> None:
    machine.platform().switch(release("a"))
    file = machine.home / "run" / "serving.json"
    created = psutil.Process(machine.started[0].pid).create_time()
    file.write_text(file.read_text().replace(str(created), str(created - 100)))
    assert machine.platform().running() is None
    assert machine.started[0].popen.poll() is None


def test_a_garbled_file_is_nothing_running(machine: Machine) -> None:
    machine.platform().switch(release("a"))
    (machine.home / "run" / "serving.json").write_text("{")
    assert machine.platform().running() is None


def test_a_release_that_is_never_ready_raises(machine: Machine) -> None:
    machine.ready = False
    with pytest.raises(ServingError, match="it ended"):
        machine.platform().switch(release("a"))
    assert machine.platform().running() is None
    assert machine.started[0].popen.poll() is not None


def test_sweep_ends_only_what_a_killed_command_left(machine: Machine) -> None:
    platform = machine.platform()
    platform.switch(release("a"))
    left = machine.start()
    foreign = machine.start(owner="/elsewhere")
    assert platform.sweep() == [left.pid]
    assert left.popen.poll() is not None
    assert foreign.popen.poll() is None
    assert platform.running() is not None
