"""Requests and answers of the Open Inference Protocol's binary form, made by its words alone."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import numpy as np

from headgate.predictor import Field, Signature

KINDS = {
    "bool": ("BOOL", "?"),
    "uint8": ("UINT8", "u1"),
    "int32": ("INT32", "<i4"),
    "int64": ("INT64", "<i8"),
    "float32": ("FP32", "<f4"),
    "float64": ("FP64", "<f8"),
    "string": ("BYTES", ""),
}
HEADER = "inference-header-content-length"


def packed(texts: list[str | bytes]) -> bytes:
    """BYTES: each element behind its length."""
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    return b"".join(struct.pack("<I", len(each)) + each for each in raw)


def unpacked(data: bytes) -> list[str]:
    texts, place = [], 0
    while place < len(data):
        (size,) = struct.unpack_from("<I", data, place)
        texts.append(data[place + 4 : place + 4 + size].decode())
        place += 4 + size
    return texts


def tensor(field: Field, values: list[Any], *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """One input: what the JSON says, and what follows it."""
    datatype, dtype = KINDS[field.dtype]
    flat = np.array(values, dtype=object).reshape(-1).tolist()
    told: dict[str, Any] = {"name": field.name, "datatype": datatype}
    told["shape"] = [len(values), *field.shape]
    # Neither a string that is missing nor an integer that is has a binary form.
    if not binary or (field.dtype == "string" and None in flat):
        return {**told, "data": flat}, b""
    data = packed(flat) if field.dtype == "string" else np.array(flat, dtype).tobytes()
    return {**told, "parameters": {"binary_data_size": len(data)}}, data


def infer_body(
    signature: Signature, columns: dict[str, list[Any]], *, binary: bool
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request for all outputs."""
    made = [tensor(field, columns[field.name], binary=binary) for field in signature.inputs]
    request: dict[str, Any] = {"inputs": [told for told, _ in made]}
    if not binary:
        return json.dumps(request).encode(), {"content-type": "application/json"}
    request["parameters"] = {"binary_data_output": True}
    return body_of(request, *(data for _, data in made))


def body_of(request: dict[str, Any], *data: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(request).encode()
    return b"".join([head, *data]), {HEADER: str(len(head))}


def infer_outputs(answer: httpx.Response) -> dict[str, Any]:
    """The outputs of a binary answer, lists by name."""
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[HEADER])
    told, place, found = json.loads(answer.content[:length]), length, {}
    kinds = dict(KINDS.values())
    for output in told["outputs"]:
        size = output["parameters"]["binary_data_size"]
        data = answer.content[place : place + size]
        place += size
        assert "data" not in output
        if output["datatype"] == "BYTES":
            flat: Any = np.array(unpacked(data), dtype=object)
        else:
            flat = np.frombuffer(data, kinds[output["datatype"]])
        found[output["name"]] = flat.reshape(output["shape"]).tolist()
    assert place == len(answer.content)
    return found
