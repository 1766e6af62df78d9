"""A clone of this bundle, as a newcomer has it, with state and port of its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from e2e import commands

ROOT = Path(__file__).parents[2]
QUICKER = "duration_s = 2\nwarmup_s = 0.5\nmin_requests = 80"


def free_port() -> int:
    """A port that is free, and the one after it too, for gRPC.

    Below those that the kernel gives to connections: minutes pass before it is listened on.
    """
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(10_000, 32_000)
        with socket.socket() as probe, socket.socket() as after, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            after.bind(("127.0.0.1", port + 1))
            return port


def ask(port: int, model: str = "flight-delay") -> Any:
    """The answer to the model's example."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/{model}:predict",
        data=(ROOT / "examples" / f"{model}.json").read_bytes(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def held(
    done: subprocess.CompletedProcess[str], exits: int | None
) -> subprocess.CompletedProcess[str]:
    """What was run, if it ended with that exit code."""
    assert exits is None or done.returncode == exits, (
        f"{done.args} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


@dataclass
class Clone:
    """One clone; commands run in it through its own ``.venv``, a link to this one."""

    root: Path
    port: int
    env: dict[str, str] = field(default_factory=dict)

    def run(
        self, command: str | list[str], *, exits: int | None = 0, timeout: float = 420
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line; hold it to its exit code."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(),
            shell=isinstance(command, str),
            executable="/bin/bash" if isinstance(command, str) else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return held(done, exits)

    def headgate(self, *args: str, exits: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = commands.headgate(args, root=self.root, env=self.environment(), timeout=420)
        return held(done, exits)

    def started(self, *args: str) -> AbstractContextManager[commands.Command]:
        """``headgate ARGS`` at work, killed at the end."""
        return commands.started(args, root=self.root, env=self.environment())

    def json(self, *args: str, exits: int | None = 0) -> Any:
        return json.loads(self.headgate(*args, "--json", exits=exits).stdout)

    def watch(self, seconds: float) -> str:
        """Set ``rollout.watch_s``: another setting, and so another release. What was there before."""
        toml = self.root / "headgate.toml"
        before = toml.read_text()
        toml.write_text(re.sub(r"watch_s = \S+", f"watch_s = {seconds}", before))
        return before

    def environment(self) -> Mapping[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HEADGATE_", "MLFLOW_", "BENTOML_", "MAKE", "MFLAGS"))
        }
        # Training on more threads than are free takes many times as long.
        return {
            **inherited,
            "OMP_NUM_THREADS": "1",
            "HEADGATE_PORT": str(self.port),
            **self.env,
        }


def widened(content: str) -> str:
    """A file with limits that a machine which other tests use at the same time can keep."""
    return content.replace("p95_ms = 50 ", "p95_ms = 1000 ")


def make_clone(folder: Path) -> Clone:
    """Copy what git would: tracked files and new ones that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    old = (ROOT / ".venv" / ".ready").stat().st_mtime if (ROOT / ".venv/.ready").exists() else 0
    for name in listed:
        if not (ROOT / name).is_file():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
        # Older than the installation, so that make does not repeat it.
        os.utime(target, (old - 60, old - 60) if old else None)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    # Other tests run beside it: limits that hold on a quiet machine only would fail at random.
    # And shorter: the suite judges dozens of releases.
    for pattern, tight, wide in (
        ("models/*/model.toml", "p95_ms = 50", "p95_ms = 1000"),
        ("headgate.toml", "max_generator_lateness_ms = 20", "max_generator_lateness_ms = 500"),
        ("headgate.toml", "duration_s = 5\nwarmup_s = 2\nmin_requests = 200", QUICKER),
        ("headgate.toml", "drain_s = 20", "drain_s = 5"),
        ("headgate.toml", "watch_s = 3", "watch_s = 1"),
    ):
        for file in folder.glob(pattern):
            content = file.read_text()
            assert tight in content
            file.write_text(content.replace(tight, wide))
            os.utime(file, (old - 60, old - 60) if old else None)
    return Clone(root=folder, port=free_port())


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone in which `make ship` has run once."""
    made = make_clone(tmp_path_factory.mktemp("clone"))
    made.run("make ship")
    yield made
    made.headgate("down")


@pytest.fixture
def bare_clone(tmp_path: Path) -> Iterator[Clone]:
    """A clone in which nothing has run."""
    made = make_clone(tmp_path / "bare")
    yield made
    made.headgate("down", exits=None)
