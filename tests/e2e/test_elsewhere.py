"""A Bento serves where there is no repository, no MLflow and no training library."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e.conftest import Clone, ask, free_port

pytestmark = pytest.mark.e2e

# Leaves of this environment what requirements/serve.txt pins, as in an image; this repository's
# own package least of all.
ONLY_WHAT_SERVES = """
import importlib.metadata, re, sys

def plain(name):
    return re.sub("[-_.]+", "-", name).lower()

with open({pins!r}) as file:
    pinned = {{plain(line.split("==")[0]) for line in file if "==" in line}}
owners = importlib.metadata.packages_distributions()
missing = {{top for top, names in owners.items() if not pinned & set(map(plain, names))}}
missing -= {{"headgate"}}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path[:] = [each for each in sys.meta_path if "editable" not in each.__module__]
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def bento(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The live Bento, exported by BentoML and unpacked in a place of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    archive = folder / "headgate.tar.gz"
    tag = clone.json("status")["live"]["tag"]
    clone.env["BENTOML_HOME"] = str(clone.root / ".headgate" / "bentoml")
    try:
        clone.run([str(clone.root / ".venv/bin/bentoml"), "export", tag, str(archive)])
    finally:
        del clone.env["BENTOML_HOME"]
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "bento", filter="data")
    return folder / "bento"


@contextmanager
def serving(command: list[str], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it is ready, and stop it afterwards."""
    blocker = folder.parent / "site"
    blocker.mkdir(exist_ok=True)
    pins = str(next(folder.rglob("requirements/serve.txt")))
    (blocker / "sitecustomize.py").write_text(ONLY_WHAT_SERVES.format(pins=pins))
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "BENTOML_HOME": str(home / "bentoml"),
        "PYTHONPATH": str(blocker),
        "BENTOML_DO_NOT_TRACK": "true",
    }
    log = folder.parent / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{port}/readyz"):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        assert "sitecustomize" not in log.read_text()
        yield server
    finally:
        server.terminate()
        try:
            server.wait(30)
        finally:
            server.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def test_with_bentoml(bento: Path) -> None:
    port = free_port()
    command = [
        *(sys.executable, "-m", "bentoml", "serve", "."),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    with serving(command, bento, port):
        assert ask(port, "flight-delay")["predictions"]
        assert ask(port, "digits")["predictions"]


def test_with_the_launcher_as_an_image_does(bento: Path, clone: Clone) -> None:
    port = free_port()
    release = clone.json("status")["live"]["tag"]
    command = [
        *(sys.executable, "-m", "headgate.serving.launcher", str(bento)),
        *("--host", "127.0.0.1", "--port", str(port), "--release", release),
    ]
    with serving(command, bento / "src", port) as server:
        assert ask(port, "flight-delay")["release"] == release
    assert server.returncode == 0


def test_its_labels_say_what_it_serves(bento: Path, clone: Clone) -> None:
    import yaml

    labels = yaml.safe_load((bento / "bento.yaml").read_text())["labels"]
    assert labels["headgate.models"] == "digits,flight-delay"
    for model in clone.json("status")["models"]:
        if model["name"] in ("digits", "flight-delay"):
            for what in ("version", "run_id", "digest"):
                assert labels[f"headgate.model.{model['name']}.{what}"] == model[what]
