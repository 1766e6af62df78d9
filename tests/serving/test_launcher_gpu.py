"""A model that wants a GPU: a service of its own, pinned, on a socket nobody else reaches."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from serving.tiny import connect, metric, serving, until

from headgate.errors import ServingError
from headgate.serving.launch.devices import pin, visible_gpus
from headgate.serving.launch.services import dependencies

TINY_GPU = Path(__file__).parent / "tiny_gpu"


def where(address):
    """The GPU worker that answers through the entry service; empty where none does."""
    with contextlib.closing(connect(address)) as connection:
        connection.request("POST", "/where", "{}", {"content-type": "application/json"})
        response = connection.getresponse()
        body = response.read()
        return json.loads(body) if response.status == 200 else {}


def gpu_workers(server):
    """Process id by GPU, of the workers of the service that wants one."""
    children = psutil.Process(server.pid).children()
    return {
        child.environ()["CUDA_VISIBLE_DEVICES"]: child.pid
        for child in children
        if "Tiny" in child.cmdline()
    }


@pytest.mark.e2e
def test_each_worker_has_a_gpu_of_its_own_and_no_port(tmp_path):
    with serving(tmp_path / "log", TINY_GPU, env={"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}) as server:
        before = gpu_workers(server)
        assert set(before) == {"GPU-a", "GPU-b"}
        answer = where(server.address)
        assert before[answer["gpu"]] == int(answer["pid"])
        assert int(answer["entry"]) not in before.values()
        for pid in before.values():
            process = psutil.Process(pid)
            assert process.net_connections("inet") == []
            folder = Path(process.environ()["TMPDIR"]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert metric(server.address, "headgate_workers_live", service="Tiny") == 2
        os.kill(before["GPU-a"], signal.SIGKILL)
        until(lambda: metric(server.address, "headgate_workers_live", service="Tiny") == 1, 2)
        until(lambda: metric(server.address, "headgate_workers_live", service="Tiny") == 2, 5)
        after = gpu_workers(server)
        assert after["GPU-b"] == before["GPU-b"]
        assert after["GPU-a"] != before["GPU-a"]
        until(lambda: where(server.address).get("pid") in {str(pid) for pid in after.values()}, 5)
    assert not folder.exists()


def test_without_a_gpu_model_nothing_is_loaded(tmp_path):
    (tmp_path / "service.py").write_text("raise SystemExit('imported')")
    assert dependencies(tmp_path, os.environ) == ()


def test_a_bundle_that_cannot_be_loaded_is_an_error(tmp_path):
    (tmp_path / "service.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "models").symlink_to(TINY_GPU / "models")
    with pytest.raises(ServingError, match="cannot load the services"):
        dependencies(tmp_path, os.environ)


def test_gpus_are_given_out_in_turn_and_shared_when_too_few():
    gpus = ("a", "b", "c", "d")
    assert [pin(gpus, per_worker=1, worker=i) for i in range(3)] == ["a", "b", "c"]
    assert [pin(gpus, per_worker=2, worker=i, taken=1) for i in range(2)] == ["b,c", "d,a"]
    assert pin(gpus[:1], per_worker=2, worker=3) == "a"
    assert pin((), per_worker=1, worker=0) == ""


def test_the_gpus_are_those_that_the_environment_leaves(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-x")
    assert visible_gpus() == ("3", "GPU-x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == ()


def test_otherwise_they_are_those_of_the_driver_by_uuid(monkeypatch):
    class Driver:
        class NVMLError(Exception):
            pass

        broken = False

        def nvmlInit(self):
            if self.broken:
                raise self.NVMLError

        def nvmlShutdown(self):
            pass

        def nvmlDeviceGetCount(self):
            return 2

        def nvmlDeviceGetHandleByIndex(self, index):
            return index

        def nvmlDeviceGetUUID(self, handle):
            return f"GPU-{handle}"

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", driver := Driver())
    assert visible_gpus() == ("GPU-0", "GPU-1")
    driver.broken = True
    assert visible_gpus() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert visible_gpus() == ()


def test_the_services_module_prints_one_line_of_json():
    done = subprocess.run(
        [sys.executable, "-m", "headgate.serving.launch.services", str(TINY_GPU)],
        cwd=TINY_GPU,
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [{"name": "Tiny", "workers": 2, "gpus": 1}]
