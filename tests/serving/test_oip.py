"""The Open Inference Protocol over REST: what clients of Triton, KServe and MLServer send."""

from __future__ import annotations

import json

import numpy as np
import pytest
from predictor.factory import forest, table_frame, table_pipeline
from serving.asgi import make_root, serving_app
from serving.echo import make_echoes

from headgate.predictor import Field

TABLE = "/v2/models/late-flights/infer"
TENSOR = "/v2/models/breast-cancer/infer"
EVERY = (
    Field(name="bool", dtype="bool"),
    Field(name="uint8", dtype="uint8"),
    Field(name="int32", dtype="int32"),
    Field(name="int64", dtype="int64"),
    Field(name="float32", dtype="float32"),
    Field(name="float64", dtype="float64", nullable=True),
    Field(name="string", dtype="string"),
    Field(name="cube", dtype="int32", shape=(2, 1, 3)),
)
LARGEST = 2**63 - 1
VALUES = {
    "bool": ("BOOL", [True, False]),
    "uint8": ("UINT8", [0, 255]),
    "int32": ("INT32", [-(2**31), 2**31 - 1]),
    "int64": ("INT64", [-LARGEST - 1, LARGEST]),
    "float32": ("FP32", [1.5, 3]),
    "float64": ("FP64", [0.1, None]),
    "string": ("BYTES", ["", "naïve ✈"]),
    "cube": ("INT32", [[[[1, 2, 3]], [[4, 5, 6]]], [[[7, 8, 9]], [[10, 11, 12]]]]),
}


def tensor(name, datatype, data, shape=None):
    shape = shape or ([2, 2, 1, 3] if name == "cube" else [len(data)])
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def column(name, data, datatype=None, shape=None):
    return tensor(
        name,
        datatype or {"carrier": "BYTES", "distance": "INT64"}.get(name, "FP64"),
        data,
        shape,
    )


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(make_root(tmp_path_factory.mktemp("oip"))) as asked:
        yield asked


@pytest.fixture(scope="module")
def echo(tmp_path_factory, asked):
    with serving_app(make_echoes(tmp_path_factory.mktemp("echo"), {"echo": EVERY})) as served:
        yield served


def outputs(answer):
    assert answer.status_code == 200, answer.text
    return {each["name"]: each for each in answer.json()["outputs"]}


def test_a_table_gets_the_answers_of_the_model_as_trained(asked):
    frame, labels = table_frame()
    model = table_pipeline().fit(frame, labels)
    columns = json.loads(frame.to_json(orient="columns"))
    inputs = [
        column(name, list(columns[name].values())) for name in ("wind", "carrier", "distance")
    ]
    told = outputs(asked.post(TABLE, json={"inputs": inputs}))
    assert told["label"]["datatype"] == "BYTES"
    assert told["label"]["shape"] == [len(frame)]
    assert told["label"]["data"] == model.predict(frame).tolist()
    assert told["probabilities"]["shape"] == [len(frame), 2]
    found = np.reshape(told["probabilities"]["data"], (-1, 2))
    assert np.allclose(found, model.predict_proba(frame), atol=1e-5)


def test_a_tensor_gets_the_answers_of_the_model_as_trained_flat_or_nested(asked):
    model, x, _ = forest()
    flat = tensor("x", "FP32", x[:9].reshape(-1).tolist(), [9, 30])
    nested = tensor("x", "FP64", x[:9].tolist(), [9, 30])
    first, second = (outputs(asked.post(TENSOR, json={"inputs": [one]})) for one in (flat, nested))
    assert first == second
    assert first["label"]["data"] == model.predict(x[:9]).tolist()


def test_columns_may_have_a_second_dimension_of_one(asked):
    first = [column("carrier", ["UA"]), column("distance", [9]), column("wind", [None])]
    shapes = {"carrier": [1, 1], "distance": [1, 1], "wind": [1, 1]}
    flat = [{**one, "shape": shapes[one["name"]]} for one in first]
    nested = [{**one, "data": [one["data"]]} for one in flat]
    told = [outputs(asked.post(TABLE, json={"inputs": one})) for one in (first, flat, nested)]
    assert told[0] == told[1] == told[2]


