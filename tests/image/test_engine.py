"""The program that builds images, where it is not there or does not do what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import InputError, PackagingError
from headgate.image import find_engine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only one that programs are looked for in."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_none_is_there(folder: Path) -> None:
    del folder
    with pytest.raises(InputError, match="docker, podman, buildah: there is no program"):
        find_engine()
    with pytest.raises(InputError, match="podman: there is no program"):
        find_engine("podman")
    with pytest.raises(InputError, match="kaniko: no such engine"):
        find_engine("kaniko")


def test_one_that_does_not_run_is_passed_over_unless_it_was_named(folder: Path) -> None:
    program(folder, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    program(folder, "buildah", "echo 1.0")
    found = find_engine()
    assert found.name == "buildah"
    assert not found.runs
    with pytest.raises(InputError, match="docker: docker version ended with 1: Cannot connect"):
        find_engine("docker")


def test_what_failed_to_build_says_why(folder: Path) -> None:
    program(folder, "docker", '[ "$1" = version ] || { echo "$@"; echo "no space left"; exit 17; }')
    log = folder / "log"
    with pytest.raises(PackagingError, match=r"h:1: docker build ended with 17: no space left"):
        find_engine().build(
            folder, folder / "Dockerfile", image="h:1", labels={"a": "b"}, options=["--x"], log=log
        )
    said = f"build --file {folder / 'Dockerfile'} --tag h:1 --label=a=b --x {folder}"
    assert log.read_text().splitlines()[0] == said


def test_an_image_that_is_not_there(folder: Path) -> None:
    program(folder, "docker", '[ "$1" = version ] || exit 1')
    assert find_engine().image("h:1") is None


@pytest.mark.parametrize(
    ("name", "options"), [("docker", ""), ("buildah", "--layers --timestamp=0 ")]
)
def test_who_can_is_told_to_make_the_same_of_the_same(
    folder: Path, name: str, options: str
) -> None:
    program(folder, name, 'echo "$@"')
    log = folder / "log"
    find_engine().build(folder, folder / "D", image="h", labels={}, options=["--x"], log=log)
    assert log.read_text() == f"build --file {folder / 'D'} --tag h {options}--x {folder}\n"
