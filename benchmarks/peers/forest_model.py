"""The forest as every peer opens it, with the settings that Headgate's engines have.

``BENCH_MODEL`` names the folder with ``forest.onnx`` and ``forest.joblib``, ``BENCH_ENGINE`` is
``onnx`` or ``sklearn``. One thread in either.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NAME = "forest"
MAX_BATCH_ROWS = 256
"""Rows in one call of the model, where a peer batches: Headgate's default."""

Rows = Any
"""float32 ``(n, 30)``."""
Predict = Callable[[Rows], tuple[Any, Any]]
"""Rows to labels, int64 ``(n,)``, and probabilities, float32 ``(n, 2)``."""


def open_forest() -> Predict:
    """The model that the environment names, warmed up."""
    folder = Path(os.environ["BENCH_MODEL"])
    predict = _onnx(folder) if os.environ["BENCH_ENGINE"] == "onnx" else _sklearn(folder)
    for _ in range(10):
        predict(np.zeros((1, 30), np.float32))
    return predict


def outputs(labels: Any, probabilities: Any) -> list[dict[str, Any]]:
    """As tensors of the Open Inference Protocol, in plain lists."""
    rows = len(labels)
    return [
        {"name": "label", "datatype": "INT64", "shape": [rows], "data": labels.tolist()},
        {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": [rows, 2],
            "data": probabilities.ravel().tolist(),
        },
    ]


def _onnx(folder: Path) -> Predict:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(
        str(folder / "forest.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def predict(rows: Rows) -> tuple[Any, Any]:
        labels, probabilities = session.run(["label", "probabilities"], {"input": rows})
        return labels, probabilities

    return predict


def _sklearn(folder: Path) -> Predict:
    import joblib

    model = joblib.load(folder / "forest.joblib")

    def predict(rows: Rows) -> tuple[Any, Any]:
        probabilities = model.predict_proba(rows)
        return model.classes_[probabilities.argmax(axis=1)], probabilities.astype(np.float32)

    return predict
