"""Runs Locust on a plan, in a process of its own, for a bounded time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from headgate.errors import GateError
from headgate.gate.plan import PLAN, TIMEOUT_S, Plan, Run, read_run, write_plan

__all__ = ["GENERATOR", "load"]

GENERATOR = Path(__file__).with_name("generator.py")
"""A locustfile that does nothing but follow the plan."""
_SPARE_S = 30.0
"""How long Locust may take to start and to write its results."""
_SAY_EVERY_S = 5.0


def load(
    url: str, plan: Plan, locustfile: Path, workdir: Path, progress: Callable[[str], None]
) -> Run:
    """Send the requests of ``plan`` to ``url``; see :func:`headgate.gate.measure`.

    Raises:
        GateError: Locust crashed, was killed or took far too long.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workdir, prefix="load-") as name:
        folder = Path(name).resolve()
        write_plan(folder, plan)
        with (folder / "locust.log").open("wb") as log:
            code = _locust(
                url,
                folder,
                locustfile.resolve(),
                log=log.fileno(),
                total_s=plan.at_s[-1],
                progress=progress,
            )
        try:
            return read_run(folder)
        except (FileNotFoundError, msgspec.DecodeError):
            raise GateError(
                f"the load generator {_end(code)} without results: {_last_words(folder)}",
                where=str(locustfile),
                remedy="see whether Locust runs by hand: locust -f load_tests/locustfile.py",
            ) from None


def _locust(
    url: str,
    folder: Path,
    locustfile: Path,
    *,
    log: int,
    total_s: float,
    progress: Callable[[str], None],
) -> int:
    """Its exit code."""
    command = [
        *(sys.executable, "-m", "locust", "--locustfile", str(locustfile), "--host", url),
        *("--headless", "--users", "1", "--only-summary", "--exit-code-on-error=0"),
        # Python's own logging shows warnings and no tables: the last words are of what went wrong.
        "--skip-log-setup",
    ]
    # Neither LOCUST_… nor a locust.conf or pyproject.toml of the caller's folder has a say.
    mine = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**mine, PLAN: str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        _wait(process, total_s, progress)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode


def _wait(
    process: subprocess.Popen[bytes], total_s: float, progress: Callable[[str], None]
) -> None:
    started = time.monotonic()
    limit_s = total_s + TIMEOUT_S + _SPARE_S
    said_s = 0.0
    while True:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            gone_s = time.monotonic() - started
            if gone_s > limit_s:
                raise GateError(
                    f"the load generator had not ended after {gone_s:.0f} s",
                    remedy="see whether this machine is overloaded",
                ) from None
            if gone_s - said_s >= _SAY_EVERY_S and gone_s < total_s:
                said_s = gone_s
                progress(f"  {total_s - gone_s:.0f} s left")
        else:
            return


def _end(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with {code}"


def _last_words(folder: Path) -> str:
    text = (folder / "locust.log").read_text(errors="replace")
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
