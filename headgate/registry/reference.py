"""`headgate.log_reference`: the one line that a training script adds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from headgate.predictor import Reference, Task
from headgate.predictor.parity import spread
from headgate.registry.predictions import own_predictions
from headgate.registry.recording import batch_of, count_rows, labels_of, refused
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
    measured from. Nothing but this call is needed in a training script. Put it before the call
    that registers the model, so that there is never a version without a reference.

    Args:
        model: a fitted scikit-learn estimator or pipeline, anything with the same methods, or a
            torch module, which is run in evaluation mode.
        X: the rows as the model takes them: a DataFrame, an array or a tensor, ``(n, …)``.
        y: their true labels or values, ``(n,)``, if there are any.
        rows: keep at most so many, evenly spread over ``X``.
        task: what the model does, where it cannot be told. A torch module with two outputs or
            more is taken for a classifier if ``y`` holds whole numbers.

    Raises:
        InputError: no run is active, ``X`` is empty or of a kind no request can carry, ``y``
            has another length, ``model`` cannot predict, or it predicts no finite number.
    """
    import mlflow

    if mlflow.active_run() is None:
        raise refused("no MLflow run is active", "call it inside `with mlflow.start_run():`")
    count = count_rows(X)
    if rows < 1:
        raise refused(f"rows={rows}", "keep at least one row")
    chosen = spread(count, rows)
    some = X.iloc[chosen] if hasattr(X, "iloc") else X[chosen]
    labels = labels_of(y, count, chosen)
    inputs = batch_of(some)
    own = own_predictions(model, some, labels, task)
    reference = Reference(
        inputs=inputs, outputs=own.outputs, labels=labels, task=own.task, classes=own.classes
    )
    with tempfile.TemporaryDirectory() as folder:
        reference.save(Path(folder))
        mlflow.log_artifacts(folder, REFERENCE)
