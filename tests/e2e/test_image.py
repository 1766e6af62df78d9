"""The image of the live release, built and run by a real engine."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import ROOT, Clone

BASE = "python:3.11-slim-bookworm"


def docker(*arguments: str, exits: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert exits is None or done.returncode == exits, done.stderr
    return done


def why_not() -> str:
    """Why no image can be built here; empty where one can."""
    if shutil.which("docker") is None:
        return "there is no docker"
    if docker("info", exits=None).returncode:
        return "no Docker engine runs"
    if docker("image", "inspect", BASE, exits=None).returncode:
        return f"{BASE} is not here, and nothing is pulled in tests"
    return ""


def skip_where_none_is_built() -> None:
    """Skip a test that builds one where an engine or the index of packages is out of reach."""
    why = why_not()
    fetch = ("pip", "download", "--quiet", "--no-deps", "--dest", "/tmp", "dumb-init")
    if not why and docker("run", "--rm", "--network=host", BASE, *fetch, exits=None).returncode:
        why = "no index of packages can be reached from a container"
    if why:
        pytest.skip(why)


pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why := why_not()), reason=why)]


@dataclass
class Built:
    """As `headgate containerize --json` tells it."""

    image: str
    told: dict[str, Any]


@pytest.fixture(scope="module")
def built(clone: Clone) -> Iterator[Built]:
    skip_where_none_is_built()
    told = clone.json("containerize", "--option=--network=host")
    yield Built(told["image"], told)
    docker("image", "rm", "--force", told["image"])


@contextlib.contextmanager
def running(image: str, *options: str) -> Iterator[tuple[str, str]]:
    """Name and address of a container, as a cluster would run it."""
    name = docker(
        *("run", "--detach", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--publish", "127.0.0.1::3000", *options, image),
    ).stdout.strip()
    try:
        yield name, docker("port", name, "3000/tcp").stdout.split()[0]
    finally:
        docker("rm", "--force", name)


def status(address: str, path: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(
        f"http://{address}{path}", data=body, headers={"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def until(condition: Any, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.05)


def test_it_is_tried_before_anybody_sees_it(built: Built, clone: Clone) -> None:
    told = built.told
    assert told["image"] == told["release"]["tag"]
    assert told["release"]["tag"] == clone.json("status")["live"]["tag"]
    assert told["cold_start_s"] > 0
    assert told["checked"] > 1000
    labels = json.loads(docker("image", "inspect", built.image).stdout)[0]["Config"]["Labels"]
    assert labels["headgate.digest"] == told["release"]["digest"]
    assert labels["headgate.model.digits.version"] == "1"


def test_there_is_nothing_in_it_that_only_training_needs(built: Built) -> None:
    code = (
        "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    )
    found = docker("run", "--rm", "--entrypoint", "python", built.image, "-c", code).stdout.split()
    unwanted = {"mlflow", "torch", "scikit-learn", "pandas", "locust", "matplotlib", "pip"}
    assert not unwanted & set(found)
    assert {"bentoml", "onnxruntime"} <= set(found)


def test_the_same_release_is_the_same_image(built: Built, clone: Clone) -> None:
    def layers() -> list[str]:
        told = json.loads(docker("image", "inspect", built.image).stdout)
        found: list[str] = told[0]["RootFS"]["Layers"]
        return found

    before = layers()
    clone.json("containerize", "--no-try", "--option=--network=host")
    assert layers() == before


def test_it_is_nobody_and_writes_nothing(built: Built) -> None:
    with running(built.image) as (name, address):
        until(lambda: status(address, "/readyz") == 200)
        assert docker("exec", name, "id", "-u").stdout.strip() == "10001"
        assert docker("exec", name, "touch", "/bento/x", exits=None).returncode != 0
        until(lambda: _health(name) == "healthy")


def _health(name: str) -> str:
    told: str = json.loads(docker("inspect", name).stdout)[0]["State"]["Health"]["Status"]
    return told


def test_a_worker_that_is_killed_comes_back(built: Built) -> None:
    body = (ROOT / "examples" / "digits.json").read_bytes()
    with running(built.image) as (name, address):
        until(lambda: status(address, "/readyz") == 200)
        kill = (
            "import os, signal, pathlib\n"
            "for each in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
            "    mine = each.parent.name == str(os.getpid())\n"
            "    if not mine and b'launch.child' in each.read_bytes():\n"
            "        os.kill(int(each.parent.name), signal.SIGKILL)\n"
        )
        docker("exec", name, "python", "-c", kill)
        until(lambda: status(address, "/readyz") == 503, 10)
        until(lambda: status(address, "/readyz") == 200)
        assert status(address, "/v1/models/digits:predict", body) == 200


def test_sigterm_under_load_loses_nothing(built: Built) -> None:
    """What was sent before it was told to stop is answered, and so is what follows meanwhile."""
    body = (ROOT / "examples" / "digits.json").read_bytes()
    stop = threading.Event()

    def load(address: str) -> list[int]:
        host, _, port = address.partition(":")
        import http.client

        seen = []
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        while not stop.is_set():
            connection.request(
                "POST",
                "/v1/models/digits:predict",
                body,
                {"content-type": "application/json"},
            )
            answer = connection.getresponse()
            answer.read()
            seen.append(answer.status)
            if answer.getheader("connection", "").lower() == "close":
                break
        connection.close()
        return seen

    with running(built.image) as (name, address):
        until(lambda: status(address, "/readyz") == 200)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(load, address) for _ in range(8)]
            time.sleep(1)
            docker("stop", "--time", "30", name)
            stop.set()
            seen = [code for each in asking for code in each.result()]
        assert set(seen) == {200}
        assert len(seen) > len(asking)
        state = json.loads(docker("inspect", name).stdout)[0]["State"]
        assert state["ExitCode"] == 0


def test_a_damaged_model_is_one_clear_line(built: Built, tmp_path: Path) -> None:
    recipe = tmp_path / "Dockerfile"
    recipe.write_text(
        f"FROM {built.image}\nUSER 0\n"
        "RUN echo damaged >> /bento/src/.headgate/bundle/digits/model.onnx\nUSER 10001:10001\n"
    )
    docker("build", "--tag", "headgate-damaged", str(tmp_path))
    try:
        done = docker("run", "--rm", "--read-only", "--tmpfs", "/tmp", "headgate-damaged", exits=1)
    finally:
        docker("image", "rm", "--force", "headgate-damaged")
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("headgate: cannot serve /bento: ")
    assert "digits/model.onnx: is altered" in last


def test_a_build_that_fails_says_why(clone: Clone) -> None:
    done = clone.headgate("containerize", "--option=--no-such-option", exits=2)
    assert "headgate: " in done.stderr
    assert "unknown flag: --no-such-option" in done.stderr
    assert "Traceback" not in done.stderr
    assert (clone.root / ".headgate/logs/containerize.log").is_file()
