"""`make demo`: a good release, a slow one, a wrong one, and the way back, in the terminal.

Everything is real and happens in a copy of this bundle under ``.headgate/demo``, on a free
port: the training, the load, the refusals. Ends 0 only if each act went as told.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import time
import urllib.request
from pathlib import Path

from headgate import cli

ROOT = Path(__file__).resolve().parents[1]
STAGE = ROOT / ".headgate" / "demo"
MODEL = "flight-delay"
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", ".headgate", "__pycache__", ".*_cache", "tests", "benchmarks"
)


class SurpriseError(Exception):
    """An act did not go as told."""


def main() -> int:
    """Play the story; returns the exit code."""
    started = time.monotonic()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stage = Stage(port)
    try:
        play(stage)
    except SurpriseError as error:
        print(f"\nThe demo did not go as told: {error}", file=sys.stderr)
        return 1
    finally:
        stage.run("down", quiet=True)
    print(
        f"\nThat was Headgate, in {time.monotonic() - started:.0f} s. `make ship` does it for you."
    )
    return 0


def play(stage: Stage) -> None:
    """The acts."""
    act("1. Version 1: two models are trained, packaged, gated and shipped.")
    stage.run("ship")
    first = stage.answer()

    act("2. A better version 2 passes the same gate and takes over.")
    stage.run("train", MODEL, "--script", "demo/good.py")
    stage.run("ship")
    second = stage.answer()
    expect(second != first, "version 2 should answer now")

    act("3. Version 3 is right but slow. The gate measures that, and refuses.")
    stage.run("train", MODEL, "--script", "demo/slow.py")
    stage.run("ship", exits=1)
    expect(stage.answer() == second, "version 2 should still answer")

    act("4. Version 4 was trained on features that it will not see when it serves.")
    stage.run("train", MODEL, "--script", "demo/skewed.py")
    stage.run("ship", exits=1)
    expect(stage.answer() == second, "version 2 should still answer")

    act("5. Somebody is unhappy with version 2 all the same: one command goes back.")
    stage.run("rollback", "--why", "the demo wants version 1 back")
    expect(stage.answer() == first, "version 1 should answer again")

    act("6. And the registry remembers it all.")
    stage.run("history")


class Stage:
    """A copy of the bundle, on a port of its own."""

    def __init__(self, port: int) -> None:
        os.environ["HEADGATE_PORT"] = str(port)
        for elsewhere in ("HEADGATE_HOME", "MLFLOW_TRACKING_URI"):
            os.environ.pop(elsewhere, None)
        self.port = port
        if STAGE.exists():
            self.run("down", quiet=True, exits=None)  # of a demo that was killed
            shutil.rmtree(STAGE)
        shutil.copytree(ROOT, STAGE, ignore=LEFT_BEHIND)
        (STAGE / "models.lock").write_text("")  # its registry is empty, so nothing can be pinned

    def run(self, *args: str, exits: int | None = 0, quiet: bool = False) -> None:
        """Do what ``headgate ARGS`` does and hold it to its exit code.

        In this process: each command by itself would take two seconds to import MLflow.
        """
        if not quiet:
            print(f"\n$ headgate {' '.join(args)}", flush=True)
        sys.argv = ["headgate", *args]
        code: object = 0
        with (
            contextlib.chdir(STAGE),
            Path(os.devnull).open("w") as nowhere,
            contextlib.ExitStack() as to,
        ):
            if quiet:
                to.enter_context(contextlib.redirect_stdout(nowhere))
                to.enter_context(contextlib.redirect_stderr(nowhere))
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code or 0
        sys.stdout.flush()
        expect(exits in (None, code), f"`headgate {args[0]}` ended with {code} instead of {exits}")

    def answer(self) -> str:
        """Ask the live service; returns the model version that answered."""
        url = f"http://127.0.0.1:{self.port}/v1/models/{MODEL}:predict"
        body = (STAGE / "examples" / f"{MODEL}.json").read_bytes()
        request = urllib.request.Request(
            url, data=body, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            version = str(json.load(reply)["model_version"])
        print(f"\n→ {url} is answered by version {version}", flush=True)
        return version


def act(title: str) -> None:
    """Announce an act."""
    print(f"\n{'─' * 88}\n{title}\n{'─' * 88}", flush=True)


def expect(fact: bool, otherwise: str) -> None:
    """Hold that a fact is one."""
    if not fact:
        raise SurpriseError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
