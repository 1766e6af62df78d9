"""Pipelines as people write them for the flights, unfitted, and how their answers are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from headgate.predictor import difference
from tests.packaging.flights import (
    NUMBERS,
    STRINGS,
    make_frame,
    make_reference,
    make_targets,
    to_batch,
)
from tests.packaging.makers import Tried

FRAME, _ = make_frame()
TARGETS = make_targets(FRAME)
BOOST: dict[str, Any] = {"max_iter": 15, "random_state": 0}
FOREST: dict[str, Any] = {"n_estimators": 15, "max_depth": 6, "random_state": 0, "n_jobs": 2}


def one_hot(**options: Any) -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", **options)


def ordinal(**options: Any) -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **options)


def encoded(encoder: Any, model: Any) -> Any:
    """Numbers, nulls among them, go to the model as they are."""
    columns = make_column_transformer((encoder, list(STRINGS)), remainder="passthrough")
    return make_pipeline(columns, model)


def imputed(model: Any, *, scaled: bool = True, encoder: Any = None) -> Any:
    numbers = [SimpleImputer(strategy="median"), *([StandardScaler()] if scaled else [])]
    columns = make_column_transformer(
        (encoder or one_hot(), list(STRINGS)), (make_pipeline(*numbers), list(NUMBERS))
    )
    return make_pipeline(columns, model)


def answers(model: Any, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    return make_reference(model, frame).outputs


def assert_same_as_model(tried: Tried, engine: str, model: Any, frame: pd.DataFrame) -> None:
    """Row by row, so that no row is helped or harmed by its neighbours."""
    predictor, expected = tried.predictor(engine), answers(model, frame)
    batch = to_batch(frame)
    for row in range(len(frame)):
        one = slice(row, row + 1)
        got = predictor.predict({name: array[one] for name, array in batch.items()})
        wanted = {name: array[one] for name, array in expected.items()}
        found = difference(got, wanted, 1e-5)
        assert found.ok.all(), (frame.iloc[row].to_dict(), got, wanted)
