"""One model in one worker: its predictor, its batcher, its counts, and whether it can be trusted."""

from __future__ import annotations

import logging
import math
import time
from functools import partial
from typing import TYPE_CHECKING, cast

from headgate.errors import UnknownModelError
from headgate.predictor import Predictor, Replay
from headgate.serving.batcher import Batcher
from headgate.serving.metrics import ModelMetrics
from headgate.serving.remote import UnreachableError

if TYPE_CHECKING:
    from headgate.predictor import Reference, Signature
    from headgate.serving.bundle import PackagedModel
    from headgate.serving.lane import Lane
    from headgate.serving.metrics import ServingMetrics
    from headgate.serving.remote import RemotePredictor

__all__ = ["Model", "RemoteModel", "find", "stall_s"]

logger = logging.getLogger("bentoml.headgate")

_TRIES = 10
_TRY_S = 0.05
"""Trying no more calls of one size after this many seconds of them."""
STALL_FACTOR = 5.0
STALL_S = 10.0
"""A call running for longer than this, and than STALL_FACTOR default deadlines, has hung."""
_CHECK_ROWS = 16
"""Reference rows replayed at a time while serving."""


class Model:
    """What the surfaces work with."""

    def __init__(
        self,
        packaged: PackagedModel,
        predictor: Predictor,
        metrics: ServingMetrics,
        release: str,
        *,
        alone: bool = True,
    ) -> None:
        """``predictor`` is open; nothing runs yet. ``alone`` in its worker, or beside others."""
        serving = packaged.config.serving
        self.packaged = packaged
        self.predictor = predictor
        self.release = release
        self.counts = ModelMetrics(metrics, packaged.name)
        self.deadline_s = serving.deadline_ms / 1000
        self.max_rows = serving.max_request_rows
        self.batcher = Batcher(
            predictor.predict,
            name=packaged.name,
            observer=self.counts,
            max_batch_rows=serving.max_batch_rows,
            max_queue_rows=serving.max_queue_rows,
            slots=serving.parallel_calls,
            target_s=packaged.config.slo.p95_ms / 1000,
            interpreted=packaged.manifest.engine == "sklearn",
            alone=alone,
        )
        self._mismatch: str | None = None
        self._next_row = 0

    @property
    def name(self) -> str:
        """The registered name."""
        return self.packaged.name

    @property
    def version(self) -> str:
        """The registry's version."""
        return self.packaged.ref.version

    @property
    def signature(self) -> Signature:
        """What goes in and comes out."""
        return self.predictor.signature

    def whats_wrong(self) -> str | None:
        """Why it must not be asked, in one sentence; None when all is well."""
        if self._mismatch:
            return self._mismatch
        return self._hangs()

    def warm_up(self) -> None:
        """Replay every reference row, and learn what calls cost; blocks."""
        self._judge(self.predictor.replay())
        reference = self.predictor.reference
        if reference is None or reference.rows == 0:
            return
        took = {rows: self._shortest_s(reference, rows) for rows in {1, min(64, reference.rows)}}
        for rows in (*sorted(took), 1):
            self.batcher.cost.learn(rows, took[rows])

    def _shortest_s(self, reference: Reference, rows: int) -> float:
        """Seconds of a call; the shortest, because one that was held up would be believed for long."""
        batch = reference.take(slice(0, rows)).inputs
        shortest, spent = math.inf, 0.0
        for _ in range(_TRIES):
            begun = time.monotonic()
            self.predictor.predict(batch)
            seconds = time.monotonic() - begun
            shortest = min(shortest, seconds)
            spent += seconds
            if spent > _TRY_S:
                break
        return shortest

    async def check(self, lane: Lane) -> None:
        """Replay the next few reference rows, off the event loop."""
        reference = self.predictor.reference
        if reference is None or reference.rows == 0:
            return
        begin = self._next_row
        self._next_row = (begin + _CHECK_ROWS) % reference.rows
        end = min(begin + _CHECK_ROWS, reference.rows)
        try:
            self._judge(await self._replay(lane, slice(begin, end)))
        except Exception as error:  # noqa: BLE001
            # No answer is not the answer of the model as trained either.
            self.counts.parity_rows.steps += end - begin
            self.counts.parity_mismatches.steps += end - begin
            self._mismatch = f"{self._who()}: replaying reference rows failed: {error}"
            logger.error("%s", self._mismatch)  # noqa: TRY400

    async def close(self) -> None:
        """Answer no more."""
        await self.batcher.close()

    def _hangs(self) -> str | None:
        if self.batcher.busy_s <= stall_s(self.packaged):
            return None
        return f"{self._who()}: a call has been running for {self.batcher.busy_s:.0f} s"

    async def _replay(self, lane: Lane, rows: slice) -> Replay:
        return await lane.run(partial(self.predictor.replay, rows))

    def _judge(self, replay: Replay) -> None:
        self.counts.parity_rows.steps += replay.rows
        self.counts.parity_mismatches.steps += replay.mismatched
        if replay.mismatched:
            # Once wrong, wrong until restarted: a worker that heals by itself was not understood.
            self._mismatch = (
                f"{self._who()}: {replay.mismatched} of {replay.rows} reference rows are answered "
                f"differently than by the model as trained (by up to {replay.largest:.3g}, "
                f"{self.predictor.tolerance:g} allowed)"
            )
            logger.error("%s", self._mismatch)

    def _who(self) -> str:
        return f"{self.name} version {self.version}"


class RemoteModel(Model):
    """A model whose predictor is in another process, which looks after itself."""

    def __init__(
        self,
        packaged: PackagedModel,
        predictor: RemotePredictor,
        metrics: ServingMetrics,
        release: str,
    ) -> None:
        """``predictor`` is connected on first use."""
        # What is awaited of it is overridden here; the rest both kinds have.
        super().__init__(packaged, cast("Predictor", predictor), metrics, release)
        self._remote = predictor

    def warm_up(self) -> None:
        """Done by the other process before it is ready."""

    async def close(self) -> None:
        """Answer no more."""
        await super().close()
        await self._remote.close()

    def _hangs(self) -> str | None:
        return None

    async def _replay(self, lane: Lane, rows: slice) -> Replay:
        """While the other process is being replaced, nothing is replayed."""
        del lane
        try:
            return await self._remote.replay(rows)
        except UnreachableError as error:
            logger.warning("%s", error)
            return Replay(0, 0, 0.0)


def stall_s(packaged: PackagedModel) -> float:
    """After how long a call has hung, seconds."""
    return max(STALL_S, STALL_FACTOR * packaged.config.serving.deadline_ms / 1000)


def find(models: dict[str, Model], name: str, version: str | None) -> Model:
    """The model of that name, and of that version where one is given.

    Raises:
        UnknownModelError: there is none; says which there are.
    """
    model = models.get(name)
    if model is None:
        known = ", ".join(models)
        raise UnknownModelError(f"no model {name!r}", where="path", remedy=f"served here: {known}")
    if version is not None and version != model.version:
        raise UnknownModelError(
            f"no version {version!r} of it",
            where=name,
            remedy=f"served here: version {model.version}",
        )
    return model
