"""Workers of small real models in this process, without a server."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving.asgi import _own_metrics

from headgate.predictor import Predictor
from headgate.serving import worker as worker_module
from headgate.serving.bundle import Bundle, open_bundle
from headgate.serving.worker import Worker


class Engine:
    """A real engine, through whose hands its answers go."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.change: Callable[[Any], Any] = lambda outputs: outputs
        self.threads: list[str] = []

    def predict(self, batch: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        return self.change(self.engine.predict(batch))


@contextlib.contextmanager
def bundle_at(root: Path, *, server: str = "") -> Iterator[Bundle]:
    """The bundle at ``root`` with these lines in ``[server]``; metrics are its own meanwhile."""
    interval = sys.getswitchinterval()
    with pytest.MonkeyPatch.context() as patch, _own_metrics():
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            # So that what is set in between is put back.
            patch.setenv(name, os.environ.get(name, ""))
            patch.delenv(name)
        settings = "[gate.profiles.quick]\nrate = 50\n"
        (root / "headgate.toml").write_text(f"[server]\n{server}\n{settings}")
        try:
            yield open_bundle(root)
        finally:
            gc.unfreeze()
            sys.setswitchinterval(interval)


@contextlib.contextmanager
def worker_at(
    root: Path,
    *,
    server: str = "",
    prepare: Callable[[Predictor], object] = lambda _: None,
) -> Iterator[Any]:
    """A worker that is loaded and not started.

    ``prepare`` gets each predictor before it is used. ``engines`` has an :class:`Engine` for each
    model, ``retired`` what it told the launcher.
    """
    retired: list[str] = []
    engines: dict[str, Engine] = {}
    real = Predictor.open

    def open_wrapped(path: Path, **options: Any) -> Predictor:
        predictor = real(path, **options)
        engines[predictor.ref.name] = engine = Engine(predictor._engine)
        predictor = dataclasses.replace(predictor, _engine=engine)
        prepare(predictor)
        return predictor

    with bundle_at(root, server=server) as bundle, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "open", open_wrapped)
        patch.setattr(worker_module, "_FLUSH_S", 0.01)
        worker: Any = Worker(bundle, "r:1", retire=retired.append)
        worker.engines, worker.retired = engines, retired
        yield worker
        worker._lane.close()
