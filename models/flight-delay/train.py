"""Will a flight out of New York arrive 15 minutes late or more? Trained on January to July 2013.

August says how good it is. September to December stay unseen: they drift for real, from one
flight in four that is late to one in seven.
"""

from __future__ import annotations

import os

# Without a limit, OpenMP takes every core of the machine and fights others for them.
os.environ.setdefault("OMP_NUM_THREADS", "2")

from importlib.metadata import version
from typing import Any

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
PARAMS = {"max_iter": 100, "learning_rate": 0.1, "random_state": 0}
METRICS = {"roc_auc": roc_auc_score, "average_precision": average_precision_score}
# The types in the saved model that skops does not know; nothing else of it is opened.
TRUSTED = [
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]
REQUIREMENTS = [f"{name}=={version(name)}" for name in ("scikit-learn", "pandas", "skops")]


def build(params: dict[str, Any]) -> Pipeline:
    """One pipeline from raw columns to probabilities: what is served is what was trained."""
    # What is missing stays missing: the trees know what to do with NaN.
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("strings", encode, STRINGS), ("numbers", "passthrough", NUMBERS)])
    return make_pipeline(columns, HistGradientBoostingClassifier(**params))


def base_rate(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """How often this carrier was late at this hour: what anybody could say without a model."""
    late = labels(train)
    known = late.groupby([train["carrier"], train["hour"]]).mean()
    asked = pd.MultiIndex.from_frame(test[["carrier", "hour"]])
    return known.reindex(asked).fillna(late.mean()).to_numpy()


def main(params: dict[str, Any] = PARAMS) -> None:
    """Train, compare with the base rate, and register the model if it is better."""
    table, left_out = load()
    train, test = table[table["month"] <= 7], table[table["month"] == 8]
    X, y = features(test), labels(test)
    print(f"{len(train):,} flights to learn from, {len(test):,} to test on, ", end="")
    print(f"{left_out:,} left out because they never arrived")

    mlflow.set_experiment(NAME)
    with mlflow.start_run():
        mlflow.log_params(
            {**params, "rows": len(train), "left_out": left_out, "data_sha256": digest(table)}
        )
        model = build(params).fit(features(train), labels(train))

        predicted = {"model": model.predict_proba(X)[:, 1], "base_rate": base_rate(train, test)}
        scores = pd.DataFrame(
            {name: [score(y, p) for p in predicted.values()] for name, score in METRICS.items()},
            index=list(predicted),
        )
        print(scores.round(4))
        mlflow.log_metrics(scores.loc["model"].to_dict())
        mlflow.log_metrics(scores.loc["base_rate"].add_prefix("base_rate_").to_dict())
        if (scores.loc["model"] <= scores.loc["base_rate"]).any():
            raise SystemExit("the model is no better than the base rate: not registered")

        headgate.log_reference(model, X, y)
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=NAME,
            signature=infer_signature(X, model.predict(X)),
            serialization_format="skops",
            skops_trusted_types=TRUSTED,
            pip_requirements=REQUIREMENTS,
        )


if __name__ == "__main__":
    main()
