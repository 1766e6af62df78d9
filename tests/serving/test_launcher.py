from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from serving.tiny import TINY, echo, get, metric, serving, status, until

from headgate.errors import PortInUseError, ServingError
from headgate.serving.launcher import start

pytestmark = pytest.mark.e2e


def launch(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headgate.serving.launcher", *arguments],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        cwd="/proc" if sys.platform == "linux" else None,  # nobody can write there
        env={**os.environ, **env},
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log, workers=2, threads=3) as server:
        yield server


def test_says_where_it_is_and_how_long_it_took(server):
    assert server.alive
    assert server.address.startswith("127.0.0.1:")
    assert 0 < server.load_time_s < 30
    assert status(server.address) == 200
    line = next(line for line in server.log.read_text().splitlines() if line.startswith("{"))
    assert json.loads(line)["pid"] == server.pid


def test_workers_share_the_connections_evenly(server):
    pids = [echo(server.address)["pid"] for _ in range(20)]
    # Not to the last one: a worker tells of a connection's end with a little delay.
    assert len(set(pids)) == 2
    assert min(pids.count(pid) for pid in set(pids)) >= 5


def test_each_worker_has_bounded_threads_and_a_private_place(server):
    names = "HEADGATE_THREADS OMP_NUM_THREADS MKL_NUM_THREADS HEADGATE_RELEASE TMPDIR BENTOML_HOME"
    env = echo(server.address, f"env={names.replace(' ', ',')}")["env"]
    assert env["HEADGATE_THREADS"] == env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "3"
    assert env["HEADGATE_RELEASE"] == "tiny:1"
    assert Path(env["TMPDIR"]).parent.stat().st_mode & 0o777 == 0o700
    assert metric(server.address, "headgate_workers_live", service="entry") == 2


def test_a_port_in_use_is_one_clear_line(server, tmp_path):
    port = server.address.rpartition(":")[2]
    done = launch(str(TINY), "--port", port)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    for words in (f"port {port} is in use by", f"(pid {server.pid})", "--port", "HEADGATE_PORT"):
        assert words in done.stderr
    # Every address is ours too, and so is the other "localhost".
    for host in ("0.0.0.0", "::1"):
        rival = start(TINY, host=host, port=int(port), release="rival", log=tmp_path / host)
        with pytest.raises(PortInUseError, match=port):
            rival.wait_ready(20)
    assert status(server.address) == 200


def test_what_is_no_bundle_is_wrong_usage(tmp_path):
    done = launch(str(tmp_path), "--port", "0")
    assert done.returncode == 2
    assert "neither a bundle" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_that_dies_three_times_ends_it_with_its_own_words():
    done = launch(str(TINY), "--port", "0", TINY_UNFIT="parity is off by 0.3")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == f"headgate: cannot serve {TINY}: ValueError: parity is off by 0.3"
    assert done.stderr.count(" of entry died: ") == 3
    assert done.stdout == ""


def test_a_worker_that_is_never_ready_ends_it(tmp_path):
    gate = tmp_path / "gate"
    server = start(
        TINY, release="r", log=tmp_path / "log", ready_timeout_s=2.5, env={"TINY_GATE": str(gate)}
    )
    with pytest.raises(ServingError, match=r"not ready within 2\.5 s"):
        server.wait_ready(30)


def test_it_says_that_it_starts_until_a_worker_is_ready(tmp_path):
    gate = tmp_path / "gate"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    server = start(TINY, port=port, release="r", log=tmp_path / "log", env={"TINY_GATE": str(gate)})
    try:
        until(lambda: status(address) == 503, 10)
        code, body = get(address, "/echo")
        assert (code, json.loads(body)["error"]) == (503, "starting: no worker is ready yet")
        assert status(address, "/livez") == 200
        assert metric(address, "headgate_workers_live") == 0
        gate.touch()
        server.wait_ready(20)
        assert status(address) == 200
    finally:
        server.stop(10)


def test_killed_with_9_it_leaves_no_worker_and_the_next_one_cleans_up(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    env = {"TMPDIR": str(tmp_path)}
    with serving(tmp_path / "log", env=env) as server:
        worker = psutil.Process(echo(server.address)["pid"])
        (left,) = tmp_path.glob("headgate-*")
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not worker.is_running(), 3)
        until(lambda: not server.alive, 3)
    with serving(tmp_path / "log", env=env):
        assert not left.exists()
    assert not list(tmp_path.glob("headgate-*"))


def test_an_exported_bento_serves_with_an_empty_home(tmp_path):
    home = tmp_path / "home"
    built = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", str(TINY), "--output", "tag"],
        env={**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    tag = built.stdout.strip().removeprefix("__tag__:")
    bento = home / "bentos" / tag.replace(":", "/")
    with serving(tmp_path / "log", bento, env={"BENTOML_HOME": "/nowhere"}) as server:
        env = echo(server.address, "env=BENTOML_HOME")["env"]
        assert env["BENTOML_HOME"] != "/nowhere"
        worker = psutil.Process(echo(server.address)["pid"])
        assert worker.cwd() == str(bento.resolve() / "src")
