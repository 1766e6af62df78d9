"""An engine that is dear enough for the queue, and that a test can hold, watch and spoil."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving.asgi import Asked, serving_app

from headgate.predictor import Batch, Outputs, Predictor

CALL_S = 0.003
"""Longer than what may run on the event loop."""


class Held:
    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.calls: list[int] = []
        """Rows of each call."""
        self.spoil: Callable[[Batch, Outputs], Outputs] = lambda _, outputs: outputs

    @contextlib.contextmanager
    def back(self) -> Iterator[None]:
        """Whatever is asked in here waits."""
        self.calls.clear()
        self.go.clear()
        try:
            yield
        finally:
            self.go.set()

    async def waiting(self, asked: Asked, name: str, rows: int) -> None:
        """Return once so many rows wait behind the call that is held back."""
        batcher = asked.worker.models[name].batcher
        async with asyncio.timeout(15):
            while batcher.queued_rows < rows or not batcher.busy_s:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@contextlib.contextmanager
def held_app(root: Path) -> Iterator[tuple[Asked, Held]]:
    """The app of the bundle at ``root``, with such an engine under each model."""
    held = Held()
    predict = Predictor.predict

    def instead(predictor: Predictor, batch: Batch) -> Outputs:
        held.calls.append(len(next(iter(batch.values()))))
        time.sleep(CALL_S)
        held.go.wait(20)
        return held.spoil(batch, predict(predictor, batch))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "predict", instead)
        with serving_app(root) as asked:
            yield asked, held


def limit(root: Path, **settings: Any) -> Path:
    """The same bundle, with settings in every model's ``[serving]``."""
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    for room in root.glob("models/*/model.toml"):
        room.write_text("".join([room.read_text(), "\n[serving]\n", *lines]))
    return root
