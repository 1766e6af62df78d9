"""``ModelInferRequest`` to a batch, and outputs to ``ModelInferResponse``, for one model."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.errors import InputError
from headgate.predictor import Array, Batch, Field, Outputs
from headgate.serving.grpc.contents import from_contents, to_contents
from headgate.serving.grpc.messages import message
from headgate.serving.http import check_rows
from headgate.serving.protocols.asking import check_output, input_field, rows_of
from headgate.serving.protocols.tensors import DATATYPES, from_binary, tensor_shape, to_binary
from headgate.serving.surface import Asked

if TYPE_CHECKING:
    from headgate.serving.model import Model

__all__ = ["Codec", "Details"]

_Response: Any = message("inference.ModelInferResponse")
_ID = b"\x1a"
"""Of the field ``id``: its number, 3, and that a length follows."""
_RAW = b"\x32"
"""The same of ``raw_output_contents``, 6."""


class Details(NamedTuple):
    """How a request wants its answer."""

    id: str
    outputs: tuple[str, ...]
    raw: bool


class Codec:
    """Reads and writes what is said about one model. Who sends raw contents is answered so."""

    def __init__(self, model: Model) -> None:
        """The same for every request of ``model``."""
        signature = model.signature
        self._max_rows = model.max_rows
        self._fields = {field.name: field for field in signature.inputs}
        self._outputs = {field.name: field for field in signature.outputs}
        self._names = tuple(self._outputs)
        self._head = _Response(model_name=model.name, model_version=model.version)
        self._head.parameters["release"].string_param = model.release
        self._lead = lru_cache(maxsize=256)(self._make_lead)

    def decode(self, request: Any) -> Asked:
        """A valid request for this model.

        Raises:
            InputError: whatever is wrong with it.
        """
        inputs, raws = request.inputs, request.raw_input_contents
        if raws and len(raws) != len(inputs):
            raise InputError(
                f"{len(raws)} raw contents for {len(inputs)} inputs",
                where="raw_input_contents",
                remedy="send one for each input, in their order; shared memory is not read here",
            )
        batch: Batch = {}
        for index, tensor in enumerate(inputs):
            where = f"inputs[{index}]"
            field = input_field(self._fields, tensor.name, tensor.datatype, batch, where)
            shape = tensor_shape(field, list(tensor.shape), where)
            check_rows(shape[0], self._max_rows)
            if raws:
                batch[field.name] = _raw(field, tensor, raws[index], shape, index)
            else:
                batch[field.name] = _typed(field, tensor, shape, where)
        rows = rows_of(self._fields, batch)
        outputs = self._wanted(request.outputs) if request.outputs else self._names
        return Asked(batch, rows, Details(request.id, outputs, bool(raws)))

    def encode(self, outputs: Outputs, asked: Asked) -> bytes:
        """The answer, serialized."""
        details: Details = asked.details
        if not details.raw:
            return self._typed(outputs, asked.rows, details)
        # By hand: a message object takes ten times as long, and holds nothing else.
        parts: list[bytes | memoryview] = [self._lead(asked.rows, details.outputs)]
        if details.id:
            told = details.id.encode()
            parts += (_ID, _varint(len(told)), told)
        for name in details.outputs:
            data = to_binary(outputs[name])
            parts += (_RAW, _varint(len(data)), data)
        return b"".join(parts)

    def _typed(self, outputs: Outputs, rows: int, details: Details) -> bytes:
        response = _Response.FromString(self._lead(rows, details.outputs))
        response.id = details.id
        for name, tensor in zip(details.outputs, response.outputs, strict=True):
            to_contents(tensor.datatype, outputs[name], tensor.contents)
        content: bytes = response.SerializeToString()
        return content

    def _make_lead(self, rows: int, outputs: tuple[str, ...]) -> bytes:
        """What answers of so many rows begin with: all but the id and the data."""
        response = _Response()
        response.CopyFrom(self._head)
        for name in outputs:
            field = self._outputs[name]
            response.outputs.add(
                name=name, datatype=DATATYPES[field.dtype], shape=[rows, *field.shape]
            )
        content: bytes = response.SerializeToString()
        return content

    def _wanted(self, outputs: Any) -> tuple[str, ...]:
        chosen: dict[str, None] = {}
        for index, output in enumerate(outputs):
            where = f"outputs[{index}]"
            check_output(self._names, output.name, chosen, output.parameters, where)
            chosen[output.name] = None
        return tuple(chosen)


def _raw(field: Field, tensor: Any, data: bytes, shape: list[int], index: int) -> Array:
    if tensor.HasField("contents"):
        raise InputError(
            "contents beside raw contents",
            where=f"inputs[{index}].contents",
            remedy="send all inputs typed, or all raw",
        )
    where = f"raw_input_contents[{index}]"
    return from_binary(field, tensor.datatype, memoryview(data), shape, where)


def _typed(field: Field, tensor: Any, shape: list[int], where: str) -> Array:
    if not tensor.HasField("contents") and "shared_memory_region" in tensor.parameters:
        raise InputError(
            "shared memory is not read here", where=where, remedy="send the data itself"
        )
    return from_contents(field, tensor.datatype, tensor.contents, shape, f"{where}.contents")


def _varint(number: int) -> bytes:
    """A length as protobuf writes it."""
    if number < 128:
        return bytes((number,))
    encoded = bytearray()
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
