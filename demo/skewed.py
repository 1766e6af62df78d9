"""Version 4 of flight-delay, with the classic mistake: half of the model stays in the script.

Somebody prefers metric units and converts the rows before training and before every prediction
here. What is registered is the bare pipeline, and nobody will convert what is sent to it: served,
it would take 70 degrees Fahrenheit for 70 degrees Celsius. It would answer all the same, only
wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "flight-delay"))

import mlflow
import numpy as np
import pandas as pd
from data import features, labels, load
from mlflow.models import infer_signature
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from train import NAME, REQUIREMENTS, TRUSTED, build

import headgate

PARAMS = {"max_iter": 50, "random_state": 0}
KM_PER_MILE = 1.609344


def to_metric(X: pd.DataFrame) -> pd.DataFrame:
    """The rows in Celsius and kilometres."""
    celsius = {name: (X[name] - 32) / np.float32(1.8) for name in ("temp", "dewp")}
    kilometres = {
        name: X[name] * np.float32(KM_PER_MILE)
        for name in ("distance", "visib", "wind_speed", "wind_gust")
    }
    return X.assign(**celsius, **kilometres)


class AsInThisScript:
    """The model as this script uses it: on converted rows."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.classes_ = pipeline.classes_

    def predict(self, X: pd.DataFrame) -> Any:
        """Late or not."""
        return self.pipeline.predict(to_metric(X))

    def predict_proba(self, X: pd.DataFrame) -> Any:
        """How likely each is."""
        return self.pipeline.predict_proba(to_metric(X))


def main() -> None:
    """Train on converted rows, measure on converted rows, register what wants converted rows."""
    table, _ = load()
    train, test = table[table["month"] <= 7], table[table["month"] == 8]
    X, y = features(test), labels(test)

    mlflow.set_experiment(NAME)
    with mlflow.start_run():
        pipeline = build(PARAMS).fit(to_metric(features(train)), labels(train))
        model = AsInThisScript(pipeline)
        roc_auc = roc_auc_score(y, model.predict_proba(X)[:, 1])
        mlflow.log_params(PARAMS)
        mlflow.log_metric("roc_auc", roc_auc)
        print(f"ROC AUC {roc_auc:.4f}: nothing here looks wrong")

        headgate.log_reference(model, X, y)
        mlflow.sklearn.log_model(
            pipeline,
            name="model",
            registered_model_name=NAME,
            signature=infer_signature(X, model.predict(X)),
            serialization_format="skops",
            skops_trusted_types=TRUSTED,
            pip_requirements=REQUIREMENTS,
        )


if __name__ == "__main__":
    main()
