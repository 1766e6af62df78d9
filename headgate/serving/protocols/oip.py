"""The Open Inference Protocol, version 2: REST with tensors in JSON, or in binary after it.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md

A column of a table is a tensor of shape ``[rows]`` or ``[rows, 1]``. Data may be flat, row by row,
or nested like the shape. JSON null stands for a missing value where the input is nullable; in
binary NaN does, and a string cannot be missing. A number is what the declared datatype holds, in
JSON as in binary.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import orjson

from headgate.errors import HeadgateError, InputError
from headgate.predictor import Array, Batch, Field, Outputs, values_to_array
from headgate.serving.http import Head, MediaTypeError, accept_json, accept_plain, check_rows, loads
from headgate.serving.protocols.asking import check_output, input_field, rows_of
from headgate.serving.protocols.oip_binary import BINARY, JSON_BYTES, Blobs, json_length
from headgate.serving.protocols.tensors import (
    DATATYPES,
    declared,
    flattened,
    from_binary,
    item_bytes,
    shown,
    tensor_shape,
    to_binary,
)
from headgate.serving.surface import Asked, Told

if TYPE_CHECKING:
    from headgate.serving.model import Model

__all__ = ["Tensors", "problem"]

# Clients of KServe name the model in the body too; the path is what counts.
_KNOWN = {"id", "parameters", "inputs", "outputs", "model_name", "model_version"}
_TENSOR = {"name", "shape", "datatype", "parameters", "data"}
_DATA = b'"data":'
_ID = (str, type(None))
_NONE: frozenset[str] = frozenset()
_EVERY: tuple[Any, ...] = (None, [])
"""``outputs`` of a request that wants them all."""
_REMEDY = 'send {"inputs": [{"name", "shape", "datatype", "data"}, …]}'


_Wanted: TypeAlias = tuple[str | None, list[str], frozenset[str]]
"""How a request wants its answer: its id, the outputs, and those in binary among them."""


class Tensors:
    """Tensors in, tensors out."""

    name = "oip"

    def __init__(self, model: Model) -> None:
        """The same for every request of ``model``."""
        signature = model.signature
        self._max_rows = model.max_rows
        self._fields = {field.name: field for field in signature.inputs}
        self._names = [field.name for field in signature.outputs]
        self._head = orjson.dumps(
            {
                "model_name": model.name,
                "model_version": model.version,
                "parameters": {"release": model.release},
            }
        )[:-1]
        self._tensors = {
            field.name: (
                b'{"name":%b,"datatype":"%b","shape":['
                % (orjson.dumps(field.name), DATATYPES[field.dtype].encode()),
                b"".join(b",%d" % size for size in field.shape) + b"]," + _DATA,
            )
            for field in signature.outputs
        }

    def accept(self, head: Head) -> None:
        """See :class:`headgate.serving.surface.Surface`."""
        try:
            accept_json(head)
        except MediaTypeError:
            # Triton's asynchronous client calls all that it sends bytes, JSON too.
            if JSON_BYTES not in head and head.get(b"content-type") != BINARY[1]:
                raise
            accept_plain(head)

    def decode(self, body: bytes, head: Head) -> Asked:
        """See :class:`headgate.serving.surface.Surface`."""
        blobs = None
        text: bytes | memoryview = body
        if JSON_BYTES in head:
            length = json_length(head[JSON_BYTES], body)
            if length == 0:
                return self._raw(body)
            text, blobs = memoryview(body)[:length], Blobs(body, length)
        request = loads(text)
        if type(request) is not dict or type(request.get("inputs")) is not list:
            raise InputError("there is no list of inputs", where="body", remedy=_REMEDY)
        if not _KNOWN.issuperset(request):
            extra = next(name for name in request if name not in _KNOWN)
            raise InputError(f"{extra[:60]!r} is unknown", where="body", remedy=_REMEDY)
        batch: Batch = {}
        for index, tensor in enumerate(request["inputs"]):
            self._take(tensor, f"inputs[{index}]", batch, blobs)
        if blobs is not None:
            blobs.close()
        return Asked(batch, rows_of(self._fields, batch), self._wanted(request))

    def encode(self, outputs: Outputs, asked: Asked) -> bytes | Told:
        """See :class:`headgate.serving.surface.Surface`."""
        request_id, wanted, binary = asked.details
        rows = b"%d" % asked.rows
        parts = []
        blobs: list[bytes | memoryview] = []
        for name in wanted:
            array = outputs[name]
            before, after = self._tensors[name]
            if binary and name in binary:
                blobs.append(to_binary(array))
                size = b'"parameters":{"binary_data_size":%d}}' % len(blobs[-1])
                parts.append(before + rows + after.removesuffix(_DATA) + size)
                continue
            flat = array.reshape(-1)
            data = flat.tolist() if flat.dtype.kind == "O" else np.ascontiguousarray(flat)
            content = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
            parts.append(before + rows + after + content + b"}")
        told = self._head
        if request_id is not None:
            told += b',"id":' + orjson.dumps(request_id)
        told += b',"outputs":[' + b",".join(parts) + b"]}"
        if not blobs:
            return told
        length = (JSON_BYTES, b"%d" % len(told))
        return Told(b"".join([told, *blobs]), [BINARY, length])

    def problem(self, error: HeadgateError) -> bytes:
        """See :class:`headgate.serving.surface.Surface`."""
        return problem(error)

    def _take(self, tensor: Any, where: str, batch: Batch, blobs: Blobs | None) -> None:
        """Add one tensor of the request to the batch."""
        if type(tensor) is not dict or not _TENSOR.issuperset(tensor):
            raise InputError("not a tensor", where=where, remedy=_REMEDY)
        name, datatype = tensor.get("name"), tensor.get("datatype")
        field = input_field(self._fields, name, datatype, batch, where)
        data = tensor.get("data")
        if type(data) is not list:
            batch[field.name] = self._binary(field, tensor, where, blobs)
            return
        shape = tensor_shape(field, tensor.get("shape"), where)
        check_rows(shape[0], self._max_rows)
        if "parameters" in tensor and "shared_memory_region" in _parameters(tensor):
            raise _shared(where)
        place = f"{where}.data"
        values = flattened(data, shape, where)
        if datatype != DATATYPES[field.dtype]:
            values = declared(tensor["datatype"], values, place)
        array = values_to_array(field, values, where=place)
        batch[field.name] = array.reshape(shape) if field.shape else array

    def _binary(
        self, field: Field, tensor: dict[str, Any], where: str, blobs: Blobs | None
    ) -> Array:
        """A tensor whose data is no list."""
        parameters = _parameters(tensor)
        if "shared_memory_region" in parameters:
            raise _shared(where)
        if "binary_data_size" not in parameters or tensor.get("data") is not None:
            raise InputError(
                "it holds no list",
                where=f"{where}.data",
                remedy="send the values as a JSON list, or behind the JSON with binary_data_size",
            )
        if blobs is None:
            raise InputError(
                "the tensor is binary, and nothing says where the JSON ends",
                where=where,
                remedy="send the header Inference-Header-Content-Length",
            )
        shape = tensor_shape(field, tensor.get("shape"), where)
        check_rows(shape[0], self._max_rows)
        data = blobs.take(parameters["binary_data_size"], where)
        return from_binary(field, tensor["datatype"], data, shape, f"{where}.data")

    def _raw(self, body: bytes) -> Asked:
        """A body that is the only input's data and nothing else; the answer is binary too."""
        field = next(iter(self._fields.values()))
        item = item_bytes(field)
        if len(self._fields) > 1 or item is None:
            raise InputError(
                "a body without JSON is for a model of one input of numbers",
                where="header Inference-Header-Content-Length",
                remedy=_REMEDY,
            )
        row = item * prod(field.shape)
        rows, rest = divmod(len(body), row)
        if rest or not rows:
            raise InputError(
                f"{len(body)} bytes are no whole rows",
                where="body",
                remedy=f"send {row} bytes a row",
            )
        check_rows(rows, self._max_rows)
        shape = [rows, *field.shape]
        array = from_binary(field, DATATYPES[field.dtype], memoryview(body), shape, "body")
        return Asked({field.name: array}, rows, (None, self._names, frozenset(self._names)))

    def _wanted(self, request: dict[str, Any]) -> _Wanted:
        request_id = request.get("id")
        if type(request_id) not in _ID:
            raise InputError(f"{shown(request_id)} is no id", where="id", remedy="send a string")
        binary = "parameters" in request and _parameters(request).get("binary_data_output") is True
        outputs = request.get("outputs")
        if outputs:
            chosen = self._chosen(outputs, binary=binary)
            return request_id, list(chosen), frozenset(name for name in chosen if chosen[name])
        if outputs not in _EVERY:
            raise _no_list(outputs)
        return request_id, self._names, frozenset(self._names) if binary else _NONE

    def _chosen(self, outputs: Any, *, binary: bool) -> dict[str, bool]:
        """The outputs that are asked for, and whether in binary."""
        if type(outputs) is not list:
            raise _no_list(outputs)
        chosen: dict[str, bool] = {}
        for index, output in enumerate(outputs):
            where = f"outputs[{index}]"
            name: Any = output.get("name") if type(output) is dict else None
            parameters = _parameters(output) if type(output) is dict else {}
            check_output(self._names, name, chosen, parameters, where)
            chosen[name] = parameters.get("binary_data", binary) is True
        return chosen


def problem(error: HeadgateError) -> bytes:
    """The body of an error."""
    return orjson.dumps({"error": str(error)})


def _shared(where: str) -> InputError:
    return InputError(
        "shared memory is not read here",
        where=where,
        remedy="leave shared_memory_region out, and send the data itself",
    )


def _no_list(outputs: Any) -> InputError:
    return InputError(
        f"{shown(outputs)} is no list", where="outputs", remedy='send [{"name": output}, …]'
    )


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    found = of.get("parameters")
    return found if type(found) is dict else {}
