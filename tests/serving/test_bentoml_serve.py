"""`bentoml serve` in the root: the plain way to serve what is packaged."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest
from serving.asgi import make_root
from serving.frames import raw_socket
from serving.refusals import GOOD, ROW, V1
from serving.tiny import connect, get, status, until

pytestmark = pytest.mark.e2e

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})
"""


def environment(root):
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BENTOML_", "HEADGATE_", "PROMETHEUS_"))
    }
    return {**inherited, "BENTOML_HOME": str(root / "home"), "BENTOML_DO_NOT_TRACK": "True"}


def command(port):
    return [sys.executable, "-m", "bentoml", "serve", "--port", str(port)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_with_nothing_packaged_it_says_what_to_run(tmp_path):
    root = make_root(tmp_path)
    (root / ".headgate/bundle/bundle.json").unlink()
    done = subprocess.run(
        command(free_port()),
        cwd=root,
        env=environment(root),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "nothing is packaged yet: run `make ship`"
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert "cloud" not in said.lower()


def test_it_serves_what_is_packaged(tmp_path):
    root = make_root(tmp_path)
    (root / "app.py").write_text(APP)
    port = free_port()
    address = f"127.0.0.1:{port}"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command(port), cwd=root, env=environment(root), stdout=log, stderr=log
        )
    family = []
    try:
        until(lambda: server.poll() is not None or status(address) == 200, 60)
        family = psutil.Process(server.pid).children(recursive=True)
        connection = connect(address)
        connection.request("POST", V1, GOOD[V1])
        answer = connection.getresponse()
        assert answer.status == 200
        assert b'"release":"dev"' in answer.read()
        connection.request("POST", V1, "{")
        answer = connection.getresponse()
        assert answer.status == 400
        assert b'"remedy":"send valid JSON' in answer.read()
        connection.close()
        assert get(address, "/docs.json")[0] == 200
        assert b"headgate_requests_total" in get(address, "/metrics")[1]
        assert get(address, "/app/x") == (200, b"/app/x")
        with raw_socket(address, "/ws/late-flights") as peer:
            peer.say({"id": 1, "instances": [ROW]})
            assert peer.hear()["release"] == "dev"
        server.terminate()
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait(10)
        for process in family:
            if process.is_running():
                process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()
