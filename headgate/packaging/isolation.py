"""The child process that opens a model: no credentials, bounded, alone in its folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

import headgate
from headgate.errors import PackagingError, UnsafeModelError
from headgate.packaging.exchange import JOB, RESULT, Job, Result

__all__ = ["TIMEOUT_S", "clean_environment", "run_child"]

TIMEOUT_S = 300
"""Longest a model may take to open, run on its reference and convert, seconds."""
_PASSED_ON = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TZ", "VIRTUAL_ENV")
_TAIL_BYTES = 1 << 16
_REVIEWED = (
    "keep to the types of scikit-learn, numpy, scipy and torch; classes of your own belong into the "
    "file that packaging.module in its model.toml names"
)
LOG = "child.log"


def run_child(folder: Path, job: Job, *, timeout_s: float = TIMEOUT_S) -> Result:
    """Carry ``job`` out in a child process that works in ``folder``.

    Raises:
        UnsafeModelError: it names what is on no list of reviewed types.
        PackagingError: it crashed or took too long, or the model could not be run.
    """
    (folder / JOB).write_bytes(msgspec.json.encode(job))
    where = job.file
    with (folder / LOG).open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "headgate.packaging.child", str(folder)],
            cwd=folder,
            env=clean_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            code = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise PackagingError(
                f"opening and converting it took more than {timeout_s:g} s",
                where=where,
                remedy='a smaller reference, or engine = "native" under [packaging] in model.toml',
            ) from None
        finally:
            _end(child)
    return _result(folder, where, code)


def clean_environment(folder: Path) -> dict[str, str]:
    """An environment that holds no secret: a few named variables, and a home in ``folder``."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    root = Path(headgate.__file__).parents[1]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **passed,
        **threads,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(root),
        "PYTHONNOUSERSITE": "1",
    }


def _result(folder: Path, where: str, code: int) -> Result:
    """What the child wrote, where it ended well and the model did so too."""
    if code != 0 or not (folder / RESULT).is_file():
        what, remedy = _ended(code)
        raise PackagingError(f"{what}: {_last_line(folder / LOG)}", where=where, remedy=remedy)
    result = msgspec.json.decode((folder / RESULT).read_bytes(), type=Result)
    if result.unsafe:
        raise UnsafeModelError(result.error, where=where, remedy=_REVIEWED)
    if result.error:
        raise PackagingError(
            result.error,
            where=where,
            remedy="it must run on its own reference with the library versions installed here",
        )
    return result


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and whatever it started; its group is its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _ended(code: int) -> tuple[str, str]:
    """What the exit code says, and what to do about it."""
    how = f"ended with code {code}"
    remedy = "log the model with the library versions that are installed here"
    if code < 0:
        name = signal.Signals(-code).name
        how = f"crashed with {name}"
        if name in {"SIGKILL", "SIGXCPU"}:
            how = f"was killed by {name}, as happens where memory or processor time runs out"
            remedy = "package it on a larger machine, or log a smaller reference"
    return f"the process that opened it {how}", remedy


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
