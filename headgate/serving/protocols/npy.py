"""Arrays in NumPy's file format, as SageMaker's clients of scikit-learn and PyTorch send them.

Read without ``numpy.load``: nothing is unpickled, and nothing is allocated that the body does not
hold. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy

from headgate.errors import InputError
from headgate.predictor import Array, Batch, Signature, checked_array
from headgate.serving.http import check_rows

__all__ = ["array_to_npy", "npy_to_batch"]

_MOST_DIMENSIONS = 8
_MAGIC = npy.MAGIC_LEN
_VERSIONS = {(1, 0), (2, 0), (3, 0)}


def npy_to_batch(signature: Signature, body: bytes, max_rows: int) -> Batch:
    """A batch of an array: the rows of the only input, or the columns of a table in their order.

    Raises:
        InputError: it is no such file, or not what the model takes.
    """
    array = _read(body)
    fields = signature.inputs
    if len(fields) > 1 and not signature.is_table:
        raise InputError("one array for several tensors", where="body", remedy="send JSON")
    # One row may come without the dimension of the rows.
    row = (len(fields),) if signature.is_table else fields[0].shape
    if array.shape == row:
        array = array[None]
    if array.shape[1:] != row:
        raise InputError(
            f"an array of shape {list(array.shape)}",
            where="body",
            remedy=f"send {['rows', *row]}".replace("'", ""),
        )
    check_rows(len(array), max_rows)
    if not len(array):
        raise InputError("no rows", where="body", remedy="send at least one")
    if not signature.is_table:
        return {fields[0].name: checked_array(fields[0], array, where=f"body.{fields[0].name}")}
    return {
        field.name: checked_array(
            field, np.ascontiguousarray(array[:, index]), where=f"body.{field.name}"
        )
        for index, field in enumerate(fields)
    }


def array_to_npy(array: Array) -> bytes:
    """The file of an output; strings have a fixed width in it."""
    buffer = io.BytesIO()
    plain = array.astype(np.str_) if array.dtype.kind == "O" else array
    npy.write_array(buffer, plain, allow_pickle=False)
    return buffer.getvalue()


def _read(body: bytes) -> Array:
    stream = io.BytesIO(body)
    shape, fortran, dtype = _header(stream)
    begin = stream.tell()
    if dtype.kind not in "biuf":
        raise InputError(f"an array of {dtype}", where="body", remedy="send an array of numbers")
    if len(shape) > _MOST_DIMENSIONS or min(shape, default=0) < 0:
        raise InputError(f"an array of {len(shape)} dimensions", where="body", remedy="send rows")
    if prod(shape) * dtype.itemsize != len(body) - begin:
        raise InputError(
            f"{len(body) - begin} bytes for {dtype} of shape {list(shape)}",
            where="body",
            remedy="send the whole array",
        )
    array: Array = np.ndarray(shape, dtype, body, begin, order="F" if fortran else "C")
    # Native and in order, which also leaves the body behind.
    return array.astype(dtype.newbyteorder("="), order="C")


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, and type; the stream is at the data then."""
    magic = stream.read(_MAGIC)
    if not magic.startswith(npy.MAGIC_PREFIX) or len(magic) < _MAGIC:
        raise _none("it does not begin as one does")
    version = (magic[-2], magic[-1])
    if version not in _VERSIONS:
        raise _none(f"version {version[0]}.{version[1]} of its format is unknown")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        found: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(stream)
    except Exception as error:  # noqa: BLE001 - whatever parsing a hostile header raises
        if str(error).startswith("EOF"):
            raise _none("it ends in its header") from None
        raise _none("its header does not say descr, fortran_order and shape") from None
    return found


def _none(reason: str) -> InputError:
    return InputError(
        f"no array of NumPy: {reason}", where="body", remedy="send what np.save writes"
    )
