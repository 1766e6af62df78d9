"""The seam to BentoML: services that put our hot paths before BentoML's app.

BentoML's workers call ``to_asgi`` of the service they load (``_bentoml_impl/worker/service.py``).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from bentoml.images import Image

from headgate.errors import ConfigError, HeadgateError, ServingError
from headgate.serving import drain
from headgate.serving.bundle import Bundle, open_bundle
from headgate.serving.gpu import gpu_service
from headgate.serving.launch.environment import GRPC, PARENT
from headgate.serving.openapi import describe
from headgate.serving.protocols.typed import typed_endpoint

if TYPE_CHECKING:
    from headgate.serving.grpc.server import Server as GrpcServer
    from headgate.serving.http import App, Headers
    from headgate.serving.worker import Worker

__all__ = ["HeadgateService", "entry_service", "packaged"]

_RELEASE = "HEADGATE_RELEASE"
_ENGINES = {"onnx": "", "sklearn": "serve-sklearn.txt", "torch": "serve-torch.txt"}
_OWN = "app.txt"
"""What the bundle's own app.py needs, where it has one."""


class HeadgateService(bentoml.Service[Any]):  # type: ignore[misc]
    """BentoML's service with a faster way in."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> App:
        """The app of a worker. A worker that cannot load its models does not start."""
        from headgate.serving.beside import load_app
        from headgate.serving.front import Front
        from headgate.serving.middleware import AppFactory
        from headgate.serving.worker import Worker

        self.inject_config()
        factory = AppFactory(self, is_main=is_main)
        app = factory()
        inner: Any = self.inner
        try:
            own = load_app(inner.bundle.root)
            inner.worker = Worker(inner.bundle, _release(self), retire=drain.retire)
        except HeadgateError as error:
            raise SystemExit(str(error)) from None
        drain.install(inner.worker.max_body, _grpc_server(inner.worker))
        traced: App = factory.trace(Front(app, inner.worker, own))
        return traced

    @property
    def doc(self) -> str:
        """Of a Bento its own, else what is served."""
        return str(self.bento.doc if self.bento is not None else self.description)

    @property
    def openapi_spec(self) -> Any:
        """What ``/docs.json`` shows, and a Bento's ``apis/openapi.yaml``."""
        inner: Any = self.inner
        if inner.described is None:
            inner.described = describe(self, _release(self))
        return inner.described


def packaged(root: Path) -> Bundle:
    """What is packaged under ``root``. Where that is nothing, the process ends with one line."""
    try:
        return open_bundle(root)
    except HeadgateError as error:
        raise SystemExit(str(error)) from None


def entry_service(bundle: Bundle) -> HeadgateService:
    """The service that every protocol reaches, with a typed endpoint for each model."""
    methods = {model.method: typed_endpoint(model, _ask) for model in bundle.models}
    # BentoML finds a service that another needs by such an attribute.
    needed = {
        f"_gpu_{model.method}": bentoml.depends(gpu_service(model, bundle.threads))
        for model in bundle.models
        if model.wants_gpu
    }
    inner = type(
        "Headgate", (), {"bundle": bundle, "worker": None, "described": None, **methods, **needed}
    )
    server = bundle.server
    return HeadgateService(
        name="headgate",
        inner=inner,
        config={
            "workers": server.workers,
            "traffic": {"timeout": 60},
            "http": {"host": server.host, "port": server.port},
            "logging": {"access": {"enabled": False}},
        },
        labels=bundle.labels,
        image=_image(bundle),
        description=_description(bundle),
    )


async def _ask(instance: Any, name: str, rows: list[Any]) -> tuple[int, bytes, Headers]:
    """Answer a typed endpoint that is called within this process."""
    worker: Worker | None = type(instance).worker
    if worker is None:
        raise ServingError("no worker serves this service", remedy="start it with `headgate serve`")
    surface = worker.rows[name]
    return await worker.typed[name].answer(lambda: surface.take(rows), {})


def _grpc_server(worker: Worker) -> GrpcServer | None:
    """What speaks gRPC in this worker: where the launcher says so, else in the first one."""
    from bentoml._internal.context import server_context

    if PARENT in os.environ:
        wanted = os.environ.get(GRPC) == "1"
    else:
        wanted = server_context.worker_index == 1 and worker.bundle.server.grpc is not None
    if not wanted:
        return None
    from headgate.serving.grpc.server import Server

    return Server(worker)


def _release(service: HeadgateService) -> str:
    if release := os.environ.get(_RELEASE):
        return release
    return str(service.bento.tag) if service.bento is not None else "dev"


def _image(bundle: Bundle) -> Image:
    """The packages that serving these models needs, pinned; the build looks nothing up."""
    folder = bundle.root / "requirements"
    engines = {model.manifest.engine for model in bundle.models}
    files = ["serve.txt", *sorted(filter(None, (_ENGINES.get(engine) for engine in engines)))]
    lines = [line for name in files for line in _requirements(folder / name)]
    if (folder / _OWN).is_file():
        lines += _own_requirements(folder / _OWN, lines)
    # BentoML adds itself, at the version that builds.
    lines = [line for line in lines if not line.startswith("bentoml==")]
    return Image(lock_python_packages=False).python_packages(*lines)


def _requirements(path: Path) -> list[str]:
    lines = (re.split(r"(?:^|\s)#", line)[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def _own_requirements(path: Path, ours: list[str]) -> list[str]:
    """Those of ``app.txt`` that serving has not; ConfigError where both want another version."""
    pinned = {_name(line): line for line in ours}
    found = []
    for line in _requirements(path):
        known = pinned.get(_name(line))
        if known is None:
            found.append(line)
        elif "==" in line and line.partition("==")[2] != known.partition("==")[2]:
            raise ConfigError(
                f"it wants {line}, and serving has {known}",
                where=f"requirements/{_OWN}",
                remedy=f"leave the line out, or make it {known}",
            )
    return found


def _name(line: str) -> str:
    """The package that a line of requirements is about, in the one way to write it."""
    name = re.match(r"[A-Za-z0-9._-]*", line)
    return re.sub(r"[-_.]+", "-", name[0] if name else "").lower()


def _description(bundle: Bundle) -> str:
    lines = [
        f"- `{model.name}` version {model.ref.version}, run `{model.ref.run_id}`, "
        f"`{model.ref.digest}`{': ' + model.config.description if model.config.description else ''}"
        for model in bundle.models
    ]
    return "\n".join(["# Headgate", "", "Serves:", "", *lines, ""])
