"""The predictor's signature comes from MLflow's and from the reference, or is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headgate.errors import PackagingError
from headgate.packaging.signature import fit_reference, signature_of
from headgate.packaging.source import Column
from headgate.predictor import Field, Reference
from tests.packaging.makers import objects, tabular

OUT = {"prediction": np.zeros(3)}


def fields(inputs: dict[str, Any], *columns: Column) -> dict[str, Field]:
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    signature = signature_of(columns, tabular(arrays, OUT))
    return {field.name: field for field in signature.inputs}


def refuses(says: str, inputs: dict[str, Any], *columns: Column) -> None:
    with pytest.raises(PackagingError, match=says) as caught:
        fields(inputs, *columns)
    assert caught.value.where
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("array", "dtype", "nullable"),
    [
        (np.array([True, False, True]), "bool", False),
        (np.array([1, 2, 3], dtype=np.uint8), "uint8", False),
        (np.array([1, 2, 3], dtype=np.int8), "int32", False),
        (np.array([1, 2, 3], dtype=np.uint16), "int32", False),
        (np.array([1, 2, 3], dtype=np.uint32), "int64", False),
        (np.array([1, 2, 3]), "int64", False),
        (np.array([1, 2, 3], dtype=np.float16), "float32", False),
        (np.array([1, 2, 3], dtype=np.float32), "float32", False),
        (np.array([1, np.nan, 3]), "float64", True),
        (np.array([1, 2, 3], dtype=np.longdouble), "float64", False),
        (np.array(["a", "b", "c"]), "string", False),
        (objects(["a", None, "c"]), "string", True),
        (objects(["a", "nan", "None"]), "string", False),
    ],
)
def test_types_of_the_reference(array, dtype: str, nullable: bool) -> None:
    assert fields({"x": array})["x"] == Field(name="x", dtype=dtype, nullable=nullable)  # type: ignore[arg-type]


def test_types_that_no_signature_has() -> None:
    refuses("type complex128", {"x": np.zeros(3, dtype=complex)})
    refuses("type datetime64", {"x": np.zeros(3, dtype="datetime64[s]")})


@pytest.mark.parametrize(
    ("one", "other", "wider"),
    [
        ("int32", "int64", "int64"),
        ("int64", "float32", "float64"),
        ("float32", "float64", "float64"),
        ("float64", "float32", "float64"),
        ("uint8", "int32", "int32"),
        ("bool", "bool", "bool"),
    ],
)
def test_the_wider_of_two_types(one: str, other: str, wider: str) -> None:
    array = np.zeros(3, dtype=one)
    assert fields({"x": array}, Column(name="x", dtype=other))["x"].dtype == wider


def test_types_that_contradict_each_other() -> None:
    refuses("string in the reference, int64 in", {"x": ["a"] * 3}, Column(name="x", dtype="int64"))
    refuses("int64 in the reference, bool in", {"x": [1, 2, 3]}, Column(name="x", dtype="bool"))


def test_optional_columns_may_be_null() -> None:
    for array, dtype in (([1, 2, 3], "float64"), ([1.0, 2, 3], "float64"), (["a"] * 3, "string")):
        declared = {"float64": "double", "string": "string"}[dtype]
        column = Column(
            name="x", dtype={"double": "float64"}.get(declared, declared), required=False
        )
        field = fields({"x": array}, column)["x"]
        assert (field.dtype, field.nullable) == (dtype, True)
    integers = fields({"x": [1, 2, 3]}, Column(name="x", dtype="int64", required=False))["x"]
    assert (integers.dtype, integers.nullable) == ("float64", True)
    flags = fields({"x": [True] * 3}, Column(name="x", dtype="bool", required=False))["x"]
    assert (flags.dtype, flags.nullable) == ("bool", False)


def test_columns_that_only_one_of_them_has() -> None:
    columns = Column(name="a", dtype="int64"), Column(name="b", dtype="int64")
    refuses("lacks: b, c", {"a": [1, 2, 3], "c": [1, 2, 3]}, *columns)
    refuses("lacks: b", {"a": [1, 2, 3]}, *columns)


def test_the_only_input_may_have_another_name() -> None:
    nameless = Column(name="", dtype="float32", shape=(2,))
    field = fields({"image": np.zeros((3, 2), dtype=np.float32)}, nameless)["image"]
    assert field.shape == (2,)
    refuses(
        r"shape \[2\] in the reference, \[4\] in MLflow's signature",
        {"image": np.zeros((3, 2))},
        Column(name="", dtype="float64", shape=(4,)),
    )


def classified(outputs: dict[str, Any], classes: Any) -> Reference:
    return tabular({"x": np.zeros(3)}, outputs, classes)


def test_a_classifiers_outputs() -> None:
    reference = classified(
        {"label": np.array([True, False, True]), "probabilities": np.ones((3, 2))}, (False, True)
    )
    signature = signature_of((), reference)
    assert signature.classes == (0, 1)
    assert all(type(each) is int for each in signature.classes)
    assert [(each.name, each.dtype, each.shape) for each in signature.outputs] == [
        ("label", "int64", ()),
        ("probabilities", "float32", (2,)),
    ]
    texts = classified({"label": np.array(["a", "b", "a"])}, ("a", "b"))
    assert signature_of((), texts).outputs == (Field(name="label", dtype="string"),)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ({"prediction": np.zeros(3)}, "a classifier's outputs are prediction"),
        ({"label": np.zeros(3), "score": np.zeros(3)}, "a classifier's outputs are label, score"),
        (
            {"label": np.zeros(3), "probabilities": np.ones((3, 3))},
            r"probabilities of shape \[3\] for 2 classes",
        ),
    ],
)
def test_outputs_that_no_classifier_has(outputs, says: str) -> None:
    with pytest.raises(PackagingError, match=says) as caught:
        signature_of((), classified(outputs, (0, 1)))
    assert caught.value.where == "reference"


def test_a_reference_in_the_signatures_terms() -> None:
    inputs = {"x": np.array([1.0, 2, 3]), "s": objects(["nan", None, "ü"])}
    outputs = {"label": np.array([1, 0, 1], dtype=np.int8), "probabilities": np.ones((3, 2))}
    reference = Reference(
        inputs=inputs,
        outputs=outputs,
        task="classification",
        classes=(0, 1),
        labels=np.array([0, 0, 1]),
    )
    columns = Column(name="x", dtype="float64"), Column(name="s", dtype="string")
    fitted = fit_reference(reference, signature_of(columns, reference))
    assert fitted.inputs["s"].tolist() == ["nan", None, "ü"]
    assert fitted.outputs["label"].dtype == np.int64
    assert fitted.outputs["probabilities"].dtype == np.float32
    assert fitted.labels is not None
    assert fitted.classes == (0, 1)
    texts = classified({"label": np.array(["a", "b", "a"])}, ("a", "b"))
    assert fit_reference(texts, signature_of((), texts)).outputs["label"].tolist() == list("aba")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, np.inf, 3], "not a finite number"),
        ([1.0, 1e39, 3], "does not fit into float32"),
    ],
)
def test_rows_that_no_request_could_hold(values: list[float], says: str) -> None:
    reference = tabular({"x": np.array(values)}, OUT)
    with pytest.raises(PackagingError, match="a row that no request could hold") as caught:
        fit_reference(reference, signature_of((), reference))
    assert says in caught.value.what
    assert caught.value.where == "inputs.x[1]"
    assert "log the reference again" in caught.value.remedy
