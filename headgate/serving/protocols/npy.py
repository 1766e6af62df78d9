"""Arrays in NumPy's file format, as SageMaker's clients of scikit-learn and PyTorch send them.

Read without ``numpy.load``: nothing is unpickled, and nothing is allocated that the body does not
hold. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
from math import prod

import numpy as np
from numpy.lib import format as npy

from headgate.errors import InputError
from headgate.predictor import Array, Batch, Signature, checked_array
from headgate.serving.http import check_rows

__all__ = ["array_to_npy", "npy_to_batch"]

_MOST_DIMENSIONS = 8


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
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as error:  # noqa: BLE001 - whatever parsing a hostile header raises
        raise InputError(
            f"no array of NumPy: {str(error)[:100]!r}",
            where="body",
            remedy="send what np.save writes",
        ) from None
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
