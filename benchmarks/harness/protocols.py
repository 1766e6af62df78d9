"""What is sent to each kind of endpoint, and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.harness.forest import INPUT, NAME, Rows
from headgate.serving.grpc.messages import message

__all__ = [
    "Kind",
    "Target",
    "WrongAnswerError",
    "body_of",
    "check_answers",
    "headers_of",
    "probabilities_of",
]

Kind = Literal["tensors", "binary", "instances", "messages", "calls", "array"]
"""``tensors``: the Open Inference Protocol, in JSON; ``binary``: its binary tensors, both ways; ``instances``: V1 and Headgate's typed endpoints;
``messages``: the same over a WebSocket, one connection with many of them in flight;
``calls``: the Open Inference Protocol over gRPC, raw contents as Triton's clients send them;
``array``: instances in, a bare array of probabilities out (BentoML's NumPy endpoints)."""
TOLERANCE = 1e-5


class WrongAnswerError(Exception):
    """A server predicts something else than the model."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """An endpoint that is measured."""

    name: str
    path: str
    kind: Kind
    batch: int = 1
    """Rows of a request."""
    connections: tuple[int, ...] = (1, 16, 64)
    """At most these."""


def body_of(kind: Kind, rows: Rows) -> bytes:
    """A request for these rows."""
    if kind == "calls":
        return _call(rows)
    if kind == "binary":
        return _described(rows) + _raw(rows)
    if kind != "tensors":
        return orjson.dumps({"instances": rows}, option=orjson.OPT_SERIALIZE_NUMPY)
    tensor = {
        "name": INPUT,
        "shape": list(rows.shape),
        "datatype": "FP32",
        "data": np.ascontiguousarray(rows).reshape(-1),
    }
    return orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)


def headers_of(kind: Kind, rows: Rows) -> Mapping[str, str]:
    """Of a request for as many rows."""
    if kind != "binary":
        return {"content-type": "application/json"}
    return {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(_described(rows))),
    }


def probabilities_of(kind: Kind, answer: bytes) -> npt.NDArray[np.float64]:
    """The probabilities in an answer, ``(n, 2)``.

    Raises:
        WrongAnswerError: it holds none, or labels that are not their likeliest class.
    """
    try:
        told = answer if kind in ("calls", "binary") else orjson.loads(answer)
        labels, probabilities = _READERS[kind](told)
        likely = np.array(probabilities, dtype=np.float64).reshape(-1, 2)
        same = labels is None or np.array_equal(np.ravel(labels), likely.argmax(axis=1))
    except (ValueError, KeyError, TypeError) as error:
        raise WrongAnswerError(f"{answer[:200]!r} ({error})") from None
    if not same:
        raise WrongAnswerError(f"{answer[:200]!r}: the label is not the likeliest class")
    return likely


def check_answers(
    target: Target,
    rows: Rows,
    expected: Rows,
    ask: Callable[[bytes, Mapping[str, str]], bytes],
) -> None:
    """Send each row by itself; raise :class:`WrongAnswerError` at the first wrong answer."""
    for index in range(len(rows)):
        row = rows[index : index + 1]
        answer = ask(body_of(target.kind, row), headers_of(target.kind, row))
        got = probabilities_of(target.kind, answer)
        if got.shape != (1, 2) or np.abs(got[0] - expected[index]).max() > TOLERANCE:
            raise WrongAnswerError(
                f"{target.name} answers row {index} with {got.tolist()}, "
                f"the model with {expected[index].tolist()}"
            )


def _tensors(told: Any) -> tuple[Any, Any]:
    data = {tensor["name"]: tensor["data"] for tensor in told["outputs"]}
    return data["label"], data["probabilities"]


def _described(rows: Rows) -> bytes:
    """What comes before the binary tensor."""
    size = {"binary_data_size": 4 * rows.size}
    tensor = {"name": INPUT, "shape": list(rows.shape), "datatype": "FP32", "parameters": size}
    return orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})


def _raw(rows: Rows) -> bytes:
    return np.ascontiguousarray(rows, "<f4").tobytes()


def _binary(answer: bytes) -> tuple[Any, Any]:
    # Read as if every byte were a character, to see where the JSON ends.
    told, place = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
    found = {}
    for tensor in told["outputs"]:
        end = place + tensor["parameters"]["binary_data_size"]
        found[tensor["name"]] = np.frombuffer(answer[place:end], _DTYPES[tensor["datatype"]])
        place = end
    return found["label"], found["probabilities"]


def _instances(told: Any) -> tuple[Any, Any]:
    rows = told["predictions"]
    return [row["label"] for row in rows], [row["probabilities"] for row in rows]


def _call(rows: Rows) -> bytes:
    request = message("inference.ModelInferRequest")(model_name=NAME)
    request.inputs.add(name=INPUT, datatype="FP32", shape=rows.shape)
    request.raw_input_contents.append(_raw(rows))
    content: bytes = request.SerializeToString()
    return content


def _calls(answer: bytes) -> tuple[Any, Any]:
    """Raw or typed: not everybody answers as he was asked."""
    told = message("inference.ModelInferResponse").FromString(answer)
    found = {}
    for index, output in enumerate(told.outputs):
        if told.raw_output_contents:
            content = told.raw_output_contents[index]
            found[output.name] = np.frombuffer(content, _DTYPES[output.datatype])
        else:
            values = [*output.contents.int64_contents, *output.contents.fp32_contents]
            found[output.name] = np.array(values)
    return found["label"], found["probabilities"]


def _array(told: Any) -> tuple[Any, Any]:
    return None, told


_DTYPES = {"INT64": "<i8", "FP32": "<f4"}
_READERS: dict[Kind, Callable[[Any], tuple[Any, Any]]] = {
    "tensors": _tensors,
    "binary": _binary,
    "instances": _instances,
    "messages": _instances,
    "calls": _calls,
    "array": _array,
}
