"""`headgate` as a process of its own, forked from one that has imported MLflow already.

Importing it takes seconds of processor time, and this suite gives a hundred commands.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["headgate"]

_CONTEXT = multiprocessing.get_context("forkserver")
# What every command imports, and what reads no environment as it is imported.
_CONTEXT.set_forkserver_preload(["mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store"])


def headgate(
    args: Sequence[str], *, root: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run the command line in ``root``; raises :class:`subprocess.TimeoutExpired`."""
    with tempfile.TemporaryDirectory() as folder:
        told = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _CONTEXT.Process(target=_run, args=(list(args), root, dict(env), told))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(list(args), timeout)
        output, errors = (each.read_text() for each in told)
    return subprocess.CompletedProcess(list(args), process.exitcode, output, errors)


def _run(args: list[str], root: Path, env: Mapping[str, str], told: Sequence[Path]) -> None:
    for number, file in enumerate([Path(os.devnull), *told]):
        opened = os.open(file, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (open(i, mode) for i, mode in enumerate("rww"))  # noqa: PTH123, SIM115
    os.chdir(root)
    os.environ.clear()
    os.environ.update(env)
    sys.executable = str(root / ".venv/bin/python")
    sys.argv = [str(root / ".venv/bin/headgate"), *args]
    from headgate.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
