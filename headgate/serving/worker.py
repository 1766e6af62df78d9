"""One worker process: its models, its routes, and what it does on the side."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from headgate.predictor import Predictor
from headgate.serving.endpoint import Endpoint
from headgate.serving.gpu import where_it_runs
from headgate.serving.lane import Lane
from headgate.serving.metrics import ServingMetrics
from headgate.serving.model import Model, RemoteModel
from headgate.serving.protocols.v1 import Rows

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from headgate.serving.bundle import Bundle, PackagedModel

__all__ = ["Worker"]

logger = logging.getLogger("bentoml.headgate")

_FLUSH_S = 1.0
_SWITCH_S = 1e-3
"""How long a thread of an engine may keep the interpreter from the event loop; Python's 5 ms
would be the latency of every request that meets one."""


class Worker:
    """Loads on construction; serves between :meth:`start` and :meth:`stop`."""

    def __init__(
        self,
        bundle: Bundle,
        release: str,
        *,
        retire: Callable[[str], None] = logger.error,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """Open every model and replay its reference rows.

        ``retire`` is told, once, why this process is not fit to serve any longer; ``registry`` is
        where its metrics are, Prometheus' own by default.

        Raises:
            HeadgateError: a model is missing, altered, or cannot be opened.
        """
        self.bundle = bundle
        self.release = release
        self.max_body = int(bundle.server.max_body_mb * 1024 * 1024)
        self.metrics = ServingMetrics(bundle.models, release, registry)
        self.models: dict[str, Model] = {}
        self.rows: dict[str, Rows] = {}
        self.typed: dict[str, Endpoint] = {}
        self._retire = retire
        self._retired = False
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, str(bundle.threads))
        for packaged in bundle.models:
            begun = time.monotonic()
            model = self._open(packaged)
            model.counts.load_seconds.set(time.monotonic() - begun)
            model.warm_up()
            self.models[model.name] = model
            self.rows[model.name] = rows = Rows(model, "typed")
            self.typed[model.name] = Endpoint(model, rows, self.metrics, self.max_body)
        # The last: a worker that cannot open its models leaves no thread behind.
        self._lane = Lane("parity")

    def _open(self, packaged: PackagedModel) -> Model:
        remote = where_it_runs(packaged)
        if remote is not None:
            return RemoteModel(packaged, remote, self.metrics, self.release)
        predictor = Predictor.open(packaged.path, threads=self.bundle.threads)
        alone = len(self.bundle.models) == 1
        return Model(packaged, predictor, self.metrics, self.release, alone=alone)

    def whats_wrong(self) -> str | None:
        """Why this worker is not ready, in one sentence; None when it is."""
        if not self._started:
            return "it is starting"
        return self._models_trouble()

    async def start(self) -> None:
        """Be ready: begin the work on the side, and put garbage collection out of the way."""
        self._started = True
        self._tasks = [
            asyncio.create_task(self._keep_counts()),
            asyncio.create_task(self._keep_checking()),
        ]
        sys.setswitchinterval(_SWITCH_S)
        # What is loaded stays: a full collection that walks it takes 100 ms.
        gc.collect()
        gc.freeze()

    async def stop(self) -> None:
        """Answer no more."""
        self._started = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self.models.values():
            await model.close()
        self._lane.close()
        self.flush()

    def flush(self) -> None:
        """Show Prometheus what was counted so far."""
        self.metrics.ready.set(1 if self.whats_wrong() is None else 0)
        for model in self.models.values():
            model.counts.queue_rows.set(model.batcher.queued_rows)
        self.metrics.flush()

    def _models_trouble(self) -> str | None:
        found = [trouble for model in self.models.values() if (trouble := model.whats_wrong())]
        return "; ".join(found) or None

    async def _keep_counts(self) -> None:
        while True:
            self.flush()
            trouble = self._models_trouble()
            if trouble and not self._retired:
                self._retired = True
                self._retire(trouble)
            await asyncio.sleep(_FLUSH_S)

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(self.bundle.server.parity_every_s)
            for model in self.models.values():
                await model.check(self._lane)
