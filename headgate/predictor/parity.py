"""How far two sets of predictions for the same rows are apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headgate.predictor.signature import Array, Outputs

__all__ = ["Difference", "difference", "spread"]


class Difference(NamedTuple):
    """Row by row."""

    ok: npt.NDArray[np.bool_]
    """Labels equal and every number within the tolerance."""
    largest: npt.NDArray[np.float64]
    """The largest difference among the row's numbers; infinite where one is missing, NaN or
    of another shape and the other is not."""


def difference(outputs: Outputs, expected: Outputs, tolerance: float) -> Difference:
    """Compare ``outputs`` with ``expected``, whose rows and names count.

    Floats differ by ``|a - b| / max(1, |b|)``: absolute for probabilities and other small
    numbers, relative for large ones, which float32 cannot hold to an absolute 1e-5. Equal
    infinities and two NaN do not differ. Anything that is no float must be equal.
    """
    rows = max((len(array) for array in expected.values()), default=0)
    ok = np.ones(rows, dtype=bool)
    largest = np.zeros(rows)
    for name, right in expected.items():
        left = outputs.get(name)
        if left is None or np.shape(left) != right.shape:
            ok[:] = False
            largest[:] = np.inf
        elif right.dtype.kind == "f":
            apart = _apart(np.asarray(left), right)
            largest = np.maximum(largest, apart)
            ok &= apart <= tolerance
        else:
            ok &= np.equal(left, right).astype(bool).reshape(rows, -1).all(axis=1)
    return Difference(ok, largest)


def _apart(left: Array, right: Array) -> npt.NDArray[np.float64]:
    rows = len(right)
    if left.dtype.kind not in "fiu":
        return np.full(rows, np.inf)
    a, b = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(a - b) / np.maximum(1.0, np.abs(b))
    apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    apart[np.isnan(apart)] = np.inf
    flat = apart.reshape(rows, -1)
    return flat.max(axis=1) if flat.shape[1] else np.zeros(rows)


def spread(rows: int, wanted: int) -> npt.NDArray[np.int64]:
    """At most ``wanted`` indices, evenly spread over ``rows``, the first and last among them."""
    if wanted >= rows:
        return np.arange(rows)
    return np.linspace(0, rows - 1, wanted).round().astype(np.int64)
