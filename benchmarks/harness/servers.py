"""Who is measured: how each server is started, where it is asked."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.harness import calls, messages
from benchmarks.harness.environments import HOME, PEERS, Environment, ensure
from benchmarks.harness.forest import NAME, Engine, Forest
from benchmarks.harness.process import HOST, Running, ask, free_ports, running
from benchmarks.harness.protocols import Kind, Target, check_answers

__all__ = [
    "SERVERS",
    "Server",
    "Setting",
    "clean_environment",
    "headgate_command",
    "serve",
    "told_version",
]

_ENGINES = ("onnxruntime", "scikit-learn", "numpy")
_OIP = f"/v2/models/{NAME}/infer"
_GRPC = "/inference.GRPCInferenceService/ModelInfer"
_DROPPED = ("BENTOML_", "HEADGATE_", "PROMETHEUS_", "PYTHON", "MLSERVER_", "VIRTUAL_ENV")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a server is started with."""

    forest: Forest
    engine: Engine
    folder: Path
    """Where it may write."""
    ports: Sequence[int]
    """The first is for HTTP, the second for gRPC."""
    workers: int = 1


Command = Callable[[Environment, Setting], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Server:
    """One of those that are compared."""

    name: str
    package: str
    """The distribution whose version is told."""
    targets: tuple[Target, ...]
    command: Command
    engines: tuple[Engine, ...] = ("onnx",)
    trees: int = 100
    """Of the forest that it serves."""
    own: bool = False
    """Runs in this environment, not in one of its own."""
    system_python: bool = False
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> Environment:
        """What it runs in; raises :class:`NotInstalledError`."""
        if self.own:
            return Environment(python=Path(sys.executable), packages={})
        return ensure(self.name, system_python=self.system_python)


def headgate_command(
    root: Path, port: int, workers: int = 1, grpc_port: int | None = None
) -> list[str]:
    """What serves the bundle at ``root``, one thread a worker."""
    command = [sys.executable, "-m", "headgate.serving.launcher", str(root), "--host", HOST]
    command += ["--port", str(port), "--release", "bench:1"]
    if grpc_port is not None:
        command += ["--grpc-port", str(grpc_port)]
    return [*command, "--workers", str(workers), "--threads", "1"]


def _headgate(environment: Environment, setting: Setting) -> Sequence[str]:
    del environment  # this one
    root = setting.folder / "bundle"
    if not root.is_dir():
        setting.forest.make_root(root, setting.engine)
    return headgate_command(root, setting.ports[0], setting.workers, setting.ports[1])


def _uvicorn(app: str) -> Command:
    def command(environment: Environment, setting: Setting) -> Sequence[str]:
        start = [str(environment.python), "-m", "uvicorn", app, "--host", HOST]
        start += ["--port", str(setting.ports[0]), "--loop", "uvloop", "--http", "httptools"]
        return [*start, "--lifespan", "off", "--no-access-log", "--log-level", "warning"]

    return command


def _bare_grpc(environment: Environment, setting: Setting) -> Sequence[str]:
    return [str(environment.python), str(PEERS / "serve_bare_grpc.py"), str(setting.ports[1])]


def _bentoml(environment: Environment, setting: Setting) -> Sequence[str]:
    start = [environment.script("bentoml"), "serve", "serve_bentoml:Forest"]
    start += ["--working-dir", str(PEERS), "--host", HOST]
    return [*start, "--port", str(setting.ports[0])]


def _litserve(environment: Environment, setting: Setting) -> Sequence[str]:
    return [str(environment.python), str(PEERS / "serve_litserve.py"), str(setting.ports[0])]


def _mlserver(environment: Environment, setting: Setting) -> Sequence[str]:
    http, grpc, metrics = setting.ports[:3]
    settings = {"host": HOST, "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    # In the server's own process: one worker, and faster here than behind its queue to another.
    settings |= {"parallel_workers": 0, "debug": False}
    model: dict[str, object] = {"name": NAME, "implementation": "serve_mlserver.Forest"}
    if setting.engine == "sklearn":
        # Batches pay for the unconverted forest; the converted one is faster without.
        model |= {"max_batch_size": 256, "max_batch_time": 0.001}
    (setting.folder / "settings.json").write_text(json.dumps(settings))
    (setting.folder / "model-settings.json").write_text(json.dumps(model))
    return [environment.script("mlserver"), "start", str(setting.folder)]


def _pytriton(environment: Environment, setting: Setting) -> Sequence[str]:
    ports = [str(port) for port in setting.ports[:3]]
    return [str(environment.python), str(PEERS / "serve_pytriton.py"), *ports]


def _tensors(name: str) -> tuple[Target, ...]:
    return (Target(name=name, path=_OIP, kind="tensors"),)


def _many(name: str, kind: Kind) -> Target:
    return Target(name=name, path=_OIP, kind=kind, batch=1000, connections=(1, 16))


def _calls(name: str) -> Target:
    return Target(name=name, path=_GRPC, kind="calls")


SERVERS = (
    Server(
        name="headgate",
        package="headgate",
        targets=(
            *_tensors("headgate"),
            Target(name="headgate-v1", path=f"/v1/models/{NAME}:predict", kind="instances"),
            Target(name="headgate-typed", path=f"/{NAME}", kind="instances"),
            Target(name="headgate-ws", path=f"/ws/{NAME}", kind="messages"),
            _calls("headgate-grpc"),
        ),
        command=_headgate,
        engines=("onnx", "sklearn"),
        own=True,
    ),
    Server(
        # So small a forest that what is compared is JSON and binary, not the forest.
        name="headgate-1000-rows",
        package="headgate",
        targets=(
            _many("headgate-1000-rows", "tensors"),
            _many("headgate-1000-rows-binary", "binary"),
        ),
        command=_headgate,
        trees=5,
        own=True,
    ),
    Server(
        name="bare",
        package="uvicorn",
        targets=_tensors("bare"),
        command=_uvicorn("serve_bare:app"),
    ),
    Server(
        name="bare-grpc",
        package="grpcio",
        targets=(_calls("bare-grpc"),),
        command=_bare_grpc,
    ),
    Server(
        name="fastapi",
        package="fastapi",
        targets=_tensors("fastapi"),
        command=_uvicorn("serve_fastapi:app"),
    ),
    Server(
        name="bentoml",
        package="bentoml",
        targets=(Target(name="bentoml", path="/predict", kind="array"),),
        command=_bentoml,
        engines=("onnx", "sklearn"),
        env={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Server(name="litserve", package="litserve", targets=_tensors("litserve"), command=_litserve),
    Server(
        name="mlserver",
        package="mlserver",
        targets=(*_tensors("mlserver"), _calls("mlserver-grpc")),
        command=_mlserver,
        engines=("onnx", "sklearn"),
    ),
    Server(
        name="pytriton",
        package="nvidia-pytriton",
        targets=(*_tensors("pytriton"), _calls("pytriton-grpc")),
        command=_pytriton,
        engines=("onnx", "sklearn"),
        system_python=True,
    ),
)


@contextlib.contextmanager
def serve(
    server: Server,
    forest: Forest,
    engine: Engine,
    folder: Path,
    *,
    workers: int = 1,
    apart: bool = True,
) -> Iterator[Running]:
    """Start it; every target has answered every reference row rightly when this yields.

    ``apart``: on cores of its own, see :func:`benchmarks.harness.process.running`.

    Raises:
        NotInstalledError, NotStartedError, WrongAnswerError: it cannot be measured.
    """
    environment = server.environment()
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        forest=forest, engine=engine, folder=folder, ports=free_ports(3), workers=workers
    )
    port, grpc_port = setting.ports[:2]

    def answers(target: Target, rows: int) -> None:
        def asking(body: bytes, headers: Mapping[str, str]) -> bytes:
            if target.kind == "messages":
                return messages.ask(port, target.path, body)
            if target.kind == "calls":
                return calls.ask(grpc_port, target.path, body)
            return ask(port, target.path, body, headers)

        check_answers(target, forest.rows[:rows], forest.probabilities, asking)

    with running(
        server.command(environment, setting),
        port=port,
        grpc_port=grpc_port,
        env={
            **clean_environment(folder),
            "BENCH_MODEL": str(forest.folder),
            "BENCH_ENGINE": engine,
            **server.env,
        },
        cwd=folder,
        log=HOME / "logs" / f"{server.name}-{engine}.log",
        check=lambda: answers(server.targets[0], 1),
        apart=apart,
    ) as started:
        for target in server.targets:
            answers(target, len(forest.rows))
        yield started


def told_version(server: Server) -> str:
    """The version of its package and of the engines beside it; installs it where need be."""
    if server.own:
        packages = {name: version(name) for name in (server.package, "bentoml", *_ENGINES)}
    else:
        packages = server.environment().packages
    beside = [f"{name} {packages[name]}" for name in _ENGINES if name in packages]
    return f"{server.package} {packages[server.package]} with {', '.join(beside)}"


def clean_environment(folder: Path) -> dict[str, str]:
    """This process's, without what is set for a server by whoever runs this; one thread each."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **inherited,
        **dict.fromkeys(threads, "1"),
        "PYTHONPATH": str(PEERS),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "BENTOML_HOME": str(folder / "bentoml"),
    }
