"""A model that wants a GPU is served by a process of its own, here on the CPU."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
from e2e.conftest import free_port
from serving.asgi import make_root, serving_app
from serving.refusals import GOOD
from serving.tiny import connect, get, metric, serving, status, until

from headgate.errors import ServingError
from headgate.predictor import read_manifest
from headgate.serving.remote import RemotePredictor, UnreachableError, pack, unpack

TABLE = "late-flights"
NAME = "headgate-late-flights"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return gpu_root(tmp_path_factory.mktemp("gpu"))


def gpu_root(root):
    root = make_root(root)
    room = next(room for room in root.glob("models/*/model.toml") if TABLE in room.read_text())
    room.write_text(room.read_text() + "\n[resources]\ngpu = 1\n")
    return root


def post(address, path, body):
    with contextlib.closing(connect(address, 20)) as connection:
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def device(server):
    """The process of the model, while it is there."""
    for child in psutil.Process(server.pid).children():
        with contextlib.suppress(psutil.Error):
            if NAME in child.cmdline():
                return child
    return None


def test_arrays_travel_as_they_are():
    strings = np.array(["a", "", None, "nan", np.nan], dtype=object)
    arrays = {
        "strings": strings,
        "image": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
        "flags": np.array([True, False]),
        "wide": np.array([[2**62], [-1]])[:, ::-1],
        "missing": np.array([1.5, np.nan]),
    }
    there = unpack(pack(arrays))
    assert there.pop("strings").tolist() == ["a", "", None, "nan", None]
    for name, array in there.items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])
        assert array.flags.writeable


def test_without_a_service_it_is_opened_in_the_entry(root):
    with serving_app(root) as asked:
        for path, body in GOOD.items():
            if TABLE in path:
                assert asked.post(path, content=body).status_code == 200


@pytest.mark.e2e
def test_its_answers_are_those_of_the_entry_service(root, tmp_path):
    with serving_app(root) as asked:
        here = {path: asked.post(path, content=body).json() for path, body in GOOD.items()}
    with serving(tmp_path / "log", root) as server:
        process = device(server)
        assert process is not None
        assert process.net_connections("inet") == []
        for path, body in GOOD.items():
            code, told = post(server.address, path, body)
            assert code == 200, told
            there = json.loads(told)
            for each in (there, here[path]):
                if isinstance(each, dict):
                    each.pop("release", None)
                    each.pop("parameters", None)
            assert there == here[path]
        assert metric(server.address, "headgate_workers_live", service=NAME) == 1
        assert "runs on the CPU" in (tmp_path / "log").read_text()
        bad = post(server.address, f"/v1/models/{TABLE}:predict", '{"instances": [{}]}')
        assert bad[0] == 400

        process.send_signal(signal.SIGKILL)
        path = f"/v1/models/{TABLE}:predict"
        codes = set()

        def answered():
            codes.add(post(server.address, path, GOOD[path])[0])
            return 200 in codes and device(server) not in (None, process)

        until(answered, 20)
        assert codes <= {200, 503, 504}
        assert status(server.address) == 200


@pytest.mark.e2e
def test_bentoml_serve_starts_it_too(root, tmp_path):
    port = free_port()
    env = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bentoml", "serve", "."),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=root,
            env=env,
            stdout=log,
            stderr=log,
        )
    address = f"127.0.0.1:{port}"
    try:
        until(lambda: get_status(address) == 200, 60)
        code, told = post(
            address, f"/v1/models/{TABLE}:predict", GOOD[f"/v1/models/{TABLE}:predict"]
        )
        assert code == 200, told
        children = psutil.Process(process.pid).children(recursive=True)
        assert any(NAME in child.cmdline() for child in children)
    finally:
        process.terminate()
        process.wait(30)


def get_status(address):
    try:
        return get(address, "/readyz")[0]
    except OSError:
        return None


def test_a_process_that_is_gone_or_fails_is_told(root):
    folder = next(path.parent for path in root.rglob("predictor.json") if TABLE in str(path))
    manifest = read_manifest(folder)

    async def main():
        gone = RemotePredictor(manifest, None, (root / "nobody.sock").as_uri())
        with pytest.raises(UnreachableError, match="does not answer"):
            await gone.predict({})
        assert (await gone.replay(slice(0, 1))).rows == 0
        await gone.close()

        codes = [b"500", b"503"]

        async def broken(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 %s X\r\nconnection: close\r\ncontent-length: 13\r\n\r\n"
            writer.write(head % codes.pop(0) + b"out of cheese")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(broken, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        failing = RemotePredictor(manifest, None, f"tcp://127.0.0.1:{port}")
        with pytest.raises(ServingError, match="out of cheese"):
            await failing.predict({})
        with pytest.raises(UnreachableError, match="there is none"):
            await failing.predict({})
        await failing.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())
