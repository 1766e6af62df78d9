"""Folders are complete or not there, whatever happens to their writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.predictor import complete_folder
from headgate.predictor.folder import working_folder


def write(target: Path, text: str) -> None:
    with complete_folder(target) as fresh:
        (fresh / "inner").mkdir()
        (fresh / "inner" / "file").write_text(text)


def test_it_appears_and_replaces(tmp_path) -> None:
    target = tmp_path / "a" / "b"
    write(target, "one")
    write(target, "two")
    assert (target / "inner" / "file").read_text() == "two"
    assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_a_failure_leaves_what_was(tmp_path) -> None:
    target = tmp_path / "b"
    write(target, "one")

    def fail() -> None:
        with complete_folder(target) as fresh:
            (fresh / "file").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "inner" / "file").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


KILLED = """
import os, signal, sys
from pathlib import Path
import headgate.predictor.folder as folder

target, moment = Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def counted(function):
    def call(*args, **options):
        global calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return call

for owner, names in ((Path, ("mkdir", "rename", "write_text")), (os, ("fsync", "open"))):
    for name in names:
        setattr(owner, name, counted(getattr(owner, name)))
with folder.complete_folder(target) as fresh:
    (fresh / "inner").mkdir()
    (fresh / "inner" / "file").write_text("two")
    (fresh / "other").write_text("two")
"""


def test_killed_at_any_moment_it_is_old_or_gone_or_new(tmp_path) -> None:
    """Every system call that changes something is the last one once."""
    seen = set()
    for moment in range(1, 40):
        target = tmp_path / str(moment) / "bundle"
        write(target, "one")
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(target), str(moment)], check=False, timeout=60
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        if target.exists():
            text = (target / "inner" / "file").read_text()
            assert (target / "other").exists() == (text == "two")
            seen.add(text)
        else:
            seen.add("gone")
        write(target, "three")
        assert [path.name for path in target.parent.iterdir()] == ["bundle"], "not swept"
    else:
        pytest.fail("it never ended well")
    assert seen == {"one", "two", "gone"}
    assert moment > 8


def test_a_working_folder_is_gone_afterwards_and_a_dead_ones_is_swept(tmp_path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    left = tmp_path / f".out.work.{dead}.abcd"
    alive = tmp_path / f".out.work.{os.getpid()}.abcd"
    left.mkdir()
    alive.mkdir()
    with working_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
        assert folder.parent == tmp_path
        assert not left.exists()
    assert list(tmp_path.iterdir()) == [alive]
