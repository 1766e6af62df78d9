"""Many requests, each with a row of its own, every answer held against the model's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.harness.client import Answer, Client, request_bytes
from benchmarks.harness.forest import INPUT, Regressor, Rows

__all__ = ["Checked", "Question", "ask_all", "make_questions"]

TOLERANCE = 1e-4
"""What the packaging of this model allows; its values go from tens below zero to tens above."""
_CHUNK = 20_000
_SHOWN = 5
_PATIENCE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """Rows, and the model's own value for each."""

    rows: Rows
    values: npt.NDArray[np.float64]

    @property
    def mistakable(self) -> float:
        """The chance that another row's answer would pass for a row's own."""
        ordered = np.sort(self.values)
        near = np.searchsorted(ordered, ordered + TOLERANCE) - np.searchsorted(
            ordered, ordered - TOLERANCE
        )
        return float((near - 1).mean() / max(len(ordered) - 1, 1))


@dataclass(kw_only=True)
class Checked:
    """What came of it."""

    asked: int = 0
    right: int = 0
    wrong: int = 0
    """Another id, another value, or no such answer at all."""
    failed: int = 0
    """Answers that were no 200."""
    lost: int = 0
    """No answer."""
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    def count(self, index: int, expected: float, answer: Answer) -> None:
        """One more answer."""
        status, body = answer
        if status == 200:
            if _is_right(body, index, expected):
                self.right += 1
                return
            self.wrong += 1
        elif status:
            self.failed += 1
        else:
            self.lost += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(f"row {index}, {expected}: {status} {body[:200]!r}")

    def described(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def make_questions(model: Regressor, count: int, seed: int = 0) -> Question:
    """``count`` rows, each between three rows of the data, and the estimator's values."""
    random = np.random.default_rng(seed)
    rows = np.empty((count, model.rows.shape[1]), np.float32)
    values = np.empty(count)
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        weights = random.dirichlet(np.ones(3), size).astype(np.float32)
        corners = model.rows[random.integers(0, len(model.rows), (size, 3))]
        part = slice(start, start + size)
        rows[part] = np.einsum("nk,nkf->nf", weights, corners)
        values[part] = model.model.predict(rows[part])
    return Question(rows=rows, values=values)


def ask_all(port: int, paths: tuple[str, ...], question: Question, connections: int) -> Checked:
    """Ask every row once, on ``connections`` connections, the paths in turn."""
    client = Client(port, connections)
    checked = Checked()
    count = len(question.values)
    began = last = time.monotonic()
    upcoming = open_now = 0
    values = question.values.tolist()
    try:
        while checked.asked < count and time.monotonic() - last < _PATIENCE_S:
            while upcoming < count and open_now < connections:
                client.send(_request(paths, question.rows[upcoming], upcoming), upcoming)
                upcoming += 1
                open_now += 1
            for index, answer in client.answers(1.0):
                checked.asked += 1
                open_now -= 1
                checked.count(index, values[index], answer)
                last = time.monotonic()
    finally:
        client.close()
    checked.lost += count - checked.asked
    checked.asked = count
    checked.seconds = time.monotonic() - began
    return checked


def _request(paths: tuple[str, ...], row: npt.NDArray[np.float32], index: int) -> bytes:
    data = orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)
    body = b'{"id":"%d","inputs":[{"name":"%b","datatype":"FP32","shape":[1,30],"data":%b}]}' % (
        index,
        INPUT.encode(),
        data,
    )
    return request_bytes(paths[index % len(paths)], body)


def _is_right(body: bytes, index: int, expected: float) -> bool:
    try:
        told = orjson.loads(body)
        (output,) = told["outputs"]
        (value,) = output["data"]
        return told["id"] == str(index) and bool(abs(value - expected) <= TOLERANCE)
    except (ValueError, KeyError, TypeError):
        return False
