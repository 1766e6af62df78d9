"""BentoML's typed endpoints: what their document says of the models, and whether it is true."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predictor.factory import TABLE_SIGNATURE, TENSOR_SIGNATURE
from serving.asgi import make_root, make_service, serving_app
from serving.echo import make_echoes
from serving.schemas import check_document, described, is_valid, resolve

from headgate.errors import ServingError
from headgate.predictor import Field

EVERY = (
    Field(name="bool", dtype="bool"),
    Field(name="uint8", dtype="uint8"),
    Field(name="int32", dtype="int32"),
    Field(name="int64", dtype="int64"),
    Field(name="float32", dtype="float32"),
    Field(name="float64", dtype="float64"),
    Field(name="gap", dtype="float64", nullable=True),
    Field(name="string", dtype="string"),
    Field(name="words", dtype="string", shape=(2,), nullable=True),
    Field(name="grid", dtype="float32", shape=(2, 3), nullable=True),
)
ODD = (
    "class",
    "a-b",
    "_x",
    "copy",
    "json",
    "model_dump",
    "model_x",
    "naïve ✈",
    "a.b",
    "0",
    " ",
    "ok",
)
JSON_TYPES = {
    "bool": "boolean",
    "uint8": "integer",
    "int32": "integer",
    "int64": "integer",
    "float32": "number",
    "float64": "number",
    "string": "string",
}
ROW = {"carrier": "UA", "distance": 1000, "wind": 5.5}
THINGS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("typed"), serving="max_request_rows = 50\n")
    with serving_app(root) as asked:
        yield asked


@pytest.fixture(scope="module")
def echo(tmp_path_factory, asked):
    odd = tuple(Field(name=name, dtype="float64") for name in ODD)
    models = {"every": EVERY, "odd": odd, "one": EVERY[6:7], "grid": EVERY[9:]}
    with serving_app(make_echoes(tmp_path_factory.mktemp("echo"), models)) as served:
        yield served


@pytest.fixture(scope="module")
def document(asked):
    return asked.get("/docs.json").json()


@pytest.fixture(scope="module")
def echo_document(echo):
    return echo.get("/docs.json").json()


def schemas(document, method):
    """Of the request and of the answer."""
    operation = document["paths"][f"/{method}"]["post"]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return operation["requestBody"]["content"]["application/json"]["schema"], answer


def row_schema(document, method):
    request, _ = schemas(document, method)
    return resolve(document, request["properties"]["instances"]["items"])


def check_field(document, schema, field):
    """Hold that the schema is that of one row of the field."""
    for size in field.shape:
        assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", size, size)
        schema = resolve(document, schema["items"])
    kind = JSON_TYPES[field.dtype]
    assert schema["type"] == ([kind, "null"] if field.nullable else kind)


def test_the_documents_are_valid(asked, document, echo, echo_document):
    for served, found in ((asked, document), (echo, echo_document)):
        check_document(found)
        assert found["info"]["title"] == "headgate"
        assert "contact" not in found["info"]
        for name in served.worker.models:
            assert name in found["info"]["description"]


def test_the_document_names_every_column_with_its_type_and_whether_it_may_be_null(
    document, echo_document
):
    row = row_schema(document, "late_flights")
    assert row["additionalProperties"] is False
    assert row["required"] == list(row["properties"]) == ["carrier", "distance", "wind"]
    for field in TABLE_SIGNATURE.inputs:
        check_field(document, row["properties"][field.name], field)
    check_field(document, row_schema(document, "breast_cancer"), TENSOR_SIGNATURE.inputs[0])
    row = row_schema(echo_document, "every")
    for field in EVERY:
        check_field(echo_document, row["properties"][field.name], field)
    assert list(row_schema(echo_document, "odd")["properties"]) == list(ODD)
    check_field(echo_document, row_schema(echo_document, "one")["properties"]["gap"], EVERY[6])
    check_field(echo_document, row_schema(echo_document, "grid"), EVERY[9])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"json": {"instances": [{**ROW, "wind": "nan"}]}}, 400),
        ({"content": b"{"}, 400),
        ({"json": {"instances": [ROW] * 51}}, 413),
        ({"content": b"x", "headers": {"content-type": "text/csv"}}, 415),
    ],
)
def test_a_refusal_is_as_described(asked, document, request_, status):
    answers = document["paths"]["/late_flights"]["post"]["responses"]
    assert set(answers) == {"200", "400", "413", "415", "429", "500", "503", "504"}
    schema = answers[str(status)]["content"]["application/json"]["schema"]
    assert resolve(document, schema)["required"] == ["error", "where", "remedy"]
    answer = asked.post("/late_flights", **request_)
    assert answer.status_code == status
    assert is_valid(document, schema, answer.json())


def test_bentoml_s_own_schema_says_the_same(asked, document):
    routes = {route["name"]: route for route in asked.get("/schema.json").json()["routes"]}
    row = routes["late_flights"]["input"]["properties"]["instances"]["items"]
    assert row["properties"] == row_schema(document, "late_flights")["properties"]


def test_the_document_names_the_limits_and_the_classes(document):
    request, answer = schemas(document, "late_flights")
    rows = request["properties"]["instances"]
    assert (rows["minItems"], rows["maxItems"]) == (1, 50)
    prediction = resolve(document, answer["properties"]["predictions"]["items"])
    assert prediction["properties"]["label"]["enum"] == ["late", "on time"]
    distance = row_schema(document, "late_flights")["properties"]["distance"]
    assert (distance["minimum"], distance["maximum"]) == (-(2**63), 2**63 - 1)


@pytest.mark.parametrize("method", ["late_flights", "breast_cancer"])
def test_an_answer_is_as_described_and_names_the_model_its_version_and_the_release(
    asked, document, method
):
    rows = {"late_flights": [ROW, ROW], "breast_cancer": [[0.5] * 30]}[method]
    answer = asked.post(f"/{method}", json={"instances": rows})
    assert is_valid(document, schemas(document, method)[1], answer.json())
    assert answer.json()["release"] == answer.headers["x-headgate-release"] == "test:1"
    assert answer.json()["model_version"] == answer.headers["x-headgate-model-version"] == "1"
    v1 = f"/v1/models/{method.replace('_', '-')}:predict"
    assert asked.post(v1, json={"instances": rows}).json() == answer.json()


def post(asked, method, rows):
    body = json.dumps({"instances": rows}, ensure_ascii=False).encode()
    return asked.post(f"/{method}", content=body)


@pytest.mark.parametrize("method", ["late_flights", "breast_cancer"])
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_described_is_accepted(asked, document, method, data):
    rows = data.draw(
        st.lists(described(document, row_schema(document, method)), min_size=1, max_size=3)
    )
    answer = post(asked, method, rows)
    assert answer.status_code == 200, answer.text
    assert is_valid(document, schemas(document, method)[1], answer.json())


@settings(max_examples=100)
@given(data=st.data())
def test_what_is_accepted_arrives(echo, echo_document, data):
    row = data.draw(described(echo_document, row_schema(echo_document, "every")))
    answer = post(echo, "every", [row])
    assert answer.status_code == 200, answer.text
    assert is_valid(echo_document, schemas(echo_document, "every")[1], answer.json())
    told = answer.json()["predictions"][0]
    for name in ("bool", "uint8", "int32", "int64", "string"):
        assert told[f"{name}_out"] == row[name]
    assert told["float32_out"] == np.float32(row["float32"])
    assert told["float64_out"] == float(row["float64"])


@settings(max_examples=150)
@given(data=st.data())
def test_what_is_not_described_is_refused(echo, echo_document, data):
    """The document and the checks agree on anything, not only on what either expects."""
    schema = row_schema(echo_document, "every")
    row = data.draw(described(echo_document, schema))
    name = data.draw(st.sampled_from([*row, "more"]))
    row[name] = data.draw(THINGS)
    if data.draw(st.booleans()):
        del row[data.draw(st.sampled_from(sorted(row)))]
    answer = post(echo, "every", [row])
    expected = 200 if is_valid(echo_document, schema, row) else 400
    assert answer.status_code == expected, answer.text
    if expected == 400:
        assert answer.json()["where"].startswith("instances[0]")


def test_more_rows_than_described_are_refused(asked):
    assert post(asked, "late_flights", [ROW] * 50).status_code == 200
    assert post(asked, "late_flights", [ROW] * 51).status_code == 413
    assert post(asked, "late_flights", []).status_code == 400


def test_columns_of_any_name_can_be_sent(echo):
    row = {name: float(index) for index, name in enumerate(ODD)}
    told = post(echo, "odd", [row]).json()["predictions"]
    assert told == [{f"{name}_out": value for name, value in row.items()}]


def test_models_of_similar_names_keep_their_schemas(tmp_path):
    models = {
        "night-flights": (Field(name="x", dtype="float64"),),
        "nightFlights": (Field(name="y", dtype="string"),),
        "night--flights": (Field(name="z", dtype="bool"),),
        "nightflights": (Field(name="w", dtype="uint8"),),
    }
    service = make_service(make_echoes(tmp_path, models))
    document = json.loads(json.dumps(service.openapi_spec.asdict()))
    columns = [
        list(row_schema(document, method)["properties"])
        for method in ("night_flights", "nightFlights", "night__flights", "nightflights")
    ]
    assert columns == [["x"], ["y"], ["z"], ["w"]]


def test_an_answer_that_is_not_finite_is_described_as_null(tmp_path):
    inputs = (Field(name="x", dtype="float32"), Field(name="y", dtype="float64", shape=(2,)))
    with serving_app(make_echoes(tmp_path, {"log": inputs}, operation="Log")) as served:
        answer = post(served, "log", [{"x": -1, "y": [0, 1]}])
        assert answer.json()["predictions"] == [{"x_out": None, "y_out": [None, 0.0]}]
        document = served.get("/docs.json").json()
        assert is_valid(document, schemas(document, "log")[1], answer.json())


def test_a_service_can_ask_itself(asked, echo):
    """Within the process, as BentoML has a service call its own methods."""
    service = asked.service.inner()
    rows = asked.service.apis["late_flights"].input_spec(instances=[ROW]).instances
    answer = asked.run(service.late_flights(instances=rows))
    assert json.loads(answer.body) == post(asked, "late_flights", [ROW]).json()
    assert answer.headers["x-headgate-release"] == "test:1"
    answer = asked.run(service.late_flights(instances=[{**ROW, "wind": "nan"}]))
    assert answer.status_code == 400
    assert json.loads(answer.body)["where"] == "instances[0].wind"
    row = dict.fromkeys(ODD, 0.5)
    rows = echo.service.apis["odd"].input_spec(instances=[row]).instances
    assert echo.run(echo.service.inner().odd(instances=rows)).status_code == 200


def test_a_service_that_no_worker_serves_says_so(tmp_path):
    service = make_service(make_root(tmp_path))
    with pytest.raises(ServingError, match="no worker serves this service"):
        asyncio.run(service.inner().late_flights(instances=[ROW]))
