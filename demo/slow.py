"""Version 3 of flight-delay: calibrated probabilities, the way that is one line in a notebook.

It is a right model, and the registered one does what was recorded. But ``cv=20`` keeps one whole
pipeline for each of its folds, all of which answer every request. skl2onnx does not convert
that, so scikit-learn itself serves it, at some milliseconds a pipeline.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "flight-delay"))

import mlflow
from data import features, labels, load
from mlflow.models import infer_signature
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import brier_score_loss, roc_auc_score
from train import NAME, REQUIREMENTS, TRUSTED, build

import headgate

FOLDS = 20
ROWS = 5_000
PARAMS = {"max_iter": 10, "random_state": 0}
CALIBRATION = [
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
]


def main() -> None:
    """Train, calibrate, register."""
    table, _ = load()
    train = table[table["month"] <= 7].sample(ROWS, random_state=0)
    test = table[table["month"] == 8].iloc[::20]
    X, y = features(test), labels(test)

    mlflow.set_experiment(NAME)
    with mlflow.start_run():
        mlflow.log_params({**PARAMS, "folds": FOLDS, "rows": ROWS})
        model = CalibratedClassifierCV(build(PARAMS), cv=FOLDS)
        model.fit(features(train), labels(train))
        late = model.predict_proba(X)[:, 1]
        scores = {"roc_auc": roc_auc_score(y, late), "brier": brier_score_loss(y, late)}
        mlflow.log_metrics(scores)
        print(f"ROC AUC {scores['roc_auc']:.4f}, Brier score {scores['brier']:.4f}: good enough")

        headgate.log_reference(model, X, y, rows=200)
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=NAME,
            signature=infer_signature(X, model.predict(X[:100])),
            serialization_format="skops",
            skops_trusted_types=[*TRUSTED, *CALIBRATION],
            pip_requirements=REQUIREMENTS,
        )


if __name__ == "__main__":
    main()
