"""Bodies of the Open Inference Protocol that are JSON first and binary tensors after it.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

from __future__ import annotations

from typing import Any

from headgate.errors import InputError
from headgate.serving.protocols.tensors import shown

__all__ = ["BINARY", "JSON_BYTES", "Blobs", "json_length"]

JSON_BYTES = b"inference-header-content-length"
"""The header that says how much of a body is JSON; 0 where nothing is."""
BINARY = (b"content-type", b"application/octet-stream")


class Blobs:
    """What follows the JSON, taken tensor by tensor."""

    def __init__(self, body: bytes, begin: int) -> None:
        """``begin`` is where the JSON ends."""
        self._data = memoryview(body)
        self._place = begin

    def take(self, size: Any, where: str) -> memoryview:
        """The next ``size`` bytes; ``where`` is the tensor that they are of.

        Raises:
            InputError: that is no number of bytes, or more than there are.
        """
        left = len(self._data) - self._place
        if type(size) is not int or not 0 <= size <= left:
            raise InputError(
                f"{shown(size)} bytes are wanted, {left} are there",
                where=f"{where}.parameters.binary_data_size",
                remedy="send the tensors one after the other behind the JSON, each of its size",
            )
        self._place += size
        return self._data[self._place - size : self._place]

    def close(self) -> None:
        """Hold that nothing is left."""
        if left := len(self._data) - self._place:
            raise InputError(
                f"{left} bytes belong to no tensor",
                where="body",
                remedy="say in binary_data_size how many bytes each tensor has",
            )


def json_length(value: bytes, body: bytes) -> int:
    """How many bytes of the body are JSON, as the header says.

    Raises:
        InputError: it says no such number.
    """
    if not value.isdigit() or len(value) > 18 or int(value) > len(body):
        raise InputError(
            f"{shown(value.decode('latin-1'))} where the body has {len(body)} bytes",
            where="header Inference-Header-Content-Length",
            remedy="send how many bytes of the body are JSON",
        )
    return int(value)
