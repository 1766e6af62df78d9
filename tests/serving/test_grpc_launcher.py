"""gRPC under the launcher: ports, workers, and stops that lose nothing."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving.asgi import make_root
from serving.grpc_server import SERVICE, channel, refusal, row, unary
from serving.h2_client import Client
from serving.test_bentoml_serve import command, environment, free_port
from serving.tiny import TINY, metric, serving, status, until

from headgate.errors import PortInUseError
from headgate.serving.launcher import start

pytestmark = pytest.mark.e2e

LAUNCHER = (sys.executable, "-m", "headgate.serving.launcher")
RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": SERVICE}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("launched"))


@pytest.fixture
def server(root, tmp_path):
    with serving(tmp_path / "log", root, grpc_port=0, workers=2, drain_s=10) as server:
        yield server


@pytest.fixture(scope="module")
def shared(root, tmp_path_factory):
    log = tmp_path_factory.mktemp("shared") / "log"
    with serving(log, root, grpc_port=0, workers=2, drain_s=10) as server:
        yield server


@pytest.fixture
def lasting(shared):
    """A server that other tests use too, with both of its workers."""
    until(lambda: live(shared) == 2 and len(workers_of(shared)) == 2, 20)
    return shared


class Load:
    """Clients that ask again and again, each on a connection of its own, until they are stopped."""

    def __init__(self, address, clients=6, **options):
        self.outcomes = collections.Counter()
        self.over = threading.Event()
        self.address, self.options = address, options
        self.threads = [threading.Thread(target=self.ask) for _ in range(clients)]

    def ask(self):
        with channel(self.address, **self.options) as opened:
            infer = unary(opened, "ModelInfer")
            index = 0
            while not self.over.is_set():
                index += 1
                try:
                    assert infer(row(id=str(index)), timeout=20).id == str(index)
                    self.outcomes["ok"] += 1
                except grpc.RpcError as error:
                    refused = "Connection refused" in error.details()
                    self.outcomes[
                        "refused" if refused else f"{error.code()} {error.details()}"
                    ] += 1
                    time.sleep(0.02)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        until(lambda: self.outcomes["ok"] > 200, 20)
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(20)


def workers_of(server):
    return [
        child
        for child in psutil.Process(server.pid).children()
        if "headgate.serving.launch.child" in child.cmdline()
    ]


def live(server):
    """How many serve; -1 where the question went to one that just died or hangs."""
    try:
        return metric(server.address, "headgate_workers_live", service="entry")
    except OSError:
        return -1


def clients_of(server):
    """How many connections of gRPC each worker has."""
    port = int(server.grpc.rpartition(":")[2])
    return {
        worker.pid: sum(
            each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED
            for each in worker.net_connections("tcp")
        )
        for worker in workers_of(server)
    }


def test_it_says_where_it_is_and_answers_there(lasting):
    line = next(line for line in lasting.log.read_text().splitlines() if line.startswith("{"))
    assert json.loads(line)["grpc"] == lasting.grpc
    assert f"gRPC at {lasting.grpc} after" in lasting.log.read_text()
    assert lasting.grpc != lasting.address
    with channel(lasting.grpc) as opened:
        told = unary(opened, "ModelInfer")(row())
    assert told.parameters["release"].string_param == "tiny:1"
    until(
        lambda: metric(lasting.address, "headgate_requests_total", surface="grpc", outcome="ok"), 5
    )


def test_connections_spread_evenly_over_workers(server):
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            opened = stack.enter_context(channel(server.grpc))
            unary(opened, "ModelInfer")(row())
        assert list(clients_of(server).values()) == [4, 4]


def test_a_worker_that_hangs_gets_no_connections(lasting):
    hung, other = workers_of(lasting)
    hung.send_signal(signal.SIGSTOP)
    until(lambda: live(lasting) == 1, 5)
    try:
        for _ in range(6):
            with channel(lasting.grpc) as opened:
                assert unary(opened, "ModelInfer")(row(), timeout=5).model_name
        assert other.is_running()
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            hung.send_signal(signal.SIGCONT)


def test_a_port_is_never_shared(root, lasting, tmp_path):
    port = int(lasting.grpc.rpartition(":")[2])
    done = subprocess.run(
        [*LAUNCHER, str(root), "--port", "0", "--grpc-port", str(port)],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    for words in (f"port {port} is in use by", f"(pid {lasting.pid})", "--grpc-port", "GRPC_PORT"):
        assert words in line
    for host in ("0.0.0.0", "::1"):
        rival = start(root, host=host, grpc_port=port, release="rival", log=tmp_path / host)
        with pytest.raises(PortInUseError, match=str(port)):
            rival.wait_ready(20)
    with socket.socket() as other:
        # As gRPC's own servers ask for it, by default.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
    with channel(lasting.grpc) as opened:
        assert unary(opened, "ModelInfer")(row()).model_name


def test_a_port_that_others_share_is_not_joined(root, tmp_path):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        rival = start(root, grpc_port=port, release="rival", log=tmp_path / "log")
        with pytest.raises(PortInUseError, match=str(port)):
            rival.wait_ready(20)


def test_stopped_under_load_it_loses_nothing(server):
    with Load(server.grpc) as load:
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: not server.alive, 15)
    # What came before was answered, what came later found nobody.
    assert set(load.outcomes) <= {"ok", "refused"}, load.outcomes
    assert "cut off" not in server.log.read_text()


def test_a_worker_that_is_replaced_under_load_loses_nothing(lasting):
    leaving, _ = workers_of(lasting)
    with Load(lasting.grpc) as load:
        leaving.terminate()
        until(lambda: not leaving.is_running(), 15)
        until(lambda: live(lasting) == 2, 15)
        more = load.outcomes["ok"] + 100
        until(lambda: load.outcomes["ok"] > more, 10)
    assert set(load.outcomes) == {"ok"}, load.outcomes
    assert "leaves: it was told to stop" in lasting.log.read_text()


def test_a_worker_that_is_killed_under_load_costs_a_retry(lasting):
    victim, other = workers_of(lasting)
    with Load(lasting.grpc, **{"grpc.service_config": RETRIES}) as load:
        victim.kill()
        until(lambda: live(lasting) == 2, 15)
        # All went to the other, and the one who comes now goes to the new one.
        (new,) = {worker.pid for worker in workers_of(lasting)} - {victim.pid, other.pid}
        with channel(lasting.grpc) as opened:
            unary(opened, "ModelInfer")(row())
            assert clients_of(lasting)[new] >= 1
        more = load.outcomes["ok"] + 100
        until(lambda: load.outcomes["ok"] > more, 10)
    assert set(load.outcomes) == {"ok"}, load.outcomes


def test_it_is_not_healthy_before_clients_are_sent_away_and_answers_to_the_end(server):
    with channel(server.grpc) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        request = health_pb2.HealthCheckRequest()
        assert stub.Check(request).status == health_pb2.HealthCheckResponse.SERVING
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: stub.Check(request).status == health_pb2.HealthCheckResponse.NOT_SERVING, 5)
        assert unary(opened, "ModelInfer")(row()).model_name
        with channel(server.grpc) as late:
            code, says = refusal(late, row())
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "Connection refused" in says
    until(lambda: not server.alive, 10)


def test_an_open_stream_does_not_keep_it_for_long(root, tmp_path):
    with serving(tmp_path / "log", root, grpc_port=0, drain_s=20) as server:
        client = Client(int(server.grpc.rpartition(":")[2]))
        stream = client.begin(f"/{SERVICE}/ModelStreamInfer")
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        told = client.until_ended(stream)
        assert told.status == grpc.StatusCode.UNAVAILABLE.value[0]
        assert "this server is stopping" in told.text
        client.sock.close()
        until(lambda: not server.alive, 10)
        assert time.monotonic() - began < 10


def test_a_service_that_speaks_no_grpc_says_so_and_lets_clients_go(tmp_path):
    with serving(tmp_path / "log", TINY, grpc_port=0) as server:
        assert "entry speaks no gRPC: connections to its port are closed" in server.log.read_text()
        with channel(server.grpc) as opened:
            assert refusal(opened, row())[0] == grpc.StatusCode.UNAVAILABLE
        assert status(server.address) == 200


def test_without_a_port_there_is_no_grpc(tmp_path, root):
    with serving(tmp_path / "log", root) as server:
        assert server.grpc == ""
        assert "gRPC" not in server.log.read_text()
        (worker,) = workers_of(server)
        maps = {each.path for each in worker.memory_maps()}
        assert not any("hpack" in path or "protobuf" in path for path in maps)


def test_bentoml_serve_serves_it_too_and_says_where_it_cannot(tmp_path):
    bundle = make_root(tmp_path / "bundle")
    port, grpc_port = free_port(), free_port()
    settings = f"[gate.profiles.quick]\nrate = 50\n[server]\ngrpc_port = {grpc_port}\n"
    (bundle / "headgate.toml").write_text(settings)
    logs = [tmp_path / "first", tmp_path / "second"]
    servers = []
    try:
        for log, chosen in zip(logs, (port, free_port()), strict=True):
            with log.open("wb") as out:
                servers.append(
                    subprocess.Popen(
                        command(chosen),
                        cwd=bundle,
                        env=environment(bundle),
                        stdout=out,
                        stderr=out,
                        start_new_session=True,
                    )
                )
            until(lambda address=f"127.0.0.1:{chosen}": status(address) == 200, 60)
        with channel(f"127.0.0.1:{grpc_port}") as opened:
            told = unary(opened, "ModelInfer")(row())
            assert told.parameters["release"].string_param == "dev"
        until(lambda: "gRPC is not served: " in logs[1].read_text(), 10)
        assert f"port {grpc_port} is in use by" in logs[1].read_text()
        servers[0].terminate()
        assert servers[0].wait(20) == 0
    finally:
        for server in servers:
            # Killed, it would leave its worker behind.
            server.terminate()
            server.wait(20)
    assert "Traceback" not in logs[0].read_text()
