"""`headgate.log_reference`: the one line that a training script adds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import InputError
from headgate.predictor import Array, Batch, Outputs, Reference, Task
from headgate.registry.versions import REFERENCE

__all__ = ["log_reference"]


def log_reference(
    model: Any,
    X: Any,  # noqa: N803
    y: Any = None,
    *,
    rows: int = 2000,
    task: Task | None = None,
) -> None:
    """Log held-out rows with the model's own predictions to the active MLflow run.

    They are what the packaged model is held against, what the gate sends, and what drift is
    measured from. Nothing but this call is needed in a training script.

    Args:
        model: a fitted scikit-learn estimator or pipeline, or a torch module.
        X: the rows as the model takes them: a DataFrame, an array or a tensor, ``(n, …)``.
        y: their true labels or values, ``(n,)``, if there are any.
        rows: keep at most so many, evenly spread over ``X``.
        task: what the model does, where it cannot be told from ``model`` and ``y``.

    Raises:
        InputError: no run is active, ``X`` is empty or of a kind no request can carry, ``y``
            has another length, or ``model`` cannot predict.
    """
    import mlflow

    run = mlflow.active_run()
    if run is None:
        raise _wrong("no MLflow run is active", "call it inside `with mlflow.start_run():`")
    count = len(X)
    if count == 0 or rows < 1:
        raise _wrong(f"{count} rows given, at most {rows} wanted", "give at least one row")
    if y is not None and len(y) != count:
        raise _wrong(f"X has {count} rows, y has {len(y)}", "give one label a row")
    chosen = np.unique(np.linspace(0, count - 1, min(rows, count)).round().astype(np.int64))
    some = X.iloc[chosen] if hasattr(X, "iloc") else X[chosen]
    truth = None if y is None else _array(np.asarray(y)[chosen], "y")
    found, classes, outputs = _predict(model, some, truth, task)
    reference = Reference(
        inputs=_inputs(some), outputs=outputs, labels=truth, task=found, classes=classes
    )
    with tempfile.TemporaryDirectory() as folder:
        reference.save(Path(folder))
        mlflow.log_artifacts(folder, REFERENCE)


def _predict(
    model: Any, some: Any, truth: Array | None, task: Task | None
) -> tuple[Task, tuple[str | int, ...], Outputs]:
    """The task, the classes and the model's own outputs."""
    if _is_torch(model):
        return _predict_torch(model, some, truth, task)
    if hasattr(model, "predict_proba") and task in (None, "classification"):
        classes = tuple(_plain(each) for each in model.classes_)
        return (
            "classification",
            classes,
            {
                "label": _array(np.asarray(model.predict(some)), "the predicted labels"),
                "probabilities": np.asarray(model.predict_proba(some), dtype=np.float32),
            },
        )
    if hasattr(model, "classes_"):
        raise _wrong(
            f"{type(model).__name__} has classes but no probabilities",
            "wrap it, e.g. in sklearn.calibration.CalibratedClassifierCV",
        )
    if not hasattr(model, "predict"):
        raise _wrong(
            f"{type(model).__name__} has no predict",
            "give a fitted scikit-learn estimator or a torch module",
        )
    return "regression", (), {"prediction": np.asarray(model.predict(some), dtype=np.float32)}


def _predict_torch(
    model: Any, some: Any, truth: Array | None, task: Task | None
) -> tuple[Task, tuple[str | int, ...], Outputs]:
    import torch

    model.eval()
    tensor = torch.as_tensor(some if isinstance(some, torch.Tensor) else np.asarray(some))
    with torch.no_grad():
        answer = model(tensor)
    if not isinstance(answer, torch.Tensor):
        raise _wrong(f"the module returns {type(answer).__name__}", "return one tensor, (rows, …)")
    counted = truth is not None and truth.dtype.kind == "i"
    if task == "classification" or (task is None and counted and answer.ndim == 2):
        classes = tuple(range(answer.shape[1]))
        outputs = {
            "label": answer.argmax(1).numpy().astype(np.int64),
            "probabilities": answer.softmax(1).numpy().astype(np.float32),
        }
        return "classification", classes, outputs
    if task == "regression":
        return "regression", (), {"prediction": answer.reshape(len(answer)).numpy()}
    return "tensor", (), {"output": answer.numpy()}


def _inputs(some: Any) -> Batch:
    """The rows as a batch: a column each, or the only tensor, named as packaging expects."""
    if hasattr(some, "columns"):
        return {str(name): _array(_column(some[name]), str(name)) for name in some.columns}
    array = some.numpy() if hasattr(some, "numpy") else np.asarray(some)
    return {"input": _array(array, "X")}


def _column(series: Any) -> Array:
    if series.dtype.kind in "OU" or str(series.dtype) in {"str", "string", "category"}:
        return np.array([*series.where(series.notna(), None), None], dtype=object)[:-1]
    return np.asarray(series.to_numpy())


def _array(array: Array, what: str) -> Array:
    """The array in a type that a request can carry."""
    if array.dtype.kind in "OU":
        values = [None if _is_null(value) else value for value in array.tolist()]
        if not all(value is None or isinstance(value, str) for value in values):
            raise _wrong(f"{what} mixes strings with other values", "make it one or the other")
        return np.array([*values, None], dtype=object)[:-1]
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        return array.astype(np.int64)
    if array.dtype.kind not in "biuf":
        raise _wrong(
            f"{what} is of type {array.dtype}",
            "give numbers, booleans or strings; dates as numbers",
        )
    if array.dtype in (np.int8, np.int16, np.float16):
        return array.astype(np.int32 if array.dtype.kind == "i" else np.float32)
    return np.ascontiguousarray(array)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124


def _plain(value: Any) -> str | int:
    return value if isinstance(value, str) else int(value)


def _is_torch(model: Any) -> bool:
    return any(kind.__module__.startswith("torch.") for kind in type(model).__mro__)


def _wrong(what: str, remedy: str) -> InputError:
    return InputError(what, where="headgate.log_reference", remedy=remedy)
