"""Tensors that are not what the Open Inference Protocol or the model takes."""

from __future__ import annotations

import pytest
from serving.asgi import serving_app
from serving.refusals import LONG, OIP, OIP_X, ROW, X, refused, strict_root, tensors


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(strict_root(tmp_path_factory.mktemp("bad"))) as asked:
        yield asked


ONE = tensors(carrier=["UA"], distance=[1], wind=[1])
NEEDED = 'send {"inputs": [{"name", "shape", "datatype", "data"}, …]}'
BAD_TENSORS = {
    "no inputs": ({}, "body", "there is no list of inputs", NEEDED),
    "instances": ({"instances": [ROW]}, "body", "there is no list of inputs", NEEDED),
    "inputs by name": ({"inputs": {"wind": [1]}}, "body", "there is no list of inputs", NEEDED),
    "another key": ({"inputs": ONE, "model": 1}, "body", "'model' is unknown", NEEDED),
    "no tensor": ({"inputs": [*ONE, 7]}, "inputs[3]", "not a tensor", NEEDED),
    "a key of a tensor": ({"inputs": [{**ONE[0], "typ": 1}]}, "inputs[0]", "not a tensor", NEEDED),
    "an empty list": ({"inputs": []}, "inputs", "input 'carrier' is missing", "a tensor of BYTES"),
    "a missing input": ({"inputs": ONE[:2]}, "inputs", "input 'wind' is missing", "tensor of FP64"),
    "an unknown input": (
        {"inputs": [*ONE, {**ONE[0], "name": "gate"}]},
        "inputs[3].name",
        "input 'gate' is unknown",
        "known: carrier, distance, wind",
    ),
    "no name": ({"inputs": [{"data": []}]}, "inputs[0].name", "input null is unknown", "known:"),
    "a name that is none": (
        {"inputs": [{**ONE[0], "name": ["carrier"]}]},
        "inputs[0].name",
        "input a list of 1 is unknown",
        "known:",
    ),
    "an input twice": (
        {"inputs": [*ONE, ONE[1]]},
        "inputs[3]",
        "input 'distance' is there twice",
        "send it once",
    ),
    "another datatype": (
        {"inputs": [{**ONE[0], "datatype": "FP32"}]},
        "inputs[0].datatype",
        "'FP32' is not what it takes",
        "send BYTES",
    ),
    "floats for integers": (
        {"inputs": [{**ONE[1], "datatype": "FP64"}]},
        "inputs[0].datatype",
        "'FP64' is not what it takes",
        "send INT64",
    ),
    "shared memory beside data": (
        {"inputs": [{**ONE[0], "parameters": {"shared_memory_region": "a"}}, *ONE[1:]]},
        "inputs[0]",
        "shared memory is not read here",
        "send the data itself",
    ),
    "no datatype": (
        {"inputs": [{"name": "wind", "shape": [1], "data": [1]}]},
        "inputs[0].datatype",
        "null is not what it takes",
        "send FP64",
    ),
    "a datatype that is none": (
        {"inputs": [{**ONE[2], "datatype": {"FP64": 1}}]},
        "inputs[0].datatype",
        "an object is not what it takes",
        "send FP64",
    ),
    "no data": (
        {"inputs": [{"name": "wind", "shape": [1], "datatype": "FP64"}]},
        "inputs[0].data",
        "it holds no list",
        "send the values as a JSON list",
    ),
    "binary data that is not there": (
        {"inputs": [{**ONE[2], "data": None, "parameters": {"binary_data_size": 8}}]},
        "inputs[0]",
        "the tensor is binary, and nothing says where the JSON ends",
        "send the header Inference-Header-Content-Length",
    ),
    "odd parameters": (
        {"inputs": [{**ONE[2], "data": "AAAA", "parameters": 5}]},
        "inputs[0].data",
        "it holds no list",
        "send the values as a JSON list",
    ),
    "no shape": (
        {"inputs": [{"name": "wind", "data": [1], "datatype": "FP64"}]},
        "inputs[0].shape",
        "null is not its shape",
        "send [rows]",
    ),
    "two columns": (
        {"inputs": [{**ONE[2], "shape": [1, 2], "data": [1, 2]}]},
        "inputs[0].shape",
        "[1,2] is not its shape",
        "send [rows]",
    ),
    "a negative shape": (
        {"inputs": [{**ONE[2], "shape": [-1]}]},
        "inputs[0].shape",
        "[-1] is not its shape",
        "send [rows]",
    ),
    "a shape of text": (
        {"inputs": [{**ONE[2], "shape": ["1"]}]},
        "inputs[0].shape",
        "a list of 1 is not its shape",
        "send [rows]",
    ),
    "a shape of booleans": (
        {"inputs": [{**ONE[2], "shape": [True]}]},
        "inputs[0].shape",
        "[true] is not its shape",
        "send [rows]",
    ),
    "an empty shape": (
        {"inputs": [{**ONE[2], "shape": []}]},
        "inputs[0].shape",
        "[] is not its shape",
        "send [rows]",
    ),
    "a long shape": (
        {"inputs": [{**ONE[2], "shape": [1] * 500}]},
        "inputs[0].shape",
        "a list of 500 is not its shape",
        "send [rows]",
    ),
    "fewer values than the shape says": (
        {"inputs": [{**ONE[2], "shape": [2]}]},
        "inputs[0].data",
        "a list of 1 does not have the shape [2]",
        "send 2 values",
    ),
    "no rows": (
        {"inputs": tensors(carrier=[], distance=[], wind=[])},
        "inputs",
        "no rows",
        "send at least one",
    ),
    "inputs of other lengths": (
        {"inputs": tensors(carrier=["UA"], distance=[1, 2], wind=[1])},
        "inputs",
        "inputs differ in their rows: carrier 1, distance 2, wind 1",
        "send as many rows for every input",
    ),
    "an id that is none": ({"inputs": ONE, "id": 7}, "id", "7 is no id", "send a string"),
    "outputs by name": (
        {"inputs": ONE, "outputs": {"label": 1}},
        "outputs",
        "an object is no list",
        'send [{"name": output}, …]',
    ),
    "outputs that are none": (
        {"inputs": ONE, "outputs": 0},
        "outputs",
        "0 is no list",
        'send [{"name": output}, …]',
    ),
    "an output without a name": (
        {"inputs": ONE, "outputs": ["label"]},
        "outputs[0].name",
        "output null is unknown",
        "known: label, probabilities",
    ),
    "an unknown output": (
        {"inputs": ONE, "outputs": [{"name": "label"}, {"name": LONG}]},
        "outputs[1].name",
        f"output '{LONG[:60]}' is unknown",
        "known: label, probabilities",
    ),
    "an output twice": (
        {"inputs": ONE, "outputs": [{"name": "label"}] * 2},
        "outputs[1].name",
        "output 'label' is there twice",
        "ask for it once",
    ),
    "outputs of another kind": (
        {"inputs": ONE, "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
        "outputs[0].parameters",
        "classification is not offered",
        "leave it out: the output is sent as it is",
    ),
}


@pytest.mark.parametrize("tensor", BAD_TENSORS)
def test_a_tensor(asked, tensor):
    body, where, what, remedy = BAD_TENSORS[tensor]
    found = refused(asked, OIP, json=body)
    assert found[:2] == (where, what)
    assert remedy in found[2]


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([1, 30], X[1:]),
        ([2, 30], X),
        ([1, 30], [X[1:]]),
        ([1, 30], [X, X]),
        ([2, 30], [X, X[1:]]),
        ([2, 30], [X, *X]),
        ([0, 30], [X]),
        ([1, 30], [[X]]),
    ],
)
def test_data_of_another_shape(asked, shape, data):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": data}]}
    where, what, _ = refused(asked, OIP_X, json=body)
    assert where == "inputs[0].data"
    assert what.endswith(f"does not have the shape {shape}")


