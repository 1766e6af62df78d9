"""The app of a worker in this process, without a server, and whom to ask it with."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import prometheus_client
import pytest
from predictor.factory import Kind, make_bundle

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def make_root(
    root: Path, *, kinds: tuple[Kind, ...] = ("tensor", "table"), serving: str = ""
) -> Path:
    """A bundle as `make ship` leaves it; ``serving`` are lines of each model's ``[serving]``."""
    make_bundle(root, kinds)
    for room in root.glob("models/*/model.toml"):
        room.write_text(room.read_text() + serving)
    return complete_root(root)


def complete_root(root: Path) -> Path:
    """What a bundle has beside its models."""
    shutil.copytree(ROOT / "requirements", root / "requirements")
    for name in ("service.py", "bentofile.yaml"):
        shutil.copy(ROOT / name, root / name)
    return root


def make_service(root: Path) -> Any:
    """What `service.py` makes of the bundle at ``root``."""
    with warnings.catch_warnings():
        # BentoML's own use of pydantic.
        warnings.filterwarnings("ignore", "The `__get_pydantic_core_schema__`")
        from headgate.serving.bento import entry_service, packaged

        return entry_service(packaged(root))


class Asked:
    """An app, and a loop that runs while something is asked of it."""

    def __init__(self, app: Any, service: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.service = service
        self.loop = loop
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://testserver"
        )

    @property
    def worker(self) -> Any:
        return self.service.inner.worker

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """No answer takes longer than this, whatever is wrong."""
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 20))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.get(path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.post(path, **options))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.request(method, path, **options))

    def all(self, *requests: Coroutine[Any, Any, T]) -> list[T]:
        """All at once."""

        async def together() -> list[T]:
            return await asyncio.gather(*requests)

        return self.run(together())


@contextlib.contextmanager
def serving_app(root: Path, *, is_main: bool = True, release: str = "test:1") -> Iterator[Asked]:
    """The app of the bundle at ``root``, started; stopped afterwards, and everything put back."""
    (root / "metrics").mkdir(exist_ok=True)
    interval = sys.getswitchinterval()
    access = logging.getLogger("uvicorn.access")
    logging_before = (access.handlers, access.propagate)
    with pytest.MonkeyPatch.context() as patch, _own_metrics():
        patch.setenv("HEADGATE_RELEASE", release)
        patch.setenv("BENTOML_HOME", str(root / "home"))
        patch.setenv("BENTOML_DO_NOT_TRACK", "True")
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(root / "metrics"))
        service = make_service(root)
        app = service.to_asgi(is_main=is_main)
        loop = asyncio.new_event_loop()
        try:
            with _lifespan(app, loop):
                asked = Asked(app, service, loop)
                yield asked
                loop.run_until_complete(asked.client.aclose())
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            gc.unfreeze()
            sys.setswitchinterval(interval)
            access.handlers, access.propagate = logging_before
            for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
                os.environ.pop(name, None)


@contextlib.contextmanager
def _lifespan(app: Any, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    outbox: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}

    async def step(message: str) -> None:
        await inbox.put({"type": f"lifespan.{message}"})
        told = await asyncio.wait_for(outbox.get(), 20)
        assert told["type"] == f"lifespan.{message}.complete", told

    task = loop.create_task(app(scope, inbox.get, outbox.put))
    loop.run_until_complete(step("startup"))
    try:
        yield
    finally:
        loop.run_until_complete(step("shutdown"))
        loop.run_until_complete(task)


@contextlib.contextmanager
def _own_metrics() -> Iterator[None]:
    """Prometheus knows each name once a process; a test process has one app after the other."""
    registry = prometheus_client.REGISTRY
    others = _ours(registry)
    for collector in others:
        registry.unregister(collector)
    try:
        yield
    finally:
        for collector in _ours(registry):
            registry.unregister(collector)
        for collector in others:
            registry.register(collector)


def _ours(registry: Any) -> list[Any]:
    named = registry._collector_to_names.items()
    return [
        each for each, names in named if any(n.startswith(("headgate_", "bentoml_")) for n in names)
    ]


def metric(name: str, **labels: str) -> float:
    """The sum of a metric's samples in this process that have these labels."""
    return sum(
        sample.value
        for family in prometheus_client.REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
