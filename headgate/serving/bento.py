"""The seam to BentoML: services that put our hot paths before BentoML's app.

BentoML's workers call ``to_asgi`` of the service they load (``_bentoml_impl/worker/service.py``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from bentoml.images import Image

from headgate.errors import HeadgateError, ServingError
from headgate.serving import drain
from headgate.serving.bundle import Bundle, open_bundle
from headgate.serving.gpu import gpu_service
from headgate.serving.openapi import describe
from headgate.serving.protocols.typed import typed_endpoint

if TYPE_CHECKING:
    from headgate.serving.http import App, Headers
    from headgate.serving.worker import Worker

__all__ = ["HeadgateService", "entry_service", "packaged"]

_RELEASE = "HEADGATE_RELEASE"
_ENGINES = {"onnx": "", "sklearn": "serve-sklearn.txt", "torch": "serve-torch.txt"}


class HeadgateService(bentoml.Service[Any]):  # type: ignore[misc]
    """BentoML's service with a faster way in."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> App:
        """The app of a worker. A worker that cannot load its models does not start."""
        from headgate.serving.front import Front
        from headgate.serving.middleware import AppFactory
        from headgate.serving.worker import Worker

        self.inject_config()
        factory = AppFactory(self, is_main=is_main)
        app = factory()
        inner: Any = self.inner
        try:
            inner.worker = Worker(inner.bundle, _release(self), retire=drain.retire)
        except HeadgateError as error:
            raise SystemExit(str(error)) from None
        drain.install()
        traced: App = factory.trace(Front(app, inner.worker))
        return traced

    @property
    def doc(self) -> str:
        """Of a Bento its own, else what is served."""
        return str(self.bento.doc if self.bento is not None else self.description)

    @property
    def openapi_spec(self) -> Any:
        """What ``/docs.json`` shows, and a Bento's ``apis/openapi.yaml``."""
        return describe(self)


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
    inner = type("Headgate", (), {"bundle": bundle, "worker": None, **methods, **needed})
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


def _release(service: HeadgateService) -> str:
    if release := os.environ.get(_RELEASE):
        return release
    return str(service.bento.tag) if service.bento is not None else "dev"


def _image(bundle: Bundle) -> Image:
    """The packages that serving these models needs, pinned; the build looks nothing up."""
    folder = bundle.root / "requirements"
    engines = {model.manifest.engine for model in bundle.models}
    files = ["serve.txt", *sorted(filter(None, (_ENGINES.get(engine) for engine in engines)))]
    lines = [
        line
        for name in files
        for line in (folder / name).read_text().splitlines()
        # BentoML adds itself, at the version that builds.
        if line.strip() and not line.startswith(("#", "bentoml=="))
    ]
    return Image(lock_python_packages=False).python_packages(*lines)


def _description(bundle: Bundle) -> str:
    lines = [
        f"- `{model.name}` version {model.ref.version}, run `{model.ref.run_id}`, "
        f"`{model.ref.digest}`{': ' + model.config.description if model.config.description else ''}"
        for model in bundle.models
    ]
    return "\n".join(["# Headgate", "", "Serves:", "", *lines, ""])
