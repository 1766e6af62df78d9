"""Several requests' rows in one call of the engine, and everyone's own rows back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from headgate.errors import HeadgateError, ServingError

if TYPE_CHECKING:
    from headgate.predictor import Batch, Outputs

__all__ = ["AsyncPredict", "Called", "Part", "Predict", "Result", "call", "call_async", "join"]

Predict: TypeAlias = "Callable[[Batch], Outputs]"
AsyncPredict: TypeAlias = "Callable[[Batch], Awaitable[Outputs]]"
Result: TypeAlias = "Outputs | HeadgateError | None"
"""Of one part: its rows, what went wrong with it, or None when nobody wants it any more."""


class Part(NamedTuple):
    """Some rows of one request."""

    batch: Batch
    """All rows of the request."""
    start: int
    stop: int
    wanted: Callable[[], bool]
    """Whether somebody still waits for it. Called from the thread of the engine."""


class Called(NamedTuple):
    """What became of the parts of one call."""

    results: list[Result]
    seconds: float
    """How long the engine took; for a call that failed, until it did."""
    rows: int
    failed: bool


def call(predict: Predict, parts: Sequence[Part]) -> Called:
    """Run the parts as one batch; where that fails, each apart, so that only the guilty fail.

    Never raises: what went wrong is among the results.
    """
    rows = _rows(parts)
    begun = time.monotonic()
    try:
        results = _split(_checked(predict(_merged(parts)), rows), parts)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        # Also what is no Exception: a panic in Rust code, or a module that calls sys.exit().
        seconds = time.monotonic() - begun
        if len(parts) == 1:
            return Called([_told(error)], seconds, rows, failed=True)
        alone = [call(predict, [part]).results[0] if part.wanted() else None for part in parts]
        return Called(alone, seconds, rows, failed=True)
    return Called(results, time.monotonic() - begun, rows, failed=False)


async def call_async(predict: AsyncPredict, parts: Sequence[Part]) -> Called:
    """The same for an engine that is awaited: one in another process."""
    rows = _rows(parts)
    begun = time.monotonic()
    try:
        results = _split(_checked(await predict(_merged(parts)), rows), parts)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # An engine may be cancelled without us: by the channel to its process, for one.
        if isinstance(error, asyncio.CancelledError) and _being_cancelled():
            raise
        seconds = time.monotonic() - begun
        if len(parts) == 1:
            return Called([_told(error)], seconds, rows, failed=True)
        alone = [
            (await call_async(predict, [part])).results[0] if part.wanted() else None
            for part in parts
        ]
        return Called(alone, seconds, rows, failed=True)
    return Called(results, time.monotonic() - begun, rows, failed=False)


def join(pieces: Iterable[Outputs]) -> Outputs:
    """The outputs of one request from those of its parts, in order.

    Raises:
        ServingError: the parts have not the same outputs, or outputs of other shapes.
    """
    pieces = list(pieces)
    if len(pieces) == 1:
        return pieces[0]
    try:
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    except (KeyError, ValueError) as error:
        raise ServingError(
            f"the model's answers to parts of one request do not fit together: {error}"
        ) from error


def _rows(parts: Sequence[Part]) -> int:
    return sum(part.stop - part.start for part in parts)


def _merged(parts: Sequence[Part]) -> Batch:
    if len(parts) == 1:
        batch, start, stop, _ = parts[0]
        if stop - start == len(next(iter(batch.values()))):
            return batch
        return {name: array[start:stop] for name, array in batch.items()}
    return {
        name: np.concatenate([part.batch[name][part.start : part.stop] for part in parts])
        for name in parts[0].batch
    }


def _split(outputs: Outputs, parts: Sequence[Part]) -> list[Result]:
    if len(parts) == 1:
        return [outputs]
    results: list[Result] = []
    begin = 0
    for part in parts:
        end = begin + part.stop - part.start
        results.append({name: array[begin:end] for name, array in outputs.items()})
        begin = end
    return results


def _checked(outputs: Outputs, rows: int) -> Outputs:
    if not outputs:
        raise ServingError("no outputs")
    for name, array in outputs.items():
        if len(array) != rows:
            raise ServingError(f"{len(array)} rows of {name} for {rows} rows of input")
    return outputs


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _told(error: BaseException) -> HeadgateError:
    if isinstance(error, HeadgateError):
        return error
    told = ServingError(f"the model failed: {type(error).__name__}: {error}")
    told.__cause__ = error
    return told
