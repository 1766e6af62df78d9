"""`headgate`, and training scripts, as processes of their own, forked from one that has imported MLflow already.

Importing it takes seconds of processor time, and this suite gives a hundred commands.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Command", "headgate", "script", "started"]

Run = Callable[[Sequence[str], Path], None]

_CONTEXT = multiprocessing.get_context("forkserver")
# What every command imports, and what reads no environment as it is imported.
_CONTEXT.set_forkserver_preload(["mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store"])


class Command:
    """A command line, or a script, at work."""

    def __init__(
        self, args: Sequence[str], root: Path, env: Mapping[str, str], folder: Path, run: Run
    ) -> None:
        self.args = list(args)
        self._told = [folder / name for name in ("stdout", "stderr")]
        for file in self._told:
            file.touch()
        self._process = _CONTEXT.Process(
            target=_process, args=(run, self.args, root, dict(env), self._told)
        )
        self._process.start()

    def said(self, start: str) -> bool:
        """Wait until a line on standard error starts so; False when it ends without one."""
        while True:
            over = not self._process.is_alive()
            if any(line.startswith(start) for line in self._told[1].read_text().splitlines()):
                return True
            if over:
                return False
            time.sleep(0.01)

    def kill(self) -> None:
        """End it, and only it, with ``kill -9``; returns when it has ended."""
        self._process.kill()
        self._process.join()

    def ended(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """What it came to; raises :class:`subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        output, errors = (each.read_text() for each in self._told)
        return subprocess.CompletedProcess(self.args, self._process.exitcode, output, errors)


def _headgate(args: Sequence[str], root: Path) -> None:
    sys.executable = str(root / ".venv/bin/python")
    sys.argv = [str(root / ".venv/bin/headgate"), *args]
    from headgate.cli import main

    main()


def _script(args: Sequence[str], _: Path) -> None:
    sys.argv = list(args)
    sys.path[0] = str(Path(args[0]).parent)
    runpy.run_path(args[0], run_name="__main__")


@contextmanager
def started(
    args: Sequence[str], *, root: Path, env: Mapping[str, str], run: Run = _headgate
) -> Iterator[Command]:
    """Start the command line in ``root``; what still runs at the end is killed."""
    with tempfile.TemporaryDirectory() as folder:
        command = Command(args, root, env, Path(folder), run)
        try:
            yield command
        finally:
            command.kill()


def headgate(
    args: Sequence[str], *, root: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run the command line in ``root``; raises :class:`subprocess.TimeoutExpired`."""
    with started(args, root=root, env=env) as command:
        return command.ended(timeout)


def script(
    file: Path, *, cwd: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ``python FILE`` in ``cwd``; raises :class:`subprocess.TimeoutExpired`."""
    with started([str(file)], root=cwd, env=env, run=_script) as command:
        return command.ended(timeout)


def _process(
    run: Run, args: list[str], cwd: Path, env: Mapping[str, str], told: Sequence[Path]
) -> None:
    for number, file in enumerate([Path(os.devnull), *told]):
        opened = os.open(file, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    # By line, as an interpreter's own standard error is.
    sys.stdin, sys.stdout, sys.stderr = (open(i, how, 1) for i, how in enumerate("rww"))  # noqa: PTH123, SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    try:
        run(args, cwd)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