def test_every_datatype_arrives_as_it_was_sent(echo):
    inputs = [tensor(name, *VALUES[name]) for name in VALUES]
    told = outputs(echo.post("/v2/models/echo/infer", json={"inputs": inputs}))
    for name, (datatype, data) in VALUES.items():
        answer = told[f"{name}_out"]
        assert answer["datatype"] == datatype
        assert answer["shape"] == ([2, 2, 1, 3] if name == "cube" else [2])
        expected = np.ravel(data).tolist() if name == "cube" else data
        assert answer["data"] == expected


@pytest.mark.parametrize("datatype", ["INT8", "INT16", "UINT64", "INT64", "UINT8"])
def test_any_integer_datatype_is_fine_where_the_values_fit(echo, datatype):
    sent = {**VALUES, "int32": (datatype, [1, 2]), "float32": ("FP16", [1, 2])}
    inputs = [tensor(name, *sent[name]) for name in sent]
    told = outputs(echo.post("/v2/models/echo/infer", json={"inputs": inputs}))
    assert told["int32_out"]["data"] == [1, 2]
    assert told["float32_out"]["data"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("name", "datatype", "sent", "arrived"),
    [
        ("int64", "INT8", [-128, 127.0], [-128, 127]),
        ("float32", "UINT64", [2**64 - 1, 0], [1.8446744e19, 0]),
        ("float32", "FP16", [0.1, 65519], [0.099975586, 65504]),
        ("float64", "FP32", [0.1, None], [0.10000000149011612, None]),
        ("float64", "INT8", [None, 5], [None, 5]),
        ("cube", "UINT8", [*range(11), 255], [*range(11), 255]),
    ],
)
def test_a_number_is_what_the_binary_form_would_carry(echo, name, datatype, sent, arrived):
    shape = [2, 2, 1, 3] if name == "cube" else [2]
    inputs = [tensor(each, *VALUES[each]) for each in VALUES if each != name]
    inputs.append(tensor(name, datatype, sent, shape))
    told = outputs(echo.post("/v2/models/echo/infer", json={"inputs": inputs}))
    assert told[f"{name}_out"]["data"] == arrived


def test_the_request_names_the_outputs_it_wants_and_their_order(echo):
    inputs = [tensor(name, *VALUES[name]) for name in VALUES]
    wanted = [{"name": "string_out"}, {"name": "bool_out", "parameters": {"binary_data": False}}]
    answer = echo.post("/v2/models/echo/infer", json={"inputs": inputs, "outputs": wanted})
    assert list(outputs(answer)) == ["string_out", "bool_out"]
    every = echo.post("/v2/models/echo/infer", json={"inputs": inputs, "outputs": []})
    assert list(outputs(every)) == [f"{name}_out" for name in VALUES]


def test_an_answer_names_the_request_the_model_its_version_and_the_release(asked):
    inputs = [column("carrier", ["UA"]), column("distance", [9]), column("wind", [None])]
    body = {
        "id": 'seven "7"',
        "parameters": {"anything": 1, "content_type": "pd", "sequence_id": 7, "timeout": 5},
        "model_name": "as KServe's clients send",
        "inputs": [{**one, "parameters": {"content_type": "str", "headers": {}}} for one in inputs],
        "outputs": [{"name": "label", "parameters": {"content_type": "str"}}],
    }
    answer = asked.post(TABLE, json=body)
    told = answer.json()
    assert told["id"] == 'seven "7"'
    assert (told["model_name"], told["model_version"]) == ("late-flights", "1")
    assert told["parameters"] == {"release": "test:1"}
    assert answer.headers["x-headgate-model-version"] == "1"
    assert answer.headers["x-headgate-release"] == "test:1"
    assert "id" not in asked.post(TABLE, json={"inputs": inputs}).json()


def test_the_server_and_its_models_describe_themselves(asked, echo):
    about = asked.get("/v2").json()
    assert about["name"] == "headgate"
    assert about["version"] == "test:1"
    assert about["parameters"] == {"models": "breast-cancer,late-flights"}
    for path in ("/v2/models/late-flights", "/v2/models/late-flights/versions/1"):
        model = asked.get(path).json()
        assert model["versions"] == ["1"]
        assert model["platform"] == "headgate_onnx"
        assert {"name": "carrier", "datatype": "BYTES", "shape": [-1]} in model["inputs"]
        assert {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]} in model["outputs"]
    cube = echo.get("/v2/models/echo").json()["inputs"][-1]
    assert cube == {"name": "cube", "datatype": "INT32", "shape": [-1, 2, 1, 3]}


