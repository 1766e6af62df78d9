"""``POST /invocations``: MLflow's scoring server and a SageMaker container in one.

Their paths are the same and their bodies do not collide: the content type and, in JSON, the keys
say whose language it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError, InputError
from headgate.predictor import Batch, Outputs, rows_to_batch
from headgate.serving.http import Head, MediaTypeError, accept_plain, check_rows
from headgate.serving.protocols import mlflow, sagemaker
from headgate.serving.protocols.csv_rows import csv_to_batch
from headgate.serving.protocols.npy import npy_to_batch
from headgate.serving.protocols.v1 import one_or_many
from headgate.serving.surface import Asked, Told

if TYPE_CHECKING:
    from headgate.serving.model import Model

__all__ = ["Invocations"]

_HEADER = {"present": True, "absent": False}
"""The parameter of ``text/csv``: https://www.rfc-editor.org/rfc/rfc4180#section-3"""


class Invocations:
    """Rows in any form that the two have; predictions out."""

    name = "invocations"

    def __init__(self, model: Model) -> None:
        """The same for every request of ``model``."""
        self._signature = model.signature
        self._max_rows = model.max_rows
        self._predicted = mlflow.Predicted(model)
        self._readers: dict[str, Callable[[bytes, dict[str, str]], Batch]] = {
            # curl sends it unless told otherwise, and means JSON.
            "application/x-www-form-urlencoded": self._json,
            "": self._json,
        }
        readers = {
            "application/json": self._json,
            sagemaker.CSV: self._csv,
            sagemaker.LINES: self._lines,
            sagemaker.NPY: self._array,
        }
        self._readers |= {name: readers[kind] for name, kind in sagemaker.TYPES.items()}

    def accept(self, head: Head) -> None:
        """See :class:`headgate.serving.surface.Surface`."""
        kind, parameters = _media_type(head)
        if kind not in self._readers or parameters.get("charset", "utf-8") not in {"utf-8", "utf8"}:
            raise MediaTypeError(
                f"{head[b'content-type'][:60].decode('latin-1')!r} is not understood",
                where="header Content-Type",
                remedy=f"send {', '.join(dict.fromkeys(sagemaker.TYPES.values()))}; text in UTF-8",
            )
        accept_plain(head)
        self._wanted(head)

    def decode(self, body: bytes, head: Head) -> Asked:
        """See :class:`headgate.serving.surface.Surface`."""
        kind, parameters = _media_type(head)
        batch = self._readers[kind](body, parameters)
        return Asked(batch, len(next(iter(batch.values()))), self._wanted(head))

    def encode(self, outputs: Outputs, asked: Asked) -> bytes | Told:
        """See :class:`headgate.serving.surface.Surface`."""
        return sagemaker.answer(self._predicted, outputs, asked.details)

    def problem(self, error: HeadgateError) -> bytes:
        """See :class:`headgate.serving.surface.Surface`."""
        return mlflow.problem(error)

    def _json(self, body: bytes, parameters: dict[str, str]) -> Batch:
        del parameters
        request = mlflow.loads_with_nan(body)
        signature = self._signature
        if type(request) is list:
            rows = one_or_many(signature, request)
            check_rows(len(rows), self._max_rows)
            rows = sagemaker.rows_by_position(signature, rows)
            return rows_to_batch(signature, rows, where="body")
        if type(request) is dict and _holds_features(request.get("instances")):
            rows = sagemaker.rows_by_position(signature, request["instances"])
            request = {**request, "instances": rows}
        return mlflow.json_to_batch(signature, request, self._max_rows)

    def _csv(self, body: bytes, parameters: dict[str, str]) -> Batch:
        header = parameters.get("header")
        if header is not None and header not in _HEADER:
            raise InputError(
                f"header={header[:20]} says nothing",
                where="header Content-Type",
                remedy="send header=present or header=absent, or leave it out",
            )
        known = None if header is None else _HEADER[header]
        return csv_to_batch(self._signature, body, self._max_rows, header=known)

    def _lines(self, body: bytes, parameters: dict[str, str]) -> Batch:
        del parameters
        return sagemaker.lines_to_batch(self._signature, body, self._max_rows)

    def _array(self, body: bytes, parameters: dict[str, str]) -> Batch:
        del parameters
        return npy_to_batch(self._signature, body, self._max_rows)

    def _wanted(self, head: Head) -> str:
        return sagemaker.accepted(head, single=self._predicted.single is not None)


def _media_type(head: Head) -> tuple[str, dict[str, str]]:
    """The type of a body, and its parameters."""
    value = head.get(b"content-type", b"").decode("latin-1").lower()
    kind, *pairs = value.split(";")
    kind = kind.strip()
    if kind.endswith("+json"):
        kind = "application/json"
    found = (pair.partition("=") for pair in pairs)
    return kind, {name.strip(): value.strip(' "') for name, _, value in found}


def _holds_features(rows: Any) -> bool:
    """Whether rows are told as SageMaker's algorithms do."""
    if type(rows) is not list or not rows or type(rows[0]) is not dict:
        return False
    return rows[0].keys() <= {"features"} or rows[0].keys() <= {"data"}
