"""Tensors as typed values: ``InferTensorContents`` to arrays and back."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from headgate.errors import InputError
from headgate.predictor import Array, Field, checked_array, values_to_array
from headgate.serving.protocols.tensors import declared, shown

__all__ = ["from_contents", "to_contents"]

_FIELDS: dict[str, tuple[str, Any]] = {
    "BOOL": ("bool_contents", np.bool_),
    "INT8": ("int_contents", np.int32),
    "INT16": ("int_contents", np.int32),
    "INT32": ("int_contents", np.int32),
    "INT64": ("int64_contents", np.int64),
    "UINT8": ("uint_contents", np.uint32),
    "UINT16": ("uint_contents", np.uint32),
    "UINT32": ("uint_contents", np.uint32),
    "UINT64": ("uint64_contents", np.uint64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
    "BYTES": ("bytes_contents", None),
}
_NARROW = {"INT8", "INT16", "UINT8", "UINT16"}


def from_contents(
    field: Field, datatype: str, contents: Any, shape: list[int], where: str
) -> Array:
    """The array of one input; ``datatype`` and ``shape`` must be what it takes.

    Raises:
        InputError: the values are in another field, too few or too many, or not what the input takes.
    """
    if datatype not in _FIELDS:
        raise InputError(
            f"{datatype} has no typed contents", where=where, remedy="send raw_input_contents"
        )
    name, dtype = _FIELDS[datatype]
    values = getattr(contents, name)
    count = prod(shape)
    if len(values) != count:
        raise InputError(
            f"{len(values)} values for {datatype} of shape {shown(shape)}",
            where=f"{where}.{name}",
            remedy=f"send {count}",
        )
    if dtype is None:
        texts = [_text(value, f"{where}.{name}[{index}]") for index, value in enumerate(values)]
        return values_to_array(field, texts, where=f"{where}.{name}").reshape(-1, *field.shape)
    if datatype in _NARROW:
        # Protocol buffers have no integers of that size.
        declared(datatype, list(values), f"{where}.{name}")
    array: Array = np.fromiter(values, dtype, count)
    return checked_array(field, array.reshape(shape), where=f"{where}.{name}")


def to_contents(datatype: str, array: Array, contents: Any) -> None:
    """Put an output's values into ``contents``."""
    values: list[Any] = array.reshape(-1).tolist()
    if datatype == "BYTES":
        values = [b"" if text is None else text.encode() for text in values]
    getattr(contents, _FIELDS[datatype][0]).extend(values)


def _text(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InputError(
            f"{value[:60]!r} is no UTF-8", where=where, remedy="send valid UTF-8"
        ) from None
