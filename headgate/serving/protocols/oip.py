"""The Open Inference Protocol, version 2: REST with tensors in JSON.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md

A column of a table is a tensor of shape ``[rows]`` or ``[rows, 1]``. Data may be flat, row by row,
or nested like the shape. JSON null stands for a missing value where the input is nullable.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from headgate.errors import HeadgateError, InputError
from headgate.predictor import Batch, Field, Outputs, values_to_array
from headgate.serving.http import check_rows, loads
from headgate.serving.surface import Asked

if TYPE_CHECKING:
    from headgate.serving.model import Model

__all__ = ["Tensors", "metadata", "server"]

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
_INTEGERS = {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"}
_NUMBERS = _INTEGERS | {"FP16", "FP32", "FP64"}
_ACCEPTED = {
    "bool": {"BOOL"},
    "string": {"BYTES"},
    "uint8": _INTEGERS,
    "int32": _INTEGERS,
    "int64": _INTEGERS,
    "float32": _NUMBERS,
    "float64": _NUMBERS,
}
_KNOWN = {"id", "parameters", "inputs", "outputs"}
_TENSOR = {"name", "shape", "datatype", "parameters", "data"}
_ID = (str, type(None))
_LONG = (str, list, dict)
_REMEDY = 'send {"inputs": [{"name", "shape", "datatype", "data"}, …]}'


class Tensors:
    """Tensors in, tensors out."""

    name = "oip"

    def __init__(self, model: Model) -> None:
        """The same for every request of ``model``."""
        signature = model.signature
        self._max_rows = model.max_rows
        self._fields = {field.name: field for field in signature.inputs}
        self._outputs = {field.name: field for field in signature.outputs}
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
                b"".join(b",%d" % size for size in field.shape) + b'],"data":',
            )
            for field in signature.outputs
        }

    def decode(self, body: bytes) -> Asked:
        """See :class:`headgate.serving.surface.Surface`."""
        request = loads(body)
        if type(request) is not dict or type(request.get("inputs")) is not list:
            raise InputError("there is no list of inputs", where="body", remedy=_REMEDY)
        if not _KNOWN.issuperset(request):
            extra = next(name for name in request if name not in _KNOWN)
            raise InputError(f"{extra[:60]!r} is unknown", where="body", remedy=_REMEDY)
        batch: Batch = {}
        for index, tensor in enumerate(request["inputs"]):
            self._take(tensor, f"inputs[{index}]", batch)
        rows = self._rows(batch)
        request_id = request.get("id")
        if type(request_id) not in _ID:
            raise InputError(f"{_shown(request_id)} is no id", where="id", remedy="send a string")
        return Asked(batch, rows, (request_id, self._wanted(request.get("outputs"))))

    def encode(self, outputs: Outputs, asked: Asked) -> bytes:
        """See :class:`headgate.serving.surface.Surface`."""
        request_id, wanted = asked.details
        rows = b"%d" % asked.rows
        parts = []
        for name in wanted:
            array = outputs[name]
            before, after = self._tensors[name]
            data = array.tolist() if array.dtype.kind == "O" else np.ascontiguousarray(array)
            flat = data if type(data) is list else data.reshape(-1)
            parts.append(
                before + rows + after + orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY) + b"}"
            )
        head = self._head
        if request_id is not None:
            head += b',"id":' + orjson.dumps(request_id)
        return head + b',"outputs":[' + b",".join(parts) + b"]}"

    def problem(self, error: HeadgateError) -> bytes:
        """See :class:`headgate.serving.surface.Surface`."""
        return orjson.dumps({"error": str(error)})

    def _take(self, tensor: Any, where: str, batch: Batch) -> None:
        """Add one tensor of the request to the batch."""
        if type(tensor) is not dict or not _TENSOR.issuperset(tensor):
            raise InputError("not a tensor", where=where, remedy=_REMEDY)
        name = tensor.get("name")
        field = self._fields.get(name) if type(name) is str else None
        if field is None:
            known = ", ".join(list(self._fields)[:20])
            raise InputError(
                f"input {_shown(name)} is unknown",
                where=f"{where}.name",
                remedy=f"known: {known}",
            )
        if name in batch:
            raise InputError(f"input {name!r} is there twice", where=where, remedy="send it once")
        datatype = tensor.get("datatype")
        if type(datatype) is not str or datatype not in _ACCEPTED[field.dtype]:
            raise InputError(
                f"{_shown(datatype)} is not what it takes",
                where=f"{where}.datatype",
                remedy=f"send {DATATYPES[field.dtype]}",
            )
        data = tensor.get("data")
        if type(data) is not list:
            binary = "binary_data_size" in _parameters(tensor)
            raise InputError(
                "binary tensors are not understood" if binary else "it holds no list",
                where=f"{where}.data",
                remedy="send the values as a JSON list",
            )
        shape = _shape(field, tensor.get("shape"), where)
        check_rows(shape[0], self._max_rows)
        array = values_to_array(field, _flattened(data, shape, where), where=f"{where}.data")
        batch[field.name] = array.reshape(shape) if field.shape else array

    def _rows(self, batch: Batch) -> int:
        """How many rows all the inputs have."""
        if len(batch) != len(self._fields):
            field = next(field for name, field in self._fields.items() if name not in batch)
            raise InputError(
                f"input {field.name!r} is missing",
                where="inputs",
                remedy=f"send a tensor of {DATATYPES[field.dtype]}",
            )
        counts = {len(array) for array in batch.values()}
        if counts == {0}:
            raise InputError("no rows", where="inputs", remedy="send at least one")
        if len(counts) > 1:
            found = ", ".join(f"{name} {len(array)}" for name, array in batch.items())
            raise InputError(
                f"inputs differ in their rows: {found}",
                where="inputs",
                remedy="send as many rows for every input",
            )
        return counts.pop()

    def _wanted(self, outputs: Any) -> list[str]:
        """The names of the outputs asked for."""
        if outputs is None:
            return list(self._outputs)
        if type(outputs) is not list:
            raise InputError(
                f"{_shown(outputs)} is no list",
                where="outputs",
                remedy='send [{"name": output}, …]',
            )
        names: list[str] = []
        for index, output in enumerate(outputs):
            name = output.get("name") if type(output) is dict else None
            if type(name) is not str or name not in self._outputs:
                raise InputError(
                    f"output {_shown(name)} is unknown",
                    where=f"outputs[{index}].name",
                    remedy=f"known: {', '.join(self._outputs)}",
                )
            if name in names:
                # A short list of many would make an answer as long as one likes.
                raise InputError(
                    f"output {name!r} is there twice",
                    where=f"outputs[{index}].name",
                    remedy="ask for it once",
                )
            if _parameters(output).get("binary_data"):
                raise InputError(
                    "binary tensors are not sent", where=f"outputs[{index}]", remedy="ask for JSON"
                )
            names.append(name)
        return names or list(self._outputs)


def _shape(field: Field, shape: Any, where: str) -> list[int]:
    wanted = list(field.shape)
    if (
        type(shape) is not list
        or not all(type(size) is int and size >= 0 for size in shape)
        or (shape[1:] != wanted and (wanted or shape[1:] != [1]))
        or not shape
    ):
        sizes = ", ".join(["rows", *map(str, wanted)])
        raise InputError(
            f"{_shown(shape)} is not its shape",
            where=f"{where}.shape",
            remedy=f"send [{sizes}]",
        )
    return shape


def _flattened(data: list[Any], shape: list[int], where: str) -> list[Any]:
    """Values row by row, as many as the shape says, nested like it or not at all."""
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


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    found = of.get("parameters")
    return found if type(found) is dict else {}


def _shown(value: Any) -> str:
    """A short name of what JSON said, however long or deep."""
    if type(value) is str:
        return repr(value[:60])
    if type(value) is dict:
        return "an object"
    if type(value) is list and (len(value) > 8 or any(type(item) in _LONG for item in value)):
        return f"a list of {len(value)}"
    return orjson.dumps(value).decode()


def metadata(model: Model) -> bytes:
    """``GET /v2/models/{name}``."""
    signature = model.signature
    return orjson.dumps(
        {
            "name": model.name,
            "versions": [model.version],
            "platform": f"headgate_{model.predictor.engine}",
            "inputs": [_described(field) for field in signature.inputs],
            "outputs": [_described(field) for field in signature.outputs],
            "parameters": {"release": model.release},
        }
    )


def server(release: str, models: Mapping[str, Model]) -> bytes:
    """``GET /v2``."""
    return orjson.dumps(
        {
            "name": "headgate",
            "version": release,
            "extensions": [],
            "parameters": {"models": ",".join(models)},
        }
    )


def _described(field: Field) -> dict[str, Any]:
    return {"name": field.name, "datatype": DATATYPES[field.dtype], "shape": [-1, *field.shape]}
