from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC

import headgate
from headgate.errors import InputError
from headgate.predictor import Reference

Log = Callable[..., Reference]


class Echo:
    """Predicts the first column: whatever it is given is what it says."""

    classes_: tuple[float, ...]

    def predict(self, X: Any) -> Any:
        return X.iloc[:, 0] if hasattr(X, "iloc") else X[:, 0]


class Linear(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(width, outputs)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        return self.dropout(self.layer(x))


class Says(torch.nn.Module):  # type: ignore[misc]
    """Answers with what a function makes of its input."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


@pytest.fixture(scope="module")
def iris() -> tuple[pd.DataFrame, pd.Series]:
    frame, target = load_iris(return_X_y=True, as_frame=True)
    return frame.astype("float32"), target


def rejects(log: Log, what: str, remedy: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(InputError, match=what) as caught:
        log(*args, **kwargs)
    assert caught.value.where == "headgate.log_reference"
    assert remedy in caught.value.remedy


def test_classifier_on_a_table(logged: Log, iris: Any) -> None:
    X, y = iris
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    found = logged(model, X, y)
    assert found.task == "classification"
    assert found.classes == (0, 1, 2)
    assert list(found.inputs) == list(X.columns)
    assert all(array.dtype == np.float32 for array in found.inputs.values())
    np.testing.assert_array_equal(found.outputs["label"], model.predict(X))
    np.testing.assert_allclose(found.outputs["probabilities"], model.predict_proba(X), atol=1e-7)
    assert found.outputs["probabilities"].dtype == np.float32
    np.testing.assert_array_equal(found.labels, y)


def test_string_classes_and_an_array(logged: Log, iris: Any) -> None:
    X, y = iris[0].to_numpy(), np.array(["a", "b", "c"])[iris[1]]
    found = logged(LogisticRegression(max_iter=500).fit(X, y), X, y.tolist())
    assert found.classes == ("a", "b", "c")
    assert set(found.inputs) == {"input"}
    assert found.inputs["input"].shape == (150, 4)
    assert set(found.outputs["label"]) == {"a", "b", "c"}
    assert found.labels is not None
    assert found.labels.tolist() == y.tolist()


def test_classes_of_whole_floats_are_integers(logged: Log, iris: Any) -> None:
    X, y = iris[0], iris[1].astype(float)
    assert logged(LogisticRegression(max_iter=500).fit(X, y), X, y).classes == (0, 1, 2)
    halves = Echo()
    halves.classes_ = (0.5, 1.5)
    rejects(logged, "class 0.5", "strings or integers", halves, X)


def test_classifier_without_probabilities(logged: Log, iris: Any) -> None:
    X, y = iris
    found = logged(LinearSVC().fit(X, y), X, y)
    assert set(found.outputs) == {"label"}
    assert found.classes == (0, 1, 2)


def test_regressor(logged: Log, iris: Any) -> None:
    X = iris[0]
    model = LinearRegression().fit(X, X.sum(axis=1))
    found = logged(model, X)
    assert found.task == "regression"
    assert found.classes == ()
    assert found.labels is None
    np.testing.assert_allclose(found.outputs["prediction"], model.predict(X), rtol=1e-6)


def test_labels_in_a_column_are_one_a_row(logged: Log, iris: Any) -> None:
    X, y = iris
    found = logged(LogisticRegression(max_iter=500).fit(X, y), X, y.to_frame())
    assert found.labels is not None
    assert found.labels.shape == (150,)


def test_rows_are_spread_evenly(logged: Log) -> None:
    X = np.arange(1000, dtype=np.float32).reshape(-1, 1)
    found = logged(Echo(), X, X[:, 0], rows=11)
    assert found.rows == 11
    assert found.inputs["input"][:, 0].tolist() == [
        0,
        100,
        200,
        300,
        400,
        500,
        599,
        699,
        799,
        899,
        999,
    ]
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, found.inputs["input"][:, 0])
    np.testing.assert_array_equal(found.labels, found.outputs["prediction"])
    assert logged(Echo(), X, rows=1).rows == 1
    assert logged(Echo(), X).rows == 1000


@pytest.mark.parametrize("null", [None, np.nan, pd.NA])
@pytest.mark.parametrize("dtype", [object, "str", "string", "category"])
def test_missing_strings_are_none(logged: Log, dtype: Any, null: Any) -> None:
    X = pd.DataFrame({"x": [1.0, 2.0, 3.0], "city": pd.Series(["Oslo", null, "nan"], dtype=dtype)})
    assert logged(Echo(), X).inputs["city"].tolist() == ["Oslo", None, "nan"]


def test_the_model_sees_the_frame_as_it_was(logged: Log) -> None:
    X = pd.DataFrame({"city": pd.Series(["Oslo", np.nan, "Rome"] * 10, dtype=object)})
    y = [1, 2, 3] * 10
    model = make_pipeline(OrdinalEncoder(encoded_missing_value=-1), LogisticRegression()).fit(X, y)
    found = logged(model, X, y)
    np.testing.assert_array_equal(found.outputs["label"], y)


def test_missing_numbers_are_nan(logged: Log) -> None:
    columns = {
        "float": pd.Series([1.5, None], dtype="float32"),
        "nullable": pd.Series([1.5, None], dtype="Float32"),
        "whole": pd.Series([1, None], dtype="Int64"),
        "full": pd.Series([1, 2], dtype="Int16"),
        "flag": pd.Series([True, False], dtype="boolean"),
    }
    found = logged(Echo(), pd.DataFrame(columns)).inputs
    kinds = {name: str(array.dtype) for name, array in found.items()}
    assert kinds == {
        "float": "float32", "nullable": "float32", "whole": "float64", "full": "int32", "flag": "bool",
    }  # fmt: skip
    assert all(np.isnan(found[name][1]) for name in ("float", "nullable", "whole"))
    rejects(
        logged, "null", "string or a float", Echo(), pd.DataFrame({"x": pd.array([True, None])})
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("float16", "float32"), ("float64", "float64"), ("longdouble", "float64"),
        ("int8", "int32"), ("int16", "int32"), ("int32", "int32"), ("int64", "int64"),
        ("uint8", "uint8"), ("uint16", "int64"), ("uint32", "int64"), ("uint64", "int64"),
        ("bool", "bool"),
    ],
)  # fmt: skip
def test_types_become_those_of_requests(logged: Log, given: str, kept: str) -> None:
    X = np.ones((3, 2), dtype=given)
    array = logged(Echo(), X).inputs["input"]
    assert array.dtype == kept
    np.testing.assert_array_equal(array, X)


@pytest.mark.parametrize(
    ("X", "what", "remedy"),
    [
        (np.array([["2013-01-01"]], dtype="datetime64[D]"), "datetime64", "dates as numbers"),
        (pd.DataFrame({"day": pd.to_datetime(["2013-01-01"])}), "column day", "dates as numbers"),
        (np.ones((2, 2), dtype=complex), "complex128", "numbers"),
        (pd.DataFrame({"x": pd.Series(["a", 1], dtype=object)}), "holds a int", "astype"),
        (np.full((1, 1), 2**63, dtype=np.uint64), "no int64", "float64"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "more than one column named x", "rename"),
        ([[1.0]], "of type list", "DataFrame"),
        (np.ones(3), r"shape \[3\]", "two dimensions"),
        (pd.Series([1.0]), "shape", "DataFrame"),
        (np.ones((0, 3)), "no rows", "held-out"),
        (torch.ones(2, 2, dtype=torch.bfloat16), "bfloat16", "float32"),
    ],
)
def test_rows_no_request_can_carry(logged: Log, X: Any, what: str, remedy: str) -> None:
    rejects(logged, what, remedy, Echo(), X)


def test_without_a_run(store: str) -> None:
    rejects(headgate.log_reference, "no MLflow run", "start_run", Echo(), np.ones((2, 2)))


def test_bad_arguments(logged: Log, iris: Any) -> None:
    X, y = iris
    rejects(logged, "X has 150 rows, y has 3", "one label", Echo(), X, [1, 2, 3])
    rejects(logged, "X has 150 rows, y has no", "one label", Echo(), X, 1)
    rejects(logged, "rows=0", "at least one", Echo(), X, rows=0)
    rejects(logged, "StandardScaler has no predict", "estimator", StandardScaler().fit(X), X)
    rejects(logged, "Echo has no classes_", "classifier", Echo(), X, task="classification")
    rejects(logged, "tensor", "torch", Echo(), X, task="tensor")
    many = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(X, np.c_[y, y])
    rejects(logged, "class", "strings or integers", many, X)
    strings = pd.DataFrame({"city": ["Oslo", "Rome"]})
    rejects(logged, "predicts strings", "classifier", Echo(), strings)


def test_a_model_that_loses_rows(logged: Log) -> None:
    class Short(Echo):
        def predict(self, X: Any) -> Any:
            return X[:-1, 0]

    class Narrow(Echo):
        classes_ = (0, 1)

        def predict_proba(self, X: Any) -> Any:
            return np.ones((len(X), 3))

    rejects(logged, r"shape \[4\] for 5 rows", "one prediction", Short(), np.ones((5, 2)))
    rejects(logged, r"shape \[5, 3\]", "one label", Narrow(), np.ones((5, 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_model_that_predicts_no_number(logged: Log, value: float) -> None:
    says = "all 5 numbers that Echo predicts are NaN or infinite"
    rejects(logged, says, "fitted", Echo(), np.full((5, 2), value))


def test_a_few_predictions_may_be_no_number(logged: Log) -> None:
    X = np.array([[1.0], [np.nan], [np.inf]], dtype=np.float32)
    found = logged(Echo(), X)
    np.testing.assert_array_equal(found.outputs["prediction"], X[:, 0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_classifier_that_diverged(logged: Log, value: float) -> None:
    class Diverged(Echo):
        classes_ = (0, 1)

        def predict(self, X: Any) -> Any:
            return np.zeros(len(X), dtype=np.int64)

        def predict_proba(self, X: Any) -> Any:
            return np.full((len(X), 2), value)

    rejects(logged, "all 10 numbers that Diverged", "fitted", Diverged(), np.ones((5, 2)))
    net = Says(lambda x: torch.full((len(x), 2), value))
    for task in ("classification", "tensor"):
        rejects(logged, "all 10 numbers that Says", "fitted", net, torch.ones(5, 2), task=task)


def test_clusters_are_numbers(logged: Log, iris: Any) -> None:
    X = iris[0]
    found = logged(KMeans(3, n_init=1, random_state=0).fit(X), X)
    assert found.task == "regression"
    assert set(found.outputs["prediction"].tolist()) == {0.0, 1.0, 2.0}


def test_torch_classifier(logged: Log, iris: Any) -> None:
    X, y = torch.tensor(iris[0].to_numpy()), torch.tensor(iris[1].to_numpy())
    net = Linear(4, 3).train()
    found = logged(net, X, y)
    assert net.training, "it is left as it was"
    assert net.dropout.training
    assert found.task == "classification"
    assert found.classes == (0, 1, 2)
    expected = net.layer(X).softmax(dim=1).detach().numpy()  # without dropout
    np.testing.assert_allclose(found.outputs["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(found.outputs["label"], expected.argmax(axis=1))
    assert found.outputs["label"].dtype == np.int64
    np.testing.assert_array_equal(found.inputs["input"], X.numpy())
    np.testing.assert_array_equal(found.labels, y.numpy())


def test_torch_takes_arrays_and_keeps_frozen_parts(logged: Log) -> None:
    net = Linear(4, 3).train()
    net.dropout.eval()
    found = logged(
        net, np.ones((5, 4), dtype=np.float32), np.array([0, 1, 2, 0, 1], dtype=np.uint8)
    )
    assert found.task == "classification"
    assert net.training
    assert not net.dropout.training


def test_torch_module_that_makes_probabilities_itself(logged: Log) -> None:
    net = torch.nn.Sequential(Linear(4, 3), torch.nn.Softmax(dim=1)).eval()
    X = torch.randn(6, 4)
    found = logged(net, X, task="classification")
    np.testing.assert_allclose(found.outputs["probabilities"], net(X).detach(), atol=1e-7)


def test_torch_outputs_that_are_no_classes(logged: Log) -> None:
    X = torch.randn(6, 4)
    one = Linear(4, 1).eval()
    plain = logged(one, X, np.arange(6))  # one number is no choice between classes
    assert plain.task == "tensor"
    assert plain.outputs["output"].shape == (6, 1)
    number = logged(one, X, np.arange(6), task="regression")
    assert number.task == "regression"
    np.testing.assert_allclose(number.outputs["prediction"], one(X).detach()[:, 0], atol=1e-7)
    vectors = logged(Linear(4, 3), X, torch.randn(6))
    assert vectors.task == "tensor"
    assert vectors.outputs["output"].shape == (6, 3)


def test_torch_names_of_several_outputs(logged: Log) -> None:
    X = torch.ones(2, 3)
    named = logged(Says(lambda x: {"mean": x.mean(dim=1), "double": 2 * x}), X)
    assert {name: array.shape for name, array in named.outputs.items()} == {
        "mean": (2,),
        "double": (2, 3),
    }
    pair = logged(Says(lambda x: (x, x + 1)), X)
    assert list(pair.outputs) == ["output_0", "output_1"]


def test_torch_refusals(logged: Log) -> None:
    X = torch.ones(2, 3)
    pair = Says(lambda x: (x, x))
    rejects(logged, "shape", "one logit a class", pair, X, task="classification")
    rejects(logged, "2 outputs", 'task="tensor"', pair, X, task="regression")
    rejects(logged, "no DataFrame", "tensor", Linear(3, 2), pd.DataFrame(X.numpy()))
    rejects(logged, "for 2 rows", "one prediction a row", Says(lambda x: x[:1]), X)
