"""The V1 protocol: what TensorFlow Serving's and KServe's clients send and read."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from predictor.factory import forest, table_frame, table_pipeline
from serving.asgi import make_root, serving_app
from serving.echo import make_echoes

from headgate.predictor import Field

ROW = {"carrier": "UA", "distance": 1000, "wind": 5.5}
TABLE = "/v1/models/late-flights:predict"
TENSOR = "/v1/models/breast-cancer:predict"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(make_root(tmp_path_factory.mktemp("v1"))) as asked:
        yield asked


@pytest.fixture(scope="module")
def table():
    frame, labels = table_frame()
    return frame, table_pipeline().fit(frame, labels)


def test_rows_of_a_table_get_the_answers_of_the_model_as_trained(asked, table):
    frame, model = table
    rows = json.loads(frame.to_json(orient="records"))
    predictions = asked.post(TABLE, json={"instances": rows}).json()["predictions"]
    assert [each["label"] for each in predictions] == model.predict(frame).tolist()
    probabilities = [each["probabilities"] for each in predictions]
    assert np.allclose(probabilities, model.predict_proba(frame), atol=1e-5)


def test_rows_of_a_tensor_get_the_answers_of_the_model_as_trained(asked):
    model, x, _ = forest()
    predictions = asked.post(TENSOR, json={"instances": x[:50].tolist()}).json()["predictions"]
    assert [each["label"] for each in predictions] == model.predict(x[:50]).tolist()
    named = asked.post(TENSOR, json={"instances": [{"x": row} for row in x[:50].tolist()]})
    assert named.json()["predictions"] == predictions


def test_an_answer_names_the_model_its_version_and_the_release(asked):
    answer = asked.post(TABLE, json={"instances": [ROW]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-headgate-model-version"] == "1"
    assert answer.headers["x-headgate-release"] == "test:1"
    told = answer.json()
    assert (told["model_name"], told["model_version"]) == ("late-flights", "1")
    assert told["release"] == "test:1"


@pytest.mark.parametrize(
    ("row", "alike"),
    [
        ({"wind": 5}, {"wind": 5.0}),
        ({"distance": 1000.0}, {"distance": 1000}),
        ({"wind": -0.0}, {"wind": 0}),
    ],
)
def test_numbers_mean_what_they_say(asked, row, alike):
    first, second = (
        asked.post(TABLE, json={"instances": [{**ROW, **one}]}).json()["predictions"]
        for one in (row, alike)
    )
    assert first == second


def test_look_alikes_of_null_are_text(asked, table):
    _, model = table
    carriers = [None, "nan", "None", "null", "", " UA", "ÜÄ✈"]
    rows = [{**ROW, "carrier": carrier} for carrier in carriers]
    answer = asked.post(TABLE, json={"instances": rows}).json()["predictions"]
    expected = model.predict_proba(pd.DataFrame(rows)).tolist()
    assert np.allclose([each["probabilities"] for each in answer], expected, atol=1e-5)
    # Null is a category that the model knows, its look-alikes are none.
    assert answer[0] != answer[1] == answer[2] == answer[3]


def test_the_last_of_two_equal_keys_counts(asked):
    once = asked.post(TABLE, json={"instances": [ROW]}).json()
    twice = '{"instances":[{"carrier":"DL","carrier":"UA","distance":1000,"wind":5.5}]}'
    assert asked.post(TABLE, content=twice).json() == once


def test_what_other_servers_need_is_accepted_and_ignored(asked):
    body = {"instances": [ROW], "signature_name": "serving_default", "parameters": {"a": 1}}
    assert asked.post(TABLE, json=body).status_code == 200


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "x/y+json"]
)
def test_json_may_be_called_by_its_other_names(asked, kind):
    body = json.dumps({"instances": [ROW]})
    answer = asked.post(TABLE, content=body, headers={"content-type": kind})
    assert answer.status_code == 200
    without = asked.post(TABLE, content=body)
    assert "content-type" not in without.request.headers
    assert without.json() == answer.json()


def test_a_version_may_be_named(asked):
    path = "/v1/models/late-flights/versions/1"
    assert asked.post(f"{path}:predict", json={"instances": [ROW]}).status_code == 200
    assert asked.get(path).json()["model_version"] == "1"


def test_the_models_are_listed_and_described(asked):
    assert asked.get("/v1/models").json() == {"models": ["breast-cancer", "late-flights"]}
    about = asked.get("/v1/models/late-flights").json()
    assert about["ready"] is True
    assert about["release"] == "test:1"
    assert about["model_version_status"] == [
        {
            "version": "1",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
    ]


COLUMNS = {"carrier": ["UA", None], "distance": [1000, 20], "wind": [5.5, None]}
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]


def test_columns_in_get_columns_out(asked):
    by_row = asked.post(TABLE, json={"instances": ROWS}).json()
    answer = asked.post(TABLE, json={"inputs": COLUMNS, "signature_name": "serving_default"})
    assert answer.status_code == 200
    told = answer.json()
    assert told["outputs"]["label"] == [each["label"] for each in by_row["predictions"]]
    assert told["outputs"]["probabilities"] == [
        each["probabilities"] for each in by_row["predictions"]
    ]
    assert "predictions" not in told
    assert (told["model_version"], told["release"]) == ("1", "test:1")


def test_a_column_may_be_a_matrix_of_one_column(asked):
    flat = asked.post(TABLE, json={"inputs": COLUMNS}).json()
    matrices = {name: [[value] for value in values] for name, values in COLUMNS.items()}
    assert asked.post(TABLE, json={"inputs": matrices}).json() == flat


def test_the_only_input_and_the_only_output_need_no_name(asked, tmp_path):
    x = forest()[1][:3].tolist()
    named, bare = (asked.post(TENSOR, json={"inputs": each}) for each in ({"x": x}, x))
    assert bare.json() == named.json()
    with serving_app(make_echoes(tmp_path, {"echo": (Field(name="x", dtype="float64"),)})) as echo:
        answer = echo.post("/v1/models/echo:predict", json={"inputs": [0.5, 1]})
        assert answer.json()["outputs"] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        ({"inputs": COLUMNS, "instances": ROWS}, "body", "'instances' is unknown beside inputs"),
        ({"inputs": []}, "inputs", "a list of 0 is no object"),
        ({"inputs": 7}, "inputs", "7 is no object"),
        ({"inputs": {}}, "inputs", "column 'carrier' is missing"),
        ({"inputs": {**COLUMNS, "gate": ["B2"]}}, "inputs", "column 'gate' is unknown"),
        ({"inputs": {**COLUMNS, "wind": 5}}, "inputs.wind", "5 is no list"),
        ({"inputs": {**COLUMNS, "wind": [1]}}, "inputs.wind", "1 rows where another input has 2"),
        ({"inputs": {**COLUMNS, "wind": [[1], [2, 3]]}}, "inputs.wind[0]", "a list of 1 is no"),
        ({"inputs": {**COLUMNS, "wind": [1, "x"]}}, "inputs.wind[1]", "'x' is no float64"),
        ({"inputs": {name: [] for name in COLUMNS}}, "inputs", "no rows"),
    ],
)
def test_columns_that_are_none(asked, body, where, what):
    answer = asked.post(TABLE, json=body)
    assert answer.status_code == 400
    told = answer.json()
    assert told["where"] == where
    assert told["error"].startswith(what)
    assert told["remedy"]


def test_too_many_rows_are_too_many_by_column(asked):
    body = {"inputs": {"carrier": [None] * 10_001, "distance": [1], "wind": [1]}}
    assert asked.post(TABLE, json=body).status_code == 413


def test_a_model_is_described_as_tensorflow_serving_does(asked):
    for path in ("/v1/models/late-flights", "/v1/models/late-flights/versions/1"):
        answer = asked.get(f"{path}/metadata")
        assert answer.headers["x-headgate-model-version"] == "1"
        told = answer.json()
        spec = {"name": "late-flights", "signature_name": "", "version": "1"}
        assert told["model_spec"] == spec
        signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["method_name"] == "tensorflow/serving/predict"
        assert signature["inputs"]["carrier"] == {
            "dtype": "DT_STRING",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
            "name": "carrier",
        }
        sizes = signature["outputs"]["probabilities"]["tensor_shape"]["dim"]
        assert [size["size"] for size in sizes] == ["-1", "2"]


def test_a_model_that_cannot_be_trusted_says_so(asked, monkeypatch):
    monkeypatch.setattr(asked.worker.models["late-flights"], "_mismatch", "it answers wrongly")
    about = asked.get("/v1/models/late-flights").json()
    assert about["ready"] is False
    assert about["model_version_status"][0]["state"] == "LOADING"
    assert about["model_version_status"][0]["status"]["error_message"] == "it answers wrongly"
    for path in ("/readyz", "/v2/health/ready", "/v2/models/late-flights/ready"):
        told = asked.get(path)
        assert told.status_code == 503
        assert told.json() == {"ready": False, "error": "it answers wrongly"}
    assert asked.get("/v2/models/breast-cancer/ready").status_code == 200
    assert asked.get("/livez").status_code == 200


def test_a_single_output_is_told_without_its_name_and_what_is_not_finite_as_null(tmp_path):
    inputs = (Field(name="x", dtype="float32", shape=(2,)),)
    with serving_app(make_echoes(tmp_path, {"log": inputs}, operation="Log")) as asked:
        answer = asked.post("/v1/models/log:predict", json={"instances": [[1, -1], [0, 1]]})
        assert answer.json()["predictions"] == [[0.0, None], [None, 0.0]]


def test_a_model_of_several_tensors_takes_objects(tmp_path):
    inputs = (
        Field(name="image", dtype="uint8", shape=(2, 2)),
        Field(name="words", dtype="string", shape=(3,)),
        Field(name="on", dtype="bool"),
    )
    row = {"image": [[0, 255], [1, 2]], "words": ["a", "é", ""], "on": True}
    with serving_app(make_echoes(tmp_path, {"sights": inputs})) as asked:
        answer = asked.post("/v1/models/sights:predict", json={"instances": [row, row]})
        assert answer.json()["predictions"] == [{f"{key}_out": row[key] for key in row}] * 2


def test_any_registered_name_can_be_asked(tmp_path):
    clashes = ["metrics", "models", "predictions", "ping", "health", "version", "v1"]
    names = ["vols en été", "7 dwarfs", "a.b-c_d", "class", *clashes]
    models = {name: (Field(name="x", dtype="float64"),) for name in names}
    with serving_app(make_echoes(tmp_path, models)) as asked:
        assert asked.get("/v1/models").json() == {"models": names}
        for name in names:
            answer = asked.post(f"/v1/models/{name}:predict", json={"instances": [{"x": 0.5}]})
            assert answer.json()["predictions"] == [0.5], name
            assert answer.json()["model_name"] == name
            told = asked.post(f"/predictions/{name}", json={"x": 0.5})
            assert told.json() == 0.5
            assert asked.get(f"/models/{name}").json()[0]["modelName"] == name
        assert asked.get("/metrics").status_code == 200
        for name in clashes:
            typed = asked.post(f"/model_{name}", json={"instances": [{"x": 1}]})
            assert typed.status_code == 200, name
