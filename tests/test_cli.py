"""What the command line refuses, on a bundle in which nothing was ever shipped."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from headgate import cli
from headgate.records import ModelRef
from headgate.registry import write_lock


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HEADGATE_HOME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+nodriver://h/x")
    (tmp_path / "headgate.toml").write_text("[gate.profiles.quick]\nrate = 1\n")
    room = tmp_path / "models" / "a"
    room.mkdir(parents=True)
    (room / "model.toml").write_text('name = "a"\n[slo]\np95_ms = 5\nmin_rps = 1\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str) -> None:
    """Run ``headgate ARGS``, which ends with 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["headgate", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 2


def refused(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line that says why ``headgate ARGS`` ended with 2."""
    capfd.readouterr()
    run(*args)
    (line,) = capfd.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("lock", "a@"), "'a@': names no version — write NAME@VERSION"),
        (("lock", "@1"), "'@1': names no model — write NAME@VERSION"),
        (("lock", ""), "'': names no model"),
        (("gate", ""), "RELEASE: '' names none"),
        (("promote", ""), "RELEASE: '' names none"),
        (("rollback", ""), "RELEASE: '' names none"),
        (("serve", ""), "BENTO: '' names none"),
        (("ship", "--profile", ""), "--profile: '' names none"),
        (("train", ""), "'': no room under models/"),
    ],
)
def test_what_names_nothing(
    root: Path, capfd: pytest.CaptureFixture[str], args: tuple[str, ...], says: str
) -> None:
    assert says in refused(capfd, *args)
    assert not (root / "models.lock").exists()


def test_an_empty_value_is_refused_as_json_too(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert root.is_dir()
    run("gate", "", "--json")
    assert "names none" in json.loads(capfd.readouterr().out)["error"]


def test_a_build_of_a_model_without_a_room(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ref = ModelRef(name="tumour", version="1", run_id="r", digest=f"sha256:{'0' * 64}")
    write_lock(root, [ref])
    line = refused(capfd, "build")
    assert f"{root / 'models.lock'}: pins tumour" in line
    assert "delete the [[model]] entry" in line


def test_doctor_on_a_registry_that_cannot_be_used(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run("-C", str(root), "doctor")
    assert "not  registry" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "set HEADGATE_HOME"),
        (errno.EACCES, "set HEADGATE_HOME"),
        (errno.ENOENT, "HEADGATE_HOME"),
        (errno.ENOSPC, "headgate prune"),
        (errno.EIO, "see what lies there"),
    ],
)
def test_a_state_folder_that_cannot_be_used(
    root: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    says: str,
) -> None:
    def mkdir(self: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    problem, _, remedy = refused(capfd, "lock").partition(" — ")
    assert problem == f"headgate: {root / '.headgate'}: {os.strerror(number)}"
    assert says in remedy
