"""What goes into a predictor and what comes out of it: names, types and shapes."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from headgate.records import Record

__all__ = ["Array", "Batch", "DType", "Field", "Outputs", "Signature", "Task"]

Array: TypeAlias = npt.NDArray[Any]
Batch: TypeAlias = dict[str, Array]
"""One array per input, ``(rows, *shape)``. Strings are object arrays of ``str`` or ``None``;
a null number is NaN."""
Outputs: TypeAlias = dict[str, Array]
"""The same for outputs."""

DType = Literal["bool", "uint8", "int32", "int64", "float32", "float64", "string"]
Task = Literal["classification", "regression", "tensor"]


class Field(Record, frozen=True):
    """One input or output."""

    name: str
    dtype: DType
    shape: tuple[int, ...] = ()
    """Shape of one row; ``()`` is a column of a table."""
    nullable: bool = False
    """Whether a row may hold null. Strings and floats only: nothing else has room for one."""

    def __post_init__(self) -> None:
        if self.nullable and self.dtype not in {"string", "float32", "float64"}:
            raise ValueError(f"{self.name}: {self.dtype} cannot be nullable")
        if any(size < 1 for size in self.shape):
            raise ValueError(f"{self.name}: shape {self.shape} has a size below 1")

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of its array; strings are objects."""
        return np.dtype(object if self.dtype == "string" else self.dtype)


class Signature(Record, frozen=True, dict=True):
    """All inputs and outputs of one predictor.

    A classifier's outputs are ``label`` (int64 or string, one a row) and ``probabilities``
    (float32, one a class); a regressor's output is ``prediction``; anything else keeps the
    names its module gave.
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    task: Task
    classes: tuple[str | int, ...] = ()
    """What the columns of ``probabilities`` stand for; classifiers only."""

    @cached_property
    def is_table(self) -> bool:
        """Every input is a column: rows are objects, ``{column: value}``."""
        return all(not field.shape for field in self.inputs)

    @cached_property
    def input_names(self) -> frozenset[str]:
        """Names of the inputs, for comparing with what arrived."""
        return frozenset(field.name for field in self.inputs)
