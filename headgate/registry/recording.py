"""What a training script has in its hands, as arrays that a request can carry."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from headgate.errors import InputError
from headgate.predictor import Array, Batch

__all__ = ["as_array", "batch_of", "count_rows", "is_torch", "labels_of", "refused"]

INPUT = "input"
"""Name of the only input of a model that takes an array and not a table."""


def count_rows(X: Any) -> int:  # noqa: N803
    """How many rows a DataFrame, array or tensor has; raises :class:`InputError` for all else."""
    shape = getattr(X, "shape", None)
    known = isinstance(X, np.ndarray) or is_torch(X, "Tensor") or hasattr(X, "iloc")
    if shape is None or not known:
        raise refused(
            f"X is of type {type(X).__name__}",
            "give a pandas DataFrame, a numpy array or a torch tensor",
        )
    if len(shape) < 2:
        raise refused(
            f"X has shape {list(shape)}",
            "give rows, (n, …): a DataFrame, or an array of two dimensions or more",
        )
    if shape[0] == 0:
        raise refused("X has no rows", "give a few hundred held-out rows")
    return int(shape[0])


def batch_of(some: Any) -> Batch:
    """Rows as a batch: an array for each column, or the only tensor, named ``input``."""
    if not hasattr(some, "columns"):
        return {INPUT: as_array(some, "X")}
    names = [str(name) for name in some.columns]
    if twice := {name for name in names if names.count(name) > 1}:
        raise refused(
            f"X has more than one column named {', '.join(sorted(twice))}", "rename one of them"
        )
    columns = (some.iloc[:, index] for index in range(len(names)))
    return {
        name: as_array(_column(column, name), f"column {name}")
        for name, column in zip(names, columns, strict=True)
    }


def labels_of(y: Any, count: int, chosen: npt.NDArray[np.int64]) -> Array | None:
    """The chosen ones of ``count`` labels; None where there are none."""
    if y is None:
        return None
    array = _numpy(y, "y")
    if array.shape[:1] != (count,):
        found = len(array) if array.ndim else "no"
        raise refused(f"X has {count} rows, y has {found}", "give one label a row")
    return as_array(array.reshape(count) if array.size == count else array, "y", chosen)


def as_array(values: Any, what: str, chosen: npt.NDArray[np.int64] | None = None) -> Array:
    """An array, or the chosen rows of one, in a type that a request can carry.

    Raises:
        InputError: there is no such type.
    """
    array = _numpy(values, what)
    if chosen is not None:
        array = array[chosen]
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind in "OU":
        return _strings(array, what)
    if kind not in "biuf":
        raise refused(
            f"{what} is of type {array.dtype}",
            "give numbers, booleans or strings; dates as numbers",
        )
    if kind == "u" and size == 8 and array.size and array.max() > np.iinfo(np.int64).max:
        raise refused(f"{what} holds {array.max()}, which no int64 holds", "give it as float64")
    if kind == "f":
        return np.ascontiguousarray(array, dtype={2: np.float32, 16: np.float64}.get(size))
    if kind == "i":
        return np.ascontiguousarray(array, dtype=np.int32 if size < 4 else None)
    return np.ascontiguousarray(array, dtype=np.int64 if kind == "u" and size > 1 else None)


def is_torch(thing: Any, name: str) -> bool:
    """Whether it is a torch ``Tensor`` or ``nn.Module``, without importing torch to find out."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(thing, torch.Tensor if name == "Tensor" else torch.nn.Module)


def refused(what: str, remedy: str) -> InputError:
    """The error of this one function."""
    return InputError(what, where="headgate.log_reference", remedy=remedy)


def _numpy(values: Any, what: str) -> Array:
    if not is_torch(values, "Tensor"):
        return np.asarray(values)
    try:
        array: Array = values.detach().cpu().numpy()
    except (TypeError, RuntimeError):  # bfloat16, sparse …
        raise refused(
            f"{what} is a tensor of type {values.dtype}, {values.layout}",
            "give a dense tensor of a type that numpy has, such as float32",
        ) from None
    return array


def _column(series: Any, name: str) -> Array:
    """A column's values; pandas' own types become numpy's, null becomes None or NaN."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return np.asarray(series.to_numpy())
    kind = getattr(dtype, "kind", "O")
    if kind not in "biuf":
        values = series.astype(object)
        return np.asarray(values.where(series.notna(), None).to_numpy())
    if not series.isna().any():
        return np.asarray(series.to_numpy(dtype=dtype.numpy_dtype))
    if kind == "b":
        raise refused(
            f"column {name} is boolean and holds null", "make it a string or a float column"
        )
    wide = dtype.numpy_dtype if kind == "f" else np.float64  # no integer can be null
    return np.asarray(series.to_numpy(dtype=wide, na_value=np.nan))


def _strings(array: Array, what: str) -> Array:
    flat = [None if value is None or value != value else value for value in array.ravel().tolist()]  # noqa: PLR0124
    for value in flat:
        if value is not None and not isinstance(value, str):
            raise refused(
                f"{what} holds a {type(value).__name__} in an array of objects",
                "make all of it strings, or numbers: `.astype(str)`, `.astype(float)`",
            )
    strings = np.empty(len(flat), dtype=object)
    strings[:] = flat
    return strings.reshape(array.shape)