@pytest.mark.parametrize(
    "path",
    [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/late-flights/ready",
        "/v2/models/late-flights/versions/1/ready",
    ],
)
def test_health(asked, path):
    assert asked.get(path).status_code == 200


def test_a_version_may_be_named(asked):
    body = {"inputs": [column("carrier", ["UA"]), column("distance", [9]), column("wind", [1])]}
    path = "/v2/models/late-flights/versions/1/infer"
    assert asked.post(path, json=body).json() == asked.post(TABLE, json=body).json()


def test_the_server_says_what_it_understands_beside_the_protocol(asked):
    extensions = asked.get("/v2").json()["extensions"]
    assert extensions == ["binary_tensor_data", "model_configuration", "model_repository"]
    assert asked.get("/v2/models").json() == {"models": ["breast-cancer", "late-flights"]}


def test_a_model_is_configured_as_triton_s_clients_expect(asked, echo):
    config = asked.get("/v2/models/late-flights/versions/1/config").json()
    assert (config["name"], config["platform"]) == ("late-flights", "headgate_onnx")
    # The rows are part of each shape.
    assert config["max_batch_size"] == 0
    assert {"name": "carrier", "data_type": "TYPE_STRING", "dims": [-1]} in config["input"]
    assert {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [-1, 2]} in config["output"]
    (cube,) = echo.get("/v2/models/echo/config").json()["input"][-1:]
    assert cube == {"name": "cube", "data_type": "TYPE_INT32", "dims": [-1, 2, 1, 3]}


INDEX = "/v2/repository/index"


def test_the_repository_shows_what_is_loaded(asked, monkeypatch):
    ready = [
        {"name": name, "version": "1", "state": "READY", "reason": ""}
        for name in ("breast-cancer", "late-flights")
    ]
    for body in (b"", b"{}", b'{"ready": false}', b'{"ready": true, "repository_name": ""}'):
        assert asked.post(INDEX, content=body).json() == ready
    monkeypatch.setattr(asked.worker.models["late-flights"], "_mismatch", "it answers wrongly")
    wrong = {**ready[1], "state": "UNAVAILABLE", "reason": "it answers wrongly"}
    assert asked.post(INDEX).json() == [ready[0], wrong]
    assert asked.post(INDEX, json={"ready": True}).json() == [ready[0]]


@pytest.mark.parametrize(
    ("content", "status", "what"),
    [
        (b"{", 400, "body: invalid JSON"),
        (b"[]", 400, "body: [] is not understood"),
        (b'{"ready": 1}', 400, "body: an object is not understood"),
        (b"[" * 3000, 400, "body: invalid JSON"),
        (b" " * 70_000, 413, "body: the body has 70000 bytes"),
    ],
)
def test_a_question_to_the_repository_that_is_none(asked, content, status, what):
    answer = asked.post(INDEX, content=content)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(what)


def test_too_long_a_question_in_pieces_is_not_waited_for(asked):
    async def pieces():
        for _ in range(7):
            yield b" " * 10_000

    answer = asked.post(INDEX, content=pieces())
    assert answer.status_code == 413
    # Its limit is no setting.
    assert answer.json()["error"].endswith("send at most 65536 bytes")
    assert asked.post(INDEX, content=b"", headers={"content-type": "text/csv"}).status_code == 415


@pytest.mark.parametrize("change", ["load", "unload"])
def test_a_release_is_not_changed(asked, change):
    path = f"/v2/repository/models/late-flights/{change}"
    for content in (b"", b'{"parameters": {"unload_dependents": false}}'):
        answer = asked.post(path, content=content)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("late-flights: release test:1 is immutable")
    unknown = asked.post(f"/v2/repository/models/nobody/{change}")
    assert unknown.status_code == 404
    assert "no model 'nobody'" in unknown.json()["error"]
    assert asked.get("/v2/models/late-flights/ready").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["", "/health/live", "/health/ready", "/models", "/models/late-flights", "/models/x"],
)
def test_every_answer_says_whose_it_is(asked, path):
    answer = asked.get(f"/v2{path}")
    assert answer.headers["x-headgate-release"] == "test:1"
    if path.endswith("late-flights"):
        assert answer.headers["x-headgate-model-version"] == "1"
