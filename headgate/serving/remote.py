"""A model in a process of its own, as the entry service sees it.

Arrays travel as msgpack over a Unix socket that only the launcher's user can open: no pickle, and
nothing of it is reachable from outside.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np

from headgate.errors import OverloadError, ServingError
from headgate.predictor import Array, Batch, Manifest, Outputs, Reference, Replay, difference

__all__ = ["PREDICT", "RemotePredictor", "UnreachableError", "pack", "unpack"]

PREDICT = "/headgate/predict"
"""Where the process takes batches."""
_LIMIT = 64


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """One array: raw bytes, or a list where it holds strings."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes = b""
    strings: list[str | None] = []


def pack(arrays: Batch | Outputs) -> bytes:
    """Arrays by name, as bytes."""
    packed = {}
    for name, array in arrays.items():
        if array.dtype == object:
            values = [None if _is_null(value) else str(value) for value in array.reshape(-1)]
            packed[name] = _Packed("object", array.shape, strings=values)
        else:
            packed[name] = _Packed(
                array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes()
            )
    return msgspec.msgpack.encode(packed)


def unpack(body: bytes) -> dict[str, Array]:
    """What :func:`pack` packed; raises msgspec.DecodeError or ValueError where it did not."""
    arrays = {}
    for name, packed in msgspec.msgpack.decode(body, type=dict[str, _Packed]).items():
        if packed.dtype == "object":
            array = np.empty(len(packed.strings), dtype=object)
            array[:] = packed.strings
        else:
            # A copy, for what comes from bytes cannot be written to.
            array = np.frombuffer(packed.data, dtype=packed.dtype).copy()
        arrays[name] = array.reshape(packed.shape)
    return arrays


def _is_null(value: Any) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN


class UnreachableError(OverloadError):
    """The process of the model is not there just now; the launcher replaces it."""


class RemotePredictor:
    """Like :class:`headgate.predictor.Predictor`, but what predicts is awaited."""

    def __init__(self, manifest: Manifest, reference: Reference | None, address: str) -> None:
        """``address`` is ``file://`` and the path of a Unix socket, or ``tcp://host:port``."""
        self.manifest = manifest
        self.signature = manifest.signature
        self.engine = manifest.engine
        self.tolerance = manifest.tolerance
        self.reference = reference
        self._who = f"{manifest.ref.name} version {manifest.ref.version}"
        parts = urlsplit(address)
        self._socket = parts.path if parts.scheme == "file" else ""
        self._url = f"http://{parts.netloc or 'model'}{PREDICT}"
        self._session: aiohttp.ClientSession | None = None

    async def predict(self, batch: Batch) -> Outputs:
        """Predictions for a valid batch.

        Raises:
            UnreachableError: the process is not there.
            ServingError: its engine failed.
        """
        try:
            async with self._open().post(self._url, data=pack(batch)) as answer:
                body = await answer.read()
        except aiohttp.ClientError as error:
            raise self._unreachable(type(error).__name__) from None
        if answer.status == 503:  # from the launcher, which has no process to give it to
            raise self._unreachable("there is none")
        if answer.status != 200:
            raise ServingError(body.decode(errors="replace")[:500], where=self._who)
        return unpack(body)

    async def replay(self, rows: slice) -> Replay:
        """Have reference rows predicted and compare; raises ServingError as :meth:`predict`."""
        if self.reference is None:
            return Replay(0, 0, 0.0)
        part = self.reference.take(rows)
        found = difference(await self.predict(part.inputs), part.outputs, self.tolerance)
        return Replay(part.rows, int((~found.ok).sum()), float(found.largest.max(initial=0.0)))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _unreachable(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"its process does not answer ({why})",
            where=self._who,
            remedy="it is being replaced: try again in a few seconds",
        )

    def _open(self) -> aiohttp.ClientSession:
        # Made on first use: it belongs to the event loop that runs then.
        if self._session is None:
            connector: aiohttp.BaseConnector = aiohttp.TCPConnector(limit=_LIMIT)
            if self._socket:
                connector = aiohttp.UnixConnector(self._socket, limit=_LIMIT)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None, connect=5)
            )
        return self._session
