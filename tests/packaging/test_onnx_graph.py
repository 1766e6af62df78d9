"""A graph gets the names and labels that the signature promises, whatever it was called inside."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from headgate.packaging.onnx_graph import map_labels, rename_inputs, rename_outputs
from headgate.predictor import Field, Signature


def graph(*inside: str, out: str = "out") -> Any:
    """Adds one at each step; the values in between have these names."""
    names = ["x", *inside, out]
    nodes = [
        helper.make_node("Add", [one, "one"], [other]) for one, other in itertools.pairwise(names)
    ]
    number = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [None])],
        [number],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(proto: Any, x: Any) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (entry,) = session.get_inputs()
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, {entry.name: x}), strict=True))


X = np.array([1.0, 5.0], dtype=np.float32)


@pytest.mark.parametrize("inside", [("a",), ("prediction",), ("one_more", "prediction", "b")])
def test_outputs_are_renamed(inside: tuple[str, ...]) -> None:
    proto = graph(*inside)
    rename_outputs(proto, ["prediction"])
    assert run(proto, X)["prediction"].tolist() == [2 + len(inside), 6 + len(inside)]


def test_constants_of_that_name_make_room() -> None:
    proto = graph()
    rename_outputs(proto, ["one"])
    assert run(proto, X)["one"].tolist() == [2, 6]


def test_names_that_fit_already_stay() -> None:
    proto = graph(out="prediction")
    rename_outputs(proto, ["prediction"])
    assert run(proto, X)["prediction"].tolist() == [2, 6]


def test_names_may_change_places() -> None:
    proto = graph("a")
    proto.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [None]))
    rename_outputs(proto, ["a", "out"])
    assert {name: each.tolist() for name, each in run(proto, X).items()} == {
        "a": [3, 7],
        "out": [2, 6],
    }


def test_what_cannot_be_named() -> None:
    with pytest.raises(ValueError, match="1 outputs where label, probabilities belong"):
        rename_outputs(graph(), ["label", "probabilities"])
    with pytest.raises(ValueError, match="an input and an output are both named x"):
        rename_outputs(graph(), ["x"])


def two_inputs() -> Any:
    proto = graph("inner")
    proto.graph.node[0].input[1] = "y"
    proto.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None]))
    return proto


@pytest.mark.parametrize(
    ("names", "got"),
    [
        (["a b", "größe"], ["a b", "größe"]),
        (["x", "y"], ["x", "y"]),
        (["y", "x"], ["y", "x"]),
        (["inner", "one"], ["inner", "one"]),
        (["inner", "inner_inside"], ["inner", "inner_inside"]),
        (["out", "x"], ["out", "x"]),
        (["late", "x"], ["late_in", "x"]),
        (["late_in", "late"], ["late_in", "late_in1"]),
    ],
)
def test_inputs_are_renamed(names: list[str], got: list[str]) -> None:
    proto = two_inputs()
    others = rename_inputs(proto, names, ["late"])
    rename_outputs(proto, ["late"])
    assert [node.name for node in proto.graph.input] == got
    assert others == {name: other for name, other in zip(names, got, strict=True) if name != other}
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (late,) = session.run(["late"], dict(zip(got, (X, 10 * X), strict=True)))
    assert late.tolist() == [12, 56]


def test_branches_see_the_new_names() -> None:
    """Both read the input from outside; one has a value of its own called ``out``."""
    number = helper.make_tensor_value_info("chosen", TensorProto.FLOAT, [None])
    doubled = [helper.make_node("Add", ["x", "x"], ["chosen"])]
    same = [
        helper.make_node("Identity", ["x"], ["out"]),
        helper.make_node("Identity", ["out"], ["chosen"]),
    ]
    proto = graph()
    proto.graph.node[0].CopyFrom(
        helper.make_node(
            "If",
            ["one"],
            ["y"],
            then_branch=helper.make_graph(doubled, "then", [], [number]),
            else_branch=helper.make_graph(same, "else", [], [number]),
        )
    )
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("one", TensorProto.BOOL, [], [True]))
    proto.graph.output[0].name = "y"
    rename_inputs(proto, ["the x"], ["y"])
    assert run(proto, X)["y"].tolist() == [2, 10]


def test_inputs_that_cannot_be_named() -> None:
    with pytest.raises(ValueError, match="2 inputs where x belong"):
        rename_inputs(two_inputs(), ["x"], [])


def argmax() -> Any:
    node = helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [None])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("classes", [("a", "ü", "c"), (7, -1, 2**40), (0, 1, 2), (1, 0, 2)])
def test_numbers_of_classes_become_the_classes(classes: tuple[Any, ...]) -> None:
    proto = argmax()
    field = Field(name="label", dtype="string" if isinstance(classes[0], str) else "int64")
    map_labels(
        proto, Signature(inputs=(), outputs=(field,), task="classification", classes=classes)
    )
    x = np.eye(3, dtype=np.float32)[[2, 0, 1, 1]]
    assert run(proto, x)["label"].tolist() == [classes[i] for i in (2, 0, 1, 1)]
