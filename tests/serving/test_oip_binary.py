"""Binary tensors over REST: what Triton's and KServe's clients send, and what is no such thing."""

from __future__ import annotations

import gzip
import json
import struct
import zlib

import numpy as np
import pytest
from serving.asgi import serving_app
from serving.binary import HEADER, body_of, infer_body, infer_outputs, packed
from serving.echo import make_echoes
from serving.refusals import MAX_ROWS, OIP, OIP_X, X, refused, strict_root

from headgate.predictor import Field, Signature

DTYPES = {
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
NUMBERS = (
    Field(name="small", dtype="uint8"),
    Field(name="whole", dtype="int64"),
    Field(name="real", dtype="float32", nullable=True),
)
ECHO = "/v2/models/echo/infer"
LENGTH = "header Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(strict_root(tmp_path_factory.mktemp("strict"))) as asked:
        yield asked


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    models = {
        "echo": NUMBERS,
        "words": (Field(name="word", dtype="string"),),
        "flags": (Field(name="on", dtype="bool"),),
    }
    with serving_app(make_echoes(tmp_path_factory.mktemp("echo"), models)) as asked:
        yield asked


def binary(name, datatype, shape, size):
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def infer(asked, path, request, *data, **headers):
    body, length = body_of(request, *data)
    return asked.post(path, content=body, headers={**length, **headers})


@pytest.mark.parametrize("datatype", DTYPES)
def test_any_number_that_fits_arrives(echo, datatype):
    data = np.array([1, 2, 100], DTYPES[datatype]).tobytes()
    inputs = [
        binary("real", datatype, [3], len(data)),
        {"name": "small", "datatype": "UINT8", "shape": [3], "data": [7, 8, 9]},
        binary("whole", "INT64", [3, 1], 24),
    ]
    whole = np.array([-1, 0, 1], "<i8").tobytes()
    answer = infer(echo, ECHO, {"id": "é", "inputs": inputs}, data, whole)
    told = answer.json()
    assert told["id"] == "é"
    found = {each["name"]: each["data"] for each in told["outputs"]}
    assert found == {"small_out": [7, 8, 9], "whole_out": [-1, 0, 1], "real_out": [1, 2, 100]}
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("pad", range(8))
def test_numbers_may_begin_anywhere(echo, pad):
    inputs = [
        binary("whole", "INT64", [2], 16),
        binary("small", "UINT8", [2], 2),
        binary("real", "FP32", [2], 8),
    ]
    blobs = [np.array([5, 6], kind).tobytes() for kind in ("<i8", "u1", "<f4")]
    told = infer(echo, ECHO, {"id": "x" * pad, "inputs": inputs}, *blobs).json()["outputs"]
    assert [each["data"] for each in told] == [[5, 6]] * 3


def test_nan_is_null_where_the_input_may_miss_one(echo):
    inputs = [
        binary("real", "FP64", [2], 16),
        {"name": "small", "datatype": "UINT8", "shape": [2], "data": [1, 2]},
        {"name": "whole", "datatype": "INT64", "shape": [2], "data": [1, 2]},
    ]
    data = np.array([np.nan, 2]).tobytes()
    told = infer(echo, ECHO, {"inputs": inputs}, data).json()["outputs"]
    assert told[2]["data"] == [None, 2]
    both = infer(echo, ECHO, {"inputs": inputs, "parameters": {"binary_data_output": True}}, data)
    assert np.array(infer_outputs(both)["real_out"], "f4").tobytes() == struct.pack(
        "<2f", *[np.nan, 2]
    )


def test_a_byte_that_is_not_0_is_true(echo):
    request = {"inputs": [binary("on", "BOOL", [4], 4)]}
    told = infer(echo, "/v2/models/flags/infer", request, bytes([0, 1, 2, 255])).json()
    assert told["outputs"][0]["data"] == [False, True, True, True]


def test_text_arrives_whatever_its_length(echo):
    words = ["", "naïve ✈", "x" * 70_000, "\x00", "nan"]
    data = packed(words)
    request = {
        "inputs": [binary("word", "BYTES", [5], len(data))],
        "outputs": [{"name": "word_out", "parameters": {"binary_data": True}}],
    }
    answer = infer(echo, "/v2/models/words/infer", request, data)
    assert infer_outputs(answer) == {"word_out": words}
    assert answer.headers["x-headgate-model-version"] == "7"


OUTPUTS = {
    "by the request": ({"binary_data_output": True}, None, {"small", "whole", "real"}),
    "one of them not": (
        {"binary_data_output": True},
        [("real", {"binary_data": False}), ("small", {})],
        {"small"},
    ),
    "one of them": ({}, [("whole", {"binary_data": True}), ("real", None)], {"whole"}),
    "none of them": ({"binary_data_output": False}, [("whole", {"binary_data": False})], set()),
    "by none": ({"sequence_id": 7, "priority": 1, "timeout": 9, "mine": [1]}, None, set()),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_each_output_comes_as_it_is_wanted(echo, case):
    parameters, outputs, expected = OUTPUTS[case]
    columns = {"small": [1], "whole": [2], "real": [3]}
    signature = Signature(inputs=NUMBERS, outputs=(), task="tensor")
    request = json.loads(infer_body(signature, columns, binary=False)[0])
    request["parameters"] = parameters
    if outputs is not None:
        request["outputs"] = [
            {"name": f"{name}_out", **({} if each is None else {"parameters": each})}
            for name, each in outputs
        ]
    answer = echo.post(ECHO, json=request)
    length = answer.headers.get(HEADER)
    assert (length is not None) == bool(expected)
    told = json.loads(answer.content[: int(length)] if length else answer.content)
    names = [f"{name}_out" for name, _ in outputs or [(each.name, None) for each in NUMBERS]]
    assert [each["name"] for each in told["outputs"]] == names
    found = {
        each["name"] for each in told["outputs"] if "binary_data_size" in each.get("parameters", {})
    }
    assert found == {f"{name}_out" for name in expected}
    assert all(("data" in each) != (each["name"] in found) for each in told["outputs"])


def test_a_body_may_be_nothing_but_numbers(asked):
    body = np.array([X, X], "<f4").tobytes()
    answer = asked.post(OIP_X, content=body, headers={HEADER: "0"})
    outputs = infer_outputs(answer)
    assert np.shape(outputs["probabilities"]) == (2, 2)


def test_what_the_type_of_a_binary_body_is_called_matters_not(asked):
    data = np.array(X, "<f4").tobytes()
    request = {"inputs": [binary("x", "FP32", [1, 30], len(data))]}
    for kind in ("application/octet-stream", "application/vnd.inference-payload+binary", "x"):
        answer = infer(asked, OIP_X, request, data, **{"content-type": kind})
        assert answer.status_code == 200
    assert infer(asked, OIP_X, request, data, **{"content-encoding": "br"}).status_code == 415


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_the_length_of_the_json_is_that_before_it_was_compressed(asked, encoding, pack):
    data = np.array(X, "<f4").tobytes()
    text = json.dumps({"inputs": [binary("x", "FP32", [1, 30], len(data))]}).encode()
    headers = {HEADER: str(len(text)), "content-type": "application/octet-stream"}
    plain = asked.post(OIP_X, content=text + data, headers=headers)
    headers["content-encoding"] = encoding
    answer = asked.post(OIP_X, content=pack(text + data), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.content == plain.content


FINE = np.array(X, "<f4").tobytes()
ONE = binary("x", "FP32", [1, 30], 120)
TEXT = binary("carrier", "BYTES", [2], 0)


def text(size, **more):
    return {**TEXT, "parameters": {"binary_data_size": size}, **more}


BAD = {
    "cut off": (OIP_X, [ONE], FINE[:-1], "inputs[0].parameters.binary_data_size", "119 are there"),
    "nothing": (OIP_X, [ONE], b"", "inputs[0].parameters.binary_data_size", "0 are there"),
    "2 GB": (
        OIP_X,
        [binary("x", "FP32", [1, 30], 2**31)],
        FINE,
        "inputs[0].parameters.binary_data_size",
        "2147483648 bytes are wanted, 120 are there",
    ),
    "a size below 0": (
        OIP_X,
        [binary("x", "FP32", [1, 30], -120)],
        FINE,
        "inputs[0].parameters.binary_data_size",
        "-120 bytes are wanted",
    ),
    "a size that is none": (
        OIP_X,
        [binary("x", "FP32", [1, 30], "120")],
        FINE,
        "inputs[0].parameters.binary_data_size",
        "'120' bytes are wanted",
    ),
    "a size that is true": (
        OIP_X,
        [binary("x", "FP32", [1, 30], True)],
        FINE,
        "inputs[0].parameters.binary_data_size",
        "true bytes are wanted",
    ),
    "too much": (OIP_X, [ONE], FINE + b"x", "body", "1 bytes belong to no tensor"),
    "another shape": (
        OIP_X,
        [binary("x", "FP32", [2, 30], 120)],
        FINE,
        "inputs[0].data",
        "120 bytes for FP32 of shape [2,30]",
    ),
    "another type": (
        OIP_X,
        [binary("x", "FP64", [1, 30], 120)],
        FINE,
        "inputs[0].data",
        "120 bytes for FP64 of shape [1,30]",
    ),
    "no shape of the model's": (
        OIP_X,
        [binary("x", "FP32", [30], 120)],
        FINE,
        "inputs[0].shape",
        "[30] is not its shape",
    ),
    "NaN": (
        OIP_X,
        [ONE],
        struct.pack("<30f", *X[:-1], np.nan),
        "inputs[0].data[0][29]",
        "nan is not a finite number",
    ),
    "infinity in 16 bits": (
        OIP_X,
        [binary("x", "FP16", [1, 30], 60)],
        np.array([*X[:-1], np.inf], "<f2").tobytes(),
        "inputs[0].data[0][29]",
        "inf is not a finite number",
    ),
    "more than float32 holds": (
        OIP_X,
        [binary("x", "FP64", [1, 30], 240)],
        np.array([*X[:-1], 1e300]).tobytes(),
        "inputs[0].data[0][29]",
        "1e+300 does not fit into float32",
    ),
    "a datatype that is none": (
        OIP_X,
        [binary("x", "BF16", [1, 30], 60)],
        bytes(60),
        "inputs[0].datatype",
        "'BF16' is not what it takes",
    ),
    "numbers as BYTES": (
        OIP_X,
        [binary("x", "BYTES", [1, 30], 120)],
        FINE,
        "inputs[0].datatype",
        "'BYTES' is not what it takes",
    ),
    "data twice": (OIP_X, [{**ONE, "data": "AAAA"}], FINE, "inputs[0].data", "it holds no list"),
    "data and a size": (OIP_X, [{**ONE, "data": X}], FINE, "body", "120 bytes belong to no tensor"),
    "shared memory": (
        OIP_X,
        [{**ONE, "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 120}}],
        b"",
        "inputs[0]",
        "shared memory is not read here",
    ),
    "an element longer than the data": (
        OIP,
        [text(8)],
        struct.pack("<I", 2**32 - 1) + b"abcd",
        "inputs[0].data",
        "element 0 ends after the data: 4294967299 bytes where there are 8",
    ),
    "half a length": (
        OIP,
        [text(6)],
        packed(["a"]) + b"\x01",
        "inputs[0].data",
        "element 1 ends after",
    ),
    "too few elements": (
        OIP,
        [text(5)],
        packed(["a"]),
        "inputs[0].data",
        "1 elements in 5 of 5 bytes",
    ),
    "too many elements": (
        OIP,
        [text(15)],
        packed(["a", "b", "c"]),
        "inputs[0].data",
        "2 elements in 10 of 15 bytes where the shape says 2",
    ),
    "no UTF-8": (
        OIP,
        [text(11)],
        packed(["a", b"\xff\xfe"]),
        "inputs[0].data[1]",
        r"b'\xff\xfe' is no",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(asked, case):
    path, inputs, data, where, what = BAD[case]
    body, headers = body_of({"inputs": inputs}, data)
    found = refused(asked, path, content=body, headers=headers)
    assert found[0] == where
    assert what in found[1]


@pytest.mark.parametrize("rows", [MAX_ROWS + 1, 2**31, 2**63 - 1])
def test_more_rows_than_may_be_are_refused_unseen(asked, rows):
    body, headers = body_of({"inputs": [binary("x", "FP32", [rows, 30], 120)]}, FINE)
    found = refused(asked, OIP_X, 413, content=body, headers=headers)
    assert found == ("body", f"{rows} rows", f"send at most {MAX_ROWS} rows at a time")


@pytest.mark.parametrize("length", ["-1", "1e2", "", " ", "0x10", "99999", "9" * 5000, "²"])
def test_a_length_that_is_none(asked, length):
    body, _ = body_of({"inputs": [ONE]}, FINE)
    headers = {HEADER: length.encode("latin-1")}
    where, what, remedy = refused(asked, OIP_X, content=body, headers=headers)
    assert where == LENGTH
    assert f"where the body has {len(body)} bytes" in what
    assert remedy == "send how many bytes of the body are JSON"


@pytest.mark.parametrize("length", [1, 20, 150])
def test_a_length_that_cuts_the_json_or_the_data(asked, length):
    body, _ = body_of({"inputs": [ONE]}, FINE)
    where, what, _ = refused(asked, OIP_X, content=body, headers={HEADER: str(length)})
    assert where == "body"
    assert what.startswith("invalid JSON")


def test_a_binary_tensor_without_the_length(asked):
    where, what, remedy = refused(asked, OIP_X, json={"inputs": [ONE]})
    assert (where, what) == (
        "inputs[0]",
        "the tensor is binary, and nothing says where the JSON ends",
    )
    assert remedy == "send the header Inference-Header-Content-Length"


BARE = {
    "cut off": (OIP_X, FINE[:-4], 400, "body", "116 bytes are no whole rows"),
    "empty": (OIP_X, b"", 400, "body", "0 bytes are no whole rows"),
    "too many rows": (OIP_X, FINE * (MAX_ROWS + 1), 413, "body", f"{MAX_ROWS + 1} rows"),
    "NaN": (OIP_X, b"\xff" * 120, 400, "body[0][0]", "nan is not a finite number"),
    "several inputs": (
        OIP,
        b"x" * 100,
        400,
        LENGTH,
        "a body without JSON is for a model of one input",
    ),
}


@pytest.mark.parametrize("case", BARE)
def test_a_bare_body_that_is_not_the_model_s(asked, case):
    path, body, status, where, what = BARE[case]
    found = refused(asked, path, status, content=body, headers={HEADER: "0"})
    assert found[0] == where
    assert found[1].startswith(what)


@pytest.mark.parametrize(
    "parameters",
    [{"classification": 3}, {"shared_memory_region": "r", "shared_memory_byte_size": 8}],
)
def test_an_output_of_another_kind_is_not_promised(asked, parameters):
    data = [{"name": "x", "datatype": "FP32", "shape": [1, 30], "data": X}]
    body = {"inputs": data, "outputs": [{"name": "label", "parameters": parameters}]}
    where, what, _ = refused(asked, OIP_X, json=body)
    assert where == "outputs[0].parameters"
    assert what == f"{next(iter(parameters))} is not offered"
