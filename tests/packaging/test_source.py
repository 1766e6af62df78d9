"""What ``MLmodel`` says, and what it may not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.errors import PackagingError
from headgate.packaging.source import Column, Source, read_source
from tests.packaging.makers import write_mlmodel

SKLEARN = {"pickled_model": "model.skops", "serialization_format": "skops", "sklearn_version": "1"}


def with_inputs(folder: Path, inputs: Any) -> Source:
    text = inputs if isinstance(inputs, str) else json.dumps(inputs)
    content = {"flavors": {"sklearn": SKLEARN}, "signature": {"inputs": text}}
    (folder / "MLmodel").write_text(yaml.safe_dump(content))
    return read_source(folder)


def refuses(folder: Path, says: str) -> PackagingError:
    with pytest.raises(PackagingError, match=says) as caught:
        read_source(folder)
    assert caught.value.where == str(folder / "MLmodel")
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("saved", "kind"), [("skops", "skops"), ("pickle", "pickle"), ("cloudpickle", "pickle")]
)
def test_sklearn(tmp_path: Path, saved: str, kind: str) -> None:
    write_mlmodel(tmp_path, sklearn={**SKLEARN, "serialization_format": saved}, python_function={})
    source = read_source(tmp_path)
    assert (source.flavor, source.format, source.file) == ("sklearn", kind, "model.skops")
    assert source.columns == ()
    assert source.described() == {
        "flavor": "sklearn",
        "format": kind,
        "mlflow": "3.1",
        "scikit-learn": "1",
    }


@pytest.mark.parametrize(("file", "kind"), [("model.pt2", "pt2"), ("model.pth", "torch")])
def test_torch(tmp_path: Path, file: str, kind: str) -> None:
    write_mlmodel(tmp_path, pytorch={"model_data": "data", "pytorch_version": "2.13.0"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / file).write_bytes(b"")
    source = read_source(tmp_path)
    assert (source.flavor, source.format, source.file) == ("torch", kind, f"data/{file}")
    assert source.versions["torch"] == "2.13.0"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no MLflow model"),
        (b"", "no MLflow model"),
        (b"[1, 2]", "no MLflow model"),
        (b"flavors: [a]", "no MLflow model"),
        (b"flavors: {sklearn: 5}", "no MLflow model"),
        (b"\xff\xfe\x00", "no MLflow model"),
        (b"a: [", "no MLflow model"),
        (b"flavors: {}", "its flavors are none"),
        (b"flavors: {xgboost: {}, python_function: {}}", "are python_function, xgboost"),
    ],
)
def test_what_is_no_model_of_a_known_flavor(tmp_path: Path, content, says: str) -> None:
    if content is not None:
        (tmp_path / "MLmodel").write_bytes(content)
    refuses(tmp_path, says)


def test_an_unknown_serialization(tmp_path: Path) -> None:
    write_mlmodel(tmp_path, sklearn={**SKLEARN, "serialization_format": "joblib"})
    refuses(tmp_path, "serialization_format 'joblib'")
    write_mlmodel(tmp_path, sklearn={"pickled_model": "m"})
    refuses(tmp_path, "serialization_format None")


@pytest.mark.parametrize("name", ["../m.pkl", "/etc/passwd", "a/../../b", "", None, 5, ["m"]])
def test_files_outside_of_the_model(tmp_path: Path, name: Any) -> None:
    write_mlmodel(tmp_path, sklearn={**SKLEARN, "pickled_model": name})
    refuses(tmp_path, "is no file of the model")
    write_mlmodel(tmp_path, pytorch={"model_data": name})
    refuses(tmp_path, "is no file of the model")


def test_columns(tmp_path: Path) -> None:
    types = ("boolean", "integer", "long", "float", "double", "string")
    inputs = [{"type": kind, "name": kind, "required": kind != "double"} for kind in types]
    columns = with_inputs(tmp_path, inputs).columns
    dtypes = ("bool", "int32", "int64", "float32", "float64", "string")
    assert columns == tuple(
        Column(name=name, dtype=dtype, required=name != "double")
        for name, dtype in zip(types, dtypes, strict=True)
    )


def test_tensors(tmp_path: Path) -> None:
    spec = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 8, 8]}}
    (column,) = with_inputs(tmp_path, [spec]).columns
    assert column == Column(name="", dtype="float32", shape=(1, 8, 8))
    spec["tensor-spec"] = {"dtype": "object", "shape": [-1, 2]}
    assert with_inputs(tmp_path, [{**spec, "name": "x"}]).columns[0].dtype == "string"
    assert with_inputs(tmp_path, "").columns == ()


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ("{", "cannot read its signature"),
        ([5], "cannot read its signature"),
        (["text"], "cannot read its signature"),
        ({"a": 1}, "cannot read its signature"),
        ([{"name": "x"}], "cannot read its signature: 'type'"),
        ([{"type": "datetime", "name": "t"}], "t is a datetime"),
        ([{"type": "array", "name": "t", "items": {}}], "t is a array"),
        ([{"type": "tensor"}], "'tensor-spec'"),
        (
            [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, -1, 3]}}],
            r"shape \[-1, -1, 3\] of the input varies within a row",
        ),
        (
            [{"type": "tensor", "tensor-spec": {"dtype": "nothing", "shape": [-1, 3]}}],
            "nothing",
        ),
    ],
)
def test_signatures_that_no_predictor_could_have(tmp_path: Path, inputs: Any, says: str) -> None:
    with pytest.raises(PackagingError, match=says) as caught:
        with_inputs(tmp_path, inputs)
    assert caught.value.where == str(tmp_path / "MLmodel")
    assert "plain columns" in caught.value.remedy
