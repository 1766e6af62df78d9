"""Tensors of the Open Inference Protocol: their datatypes, their shapes and their binary form.

Binary is little-endian, row by row without gaps; a boolean is a byte, 0 or 1; an element of BYTES is
its length, four bytes, and then itself.
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

from __future__ import annotations

from itertools import chain
from math import inf, nan, prod
from typing import Any

import numpy as np
import orjson

from headgate.errors import InputError
from headgate.predictor import Array, Field, checked_array, values_to_array

__all__ = [
    "ACCEPTED",
    "DATATYPES",
    "declared",
    "flattened",
    "from_binary",
    "item_bytes",
    "shown",
    "tensor_shape",
    "to_binary",
]

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
"""What the inputs and outputs of a model are called."""
_NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("u1"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_INTEGERS = {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"}
_NUMBERS = _INTEGERS | {"FP16", "FP32", "FP64"}
ACCEPTED = {
    "bool": {"BOOL"},
    "string": {"BYTES"},
    "uint8": _INTEGERS,
    "int32": _INTEGERS,
    "int64": _INTEGERS,
    "float32": _NUMBERS,
    "float64": _NUMBERS,
}
"""Datatypes that an input takes, by its type."""
_REAL = {int, float}
_REAL_OR_NULL = {int, float, type(None)}
_LENGTH = 4
_LONG = (str, list, dict)


def item_bytes(field: Field) -> int | None:
    """Bytes of one element of the input in its own datatype; None for BYTES, whose elements vary."""
    return None if field.dtype == "string" else field.numpy.itemsize


def from_binary(
    field: Field, datatype: str, data: memoryview, shape: list[int], where: str
) -> Array:
    """The array of one input; numbers that are of its type already, and lie well, are not copied.

    ``datatype`` and ``shape`` must be what the input takes.

    Raises:
        InputError: the bytes are too few or too many for the shape, or a value is not what the
            input takes.
    """
    count = prod(shape)
    if datatype == "BYTES":
        texts: list[Any] = _texts(data, count, where)
        return values_to_array(field, texts, where=where).reshape(-1, *field.shape)
    dtype = _NUMPY[datatype]
    if len(data) != count * dtype.itemsize:
        raise InputError(
            f"{len(data)} bytes for {datatype} of shape {shown(shape)}",
            where=where,
            remedy=f"send {count * dtype.itemsize} bytes",
        )
    array: Array = np.frombuffer(data, dtype)
    if datatype == "BOOL":
        array = array.astype(np.bool_)
    elif not array.flags.aligned:
        # Engines may read it as it is, in steps of a whole register.
        array = array.copy()
    return checked_array(field, array.reshape(shape), where=where)


def to_binary(array: Array) -> bytes | memoryview:
    """The binary form of one output; a view of its numbers where they lie row by row."""
    if array.dtype.kind != "O":
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        return little.reshape(-1).view(np.uint8).data
    pieces: list[bytes] = []
    for text in array.reshape(-1).tolist():
        element = b"" if text is None else text.encode()
        pieces += (len(element).to_bytes(_LENGTH, "little"), element)
    return b"".join(pieces)


def flattened(data: list[Any], shape: list[int], where: str) -> list[Any]:
    """Values row by row, as many as the shape says, nested like it or not at all.

    Raises:
        InputError: they are fewer, more or nested otherwise.
    """
    size = prod(shape)
    if len(data) == size and not (data and type(data[0]) is list):
        return data
    flat: list[Any] = data
    inner = shape[1:]
    while len(flat) == prod(shape[: len(shape) - len(inner)]):
        if not inner:
            return flat
        if not all(type(item) is list and len(item) == inner[0] for item in flat):
            break
        flat = list(chain.from_iterable(flat))
        inner = inner[1:]
    raise InputError(
        f"a list of {len(data)} does not have the shape {shape}",
        where=f"{where}.data",
        remedy=f"send {size} values, or lists nested like the shape",
    )


def declared(datatype: str, values: list[Any], where: str) -> list[Any]:
    """JSON values of a tensor that was called ``datatype``, as its binary form would carry them.

    Null, and what is no number, are left to the checks of the input.

    Raises:
        InputError: a number is none of ``datatype``.
    """
    dtype = _NUMPY[datatype]
    kinds = set(map(type, values))
    if dtype.kind == "f":
        # Another kind of value is refused by those checks.
        return _rounded(datatype, values, where) if kinds <= _REAL_OR_NULL else values
    limits = np.iinfo(dtype)
    if kinds == {int} and limits.min <= min(values) and max(values) <= limits.max:
        return values
    for index, value in enumerate(values):
        whole = type(value) is int or (type(value) is float and value.is_integer())
        if type(value) in _REAL and not (whole and limits.min <= value <= limits.max):
            raise InputError(
                f"{_number(value)} is no {datatype}",
                where=f"{where}[{index}]",
                remedy=f"send an integer from {limits.min} to {limits.max}, or name its datatype",
            )
    return values


def tensor_shape(field: Field, shape: Any, where: str) -> list[int]:
    """The shape of a tensor as it came: ``[rows, *shape]``, for a column also ``[rows, 1]``.

    Raises:
        InputError: it is not that of the input.
    """
    wanted = list(field.shape)
    if (
        type(shape) is not list
        or not all(type(size) is int and size >= 0 for size in shape)
        or (shape[1:] != wanted and (wanted or shape[1:] != [1]))
        or not shape
    ):
        sizes = ", ".join(["rows", *map(str, wanted)])
        raise InputError(
            f"{shown(shape)} is not its shape",
            where=f"{where}.shape",
            remedy=f"send [{sizes}]",
        )
    return shape


def shown(value: Any) -> str:
    """A short name of what JSON said, however long or deep."""
    if type(value) is str:
        return repr(value[:60])
    if type(value) is dict:
        return "an object"
    if type(value) is list and (len(value) > 8 or any(type(item) in _LONG for item in value)):
        return f"a list of {len(value)}"
    return orjson.dumps(value).decode()


def _rounded(datatype: str, values: list[Any], where: str) -> list[Any]:
    """Numbers, and nulls among them, in the precision of ``datatype``."""
    try:
        array = np.array(values, np.float64)
    except OverflowError:
        array = np.array([_float(value) for value in values])
    with np.errstate(over="ignore"):
        rounded = array.astype(_NUMPY[datatype])
    if np.isinf(rounded).any():
        index = int(np.argmax(np.isinf(rounded)))
        raise InputError(
            f"{_number(values[index])} does not fit into {datatype}",
            where=f"{where}[{index}]",
            remedy="send a smaller number, or name its datatype",
        )
    plain: list[Any] = rounded.tolist()
    if None in values:
        return [
            each if value is not None else None for value, each in zip(values, plain, strict=True)
        ]
    return plain


def _float(value: float | None) -> float:
    try:
        return nan if value is None else float(value)
    except OverflowError:
        return inf


def _number(value: float) -> str:
    """A number for a person: a long integer by its length."""
    if type(value) is int and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)


def _texts(data: memoryview, count: int, where: str) -> list[str]:
    """The elements of a tensor of BYTES."""
    body = bytes(data)
    end = len(body)
    texts: list[str] = []
    place = 0
    while place < end and len(texts) < count:
        begin = place + _LENGTH
        place = begin + int.from_bytes(body[place:begin], "little")
        if begin > end or place > end:
            raise InputError(
                f"element {len(texts)} ends after the data: {place} bytes where there are {end}",
                where=where,
                remedy="send four bytes of length, little-endian, before each element",
            )
        try:
            texts.append(body[begin:place].decode())
        except UnicodeDecodeError:
            raise InputError(
                f"{body[begin:place][:60]!r} is no UTF-8",
                where=f"{where}[{len(texts)}]",
                remedy="send valid UTF-8",
            ) from None
    if len(texts) != count or place != end:
        raise InputError(
            f"{len(texts)} elements in {place} of {end} bytes where the shape says {count}",
            where=where,
            remedy="send as many elements as the shape says",
        )
    return texts
