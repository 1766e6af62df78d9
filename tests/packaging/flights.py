"""A table much like the flights: strings with nulls, integers, floats with nulls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from headgate.predictor import Reference
from tests.packaging.makers import objects, tabular

ROWS = 600
STRINGS = ("carrier", "origin")
NUMBERS = ("distance", "hour", "wind")


def make_frame(null: float | None = np.nan, rows: int = ROWS) -> tuple[pd.DataFrame, np.ndarray]:
    """The columns, null among the strings as given, and whether the flight was late."""
    random = np.random.default_rng(7)
    carriers = np.array(["UA", "DL", "AA", "B6", "nan", "None", null], dtype=object)
    carrier = random.choice(carriers, rows)
    origin = random.choice(np.array(["JFK", "EWR", null], dtype=object), rows)
    distance = random.integers(100, 3000, rows)
    hour = random.integers(5, 23, rows)
    wind = np.where(random.random(rows) < 0.2, np.nan, random.gamma(2, 5, rows).round(1))
    score = (
        np.nan_to_num(wind, nan=9) / 8
        + hour / 12
        - distance / 2000
        + 0.8 * (carrier == "nan")
        - 0.8 * (carrier == "None")
        + 1.5 * pd.isna(carrier)
    )
    columns = {"carrier": carrier, "origin": origin}
    frame = pd.DataFrame(
        {name: pd.Series(values, dtype=object) for name, values in columns.items()}
        | {"distance": distance, "hour": hour, "wind": wind}
    )
    return frame, (score + random.normal(0, 0.3, rows) > 1.6).astype(int)


def make_targets(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """What else can be asked of the same flights."""
    _, late = make_frame(rows=len(frame))
    minutes = frame["distance"] * 0.01 + frame["hour"] + np.nan_to_num(frame["wind"], nan=9)
    grades = np.array(["early", "on time", "very late"], dtype=object)
    return {
        "late": late,
        "said": np.where(late, "late", "on time").astype(object),
        "grade": grades[np.digitize(minutes, [25, 40])],
        "number": np.array([3, 7, 11])[np.digitize(minutes, [25, 40])],
        "minutes": minutes.to_numpy(),
    }


def make_edges(frame: pd.DataFrame, null: float | None = np.nan) -> pd.DataFrame:
    """Rows of the frame, each with one value that held-out rows rarely have."""
    strings = ("nan", "None", "", " ", "never seen before", "ua", "Zürich ☃", null)
    floats = (0.0, -0.0, 1e-45, -1e-310, 16777217.0, 1e20, 3.4e38, -3.4e38, np.nan)
    integers = (0, -1, 2**24 + 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
    asked = [(name, value) for name in STRINGS for value in strings]
    asked += [("wind", value) for value in floats]
    asked += [(name, value) for name in ("distance", "hour") for value in integers]
    edges = frame.iloc[np.arange(len(asked)) * 7 % len(frame)].reset_index(drop=True)
    for row, (name, value) in enumerate(asked):
        edges.loc[row, name] = value
    return edges


def to_batch(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns as a predictor gets them: null among the strings is None."""
    batch = {}
    for name in frame:
        if name in STRINGS:
            batch[name] = objects([None if pd.isna(value) else value for value in frame[name]])
        else:
            batch[name] = frame[name].to_numpy()
    return batch


def make_reference(model: Any, frame: pd.DataFrame) -> Reference:
    """What `log_reference` would log."""
    if not hasattr(model, "predict_proba"):
        return tabular(to_batch(frame), {"prediction": np.asarray(model.predict(frame))})
    return tabular(
        to_batch(frame),
        {"label": model.predict(frame), "probabilities": model.predict_proba(frame)},
        model.classes_.tolist(),
    )