@pytest.mark.parametrize("rows", [51, 10**18, 2**63])
def test_more_rows_than_may_be_are_refused_unseen(asked, rows):
    tensor = {"name": "wind", "datatype": "FP64", "shape": [rows], "data": ["never looked at"]}
    found = refused(asked, OIP, 413, json={"inputs": [tensor]})
    assert found == ("body", f"{rows} rows", "send at most 50 rows at a time")


@pytest.mark.parametrize(
    ("index", "datatype", "value", "said"),
    [
        (1, "INT8", 300, ("300 is no INT8", "send an integer from -128 to 127")),
        (1, "UINT8", -1, ("-1 is no UINT8", "send an integer from 0 to 255")),
        (1, "INT32", 2**40, (f"{2**40} is no INT32", "send an integer from")),
        (1, "INT32", True, ("true is no int64", "send an integer")),
        (1, "INT64", -(2**63) - 1, ("-9.223372036854776e+18 is no int64", "send an integer")),
        (2, "INT32", 1.5, ("1.5 is no INT32", "send an integer from")),
        (2, "INT64", 2**300, ("2.037035976334486e+90 is no INT64", "send an integer from")),
        (2, "FP16", 1e5, ("100000.0 does not fit into FP16", "send a smaller number")),
        (2, "FP16", -70000, ("-70000 does not fit into FP16", "send a smaller number")),
        (2, "FP32", 1e39, ("1e+39 does not fit into FP32", "send a smaller number")),
        (2, "FP16", "1", ("'1' is no float64", "send a number")),
    ],
)
def test_a_number_that_is_not_what_it_is_called(asked, index, datatype, value, said):
    what, remedy = said
    inputs = tensors(carrier=["UA", "UA"], distance=[1, 1], wind=[1, 1])
    inputs[index] |= {"datatype": datatype, "data": [1, value]}
    found = refused(asked, OIP, json={"inputs": inputs})
    assert found[0] == f"inputs[{index}].data[1]"
    assert found[1].lower() == what.lower()
    assert remedy in found[2]


def test_a_value_that_hides_in_a_flat_tensor(asked):
    body = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 30], "data": [*X, *X[1:], [1]]}]
    }
    found = refused(asked, OIP_X, json=body)
    assert found[:2] == ("inputs[0].data[59]", "a list of 1 is no float32")
