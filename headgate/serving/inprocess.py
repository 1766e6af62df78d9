"""Predictions without a request: what code in the same process calls."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from headgate.errors import HeadgateError, InputError, ServingError
from headgate.serving.bundle import open_bundle
from headgate.serving.http import check_rows, meaning
from headgate.serving.metrics import SurfaceMetrics
from headgate.serving.model import find
from headgate.serving.protocols.v1 import Rows, predictions

if TYPE_CHECKING:
    from headgate.predictor import Outputs
    from headgate.serving.model import Model
    from headgate.serving.worker import Worker

__all__ = ["InProcess", "Predictions", "in_process", "predict", "serves"]


class Predictions(list[Any]):
    """One prediction a row, as V1 has them, and who made them."""

    def __init__(
        self, values: list[Any], *, model_name: str, model_version: str, release: str
    ) -> None:
        super().__init__(values)
        self.model_name = model_name
        self.model_version = model_version
        self.release = release


class InProcess:
    """The models of a worker, for the code beside it."""

    def __init__(self, worker: Worker) -> None:
        """``worker`` is loaded."""
        self._models = worker.models
        self._ways = {
            model.name: (Rows(model, "app"), SurfaceMetrics(worker.metrics, "app", model.name))
            for model in worker.models.values()
        }
        self._loop: asyncio.AbstractEventLoop | None = None

    async def predict(
        self, name: str, rows: list[Any], *, version: str | None, deadline_ms: float | None
    ) -> Predictions:
        """See :func:`predict`."""
        began = monotonic()
        self._stay_on(asyncio.get_running_loop())
        model = find(self._models, name, version)
        way, counts = self._ways[name]
        try:
            values = await _predict(model, way, rows, began + _allowed_s(model, deadline_ms))
        except HeadgateError as error:
            counts.failed(meaning(error)[1], monotonic() - began)
            raise
        except asyncio.CancelledError:
            counts.failed("gone", monotonic() - began)
            raise
        counts.answered(monotonic() - began)
        return Predictions(
            values, model_name=name, model_version=model.version, release=model.release
        )

    def _stay_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """A model's batcher belongs to one event loop, unless that has ended."""
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ServingError(
                    "predict() is called from another event loop than the server's",
                    remedy="await it in an async function of the app; from a thread, call "
                    "anyio.from_thread.run(predict, name, rows)",
                )
            self._loop = loop


_here: InProcess | None = None


async def predict(
    name: str, rows: list[Any], *, version: str | None = None, deadline_ms: float | None = None
) -> Predictions:
    """Predictions of the model ``name`` for ``rows``, which are V1's ``instances``.

    A row of a table is a dict with every column, ``None`` or NaN for a missing value; a row of a
    tensor is nested lists. The rows are checked and batched with those of every other client's. Where
    ``deadline_ms`` is not given, the model's own deadline holds.

    Raises:
        InputError: the rows are not what the model takes; says which, and what would be.
        UnknownModelError: there is no such model, or not in this ``version``.
        OverloadError: too much waits already, or the deadline would be missed.
        DeadlineExceededError: it was missed.
        ServingError: the model failed, or none is served in this process.
    """
    if _here is None:
        raise ServingError(
            "no model is served in this process",
            where=name,
            remedy="start it by `headgate serve`; in a test, go into headgate.serving.in_process()",
        )
    return await _here.predict(name, rows, version=version, deadline_ms=deadline_ms)


@contextmanager
def serves(models: InProcess) -> Iterator[None]:
    """Have :func:`predict` ask these models meanwhile."""
    global _here  # noqa: PLW0603
    before, _here = _here, models
    try:
        yield
    finally:
        _here = before


@contextmanager
def in_process(root: Path | str = ".") -> Iterator[None]:
    """Have :func:`predict` work without a server: with what is packaged in the bundle at ``root``.

    For tests of an app: ``headgate build`` packages the models.

    Raises:
        HeadgateError: nothing is packaged there, or it cannot be opened.
    """
    from prometheus_client import CollectorRegistry

    from headgate.serving.worker import Worker

    worker = Worker(open_bundle(Path(root).resolve()), "dev", registry=CollectorRegistry())
    try:
        with serves(InProcess(worker)):
            yield
    finally:
        # An event loop may run in this thread: an async test's.
        ending = threading.Thread(target=lambda: asyncio.run(worker.stop()))
        ending.start()
        ending.join()


async def _predict(model: Model, way: Rows, rows: list[Any], deadline: float) -> list[Any]:
    asked = way.take(rows)
    check_rows(asked.rows, model.max_rows)
    answer = await model.batcher.submit(asked.batch, asked.rows, deadline=deadline)
    counts = model.counts
    mark = monotonic()
    values = _told(answer.outputs, model)
    counts.encode.observe(monotonic() - mark)
    counts.queue.observe(answer.queue_s)
    counts.inference.observe(answer.inference_s)
    return values


def _told(outputs: Outputs, model: Model) -> list[Any]:
    fields = model.signature.outputs
    values = predictions(outputs, fields[0].name if len(fields) == 1 else None)
    odd = (array.dtype.kind == "f" and not np.isfinite(array).all() for array in outputs.values())
    # JSON has no such number; over every other way it is null.
    return orjson.loads(orjson.dumps(values)) if any(odd) else values


def _allowed_s(model: Model, deadline_ms: float | None) -> float:
    if deadline_ms is None:
        return model.deadline_s
    if type(deadline_ms) not in (int, float) or not 0 < deadline_ms < math.inf:
        raise InputError(
            f"{deadline_ms!r} is no time", where="deadline_ms", remedy="give a number above 0"
        )
    return deadline_ms / 1000
