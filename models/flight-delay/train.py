"""Will a flight out of New York arrive 15 minutes late or more? Trained on January to July 2013.

August says how good it is. September to December stay unseen: they drift for real, from one
flight in four that is late to one in seven.
"""

from __future__ import annotations

import os

# Without a limit, OpenMP takes every core of the machine and fights for them.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import mlflow
import numpy as np
import pandas as pd
from data import NUMBERS, STRINGS, digest, features, labels, load
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import headgate

NAME = "flight-delay"
PARAMS = {"max_iter": 120, "learning_rate": 0.1, "max_leaf_nodes": 31, "random_state": 0}
# What the saved model is made of; MLflow opens nothing else of it.
TRUSTED = [
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]
REQUIREMENTS = ["scikit-learn", "pandas", "skops"]


def build() -> Pipeline:
    """One pipeline from raw columns to probabilities: what is served is what was trained."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("strings", encode, STRINGS), ("numbers", "passthrough", NUMBERS)])
    return make_pipeline(columns, HistGradientBoostingClassifier(**PARAMS))


def baseline(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """How often this carrier was late at this hour: what anybody could predict without a model."""
    known = labels(train).groupby([train["carrier"], train["hour"]]).mean()
    keys = pd.MultiIndex.from_frame(test[["carrier", "hour"]])
    return known.reindex(keys).fillna(labels(train).mean()).to_numpy()


def main() -> None:
    """Train, measure against the baseline, register."""
    table, cancelled = load()
    train, test = table[table["month"] <= 7], table[table["month"] == 8]
    X, y = features(test), labels(test)

    mlflow.set_experiment(NAME)
    with mlflow.start_run():
        model = build().fit(features(train), labels(train))
        scores = {"model": model.predict_proba(X)[:, 1], "baseline": baseline(train, test)}
        metrics = {
            f"{who}_{metric.__name__.removesuffix('_score')}": metric(y, score)
            for who, score in scores.items()
            for metric in (roc_auc_score, average_precision_score)
        }
        mlflow.log_params(
            {**PARAMS, "rows": len(train), "left_out_without_arrival": cancelled}
            | {"data_sha256": digest(table)}
        )
        mlflow.log_metrics(metrics)
        print({name: round(value, 4) for name, value in metrics.items()})
        for metric in ("roc_auc", "average_precision"):
            if metrics[f"model_{metric}"] <= metrics[f"baseline_{metric}"]:
                raise SystemExit(f"{metric} is no better than the base rate: not registered")
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=NAME,
            signature=infer_signature(X, model.predict(X)),
            serialization_format="skops",
            skops_trusted_types=TRUSTED,
            pip_requirements=REQUIREMENTS,
        )
        headgate.log_reference(model, X, y)


if __name__ == "__main__":
    main()
