"""`/docs.json`: every path that there is, described as it answers, with examples that work."""

from __future__ import annotations

import re
import shutil
import struct
from types import SimpleNamespace
from urllib.parse import unquote

import jsonschema_rs
import pytest
from predictor.factory import NAMES, TABLE_SIGNATURE, make_artifact
from serving.asgi import make_root, serving_app
from serving.echo import make_echoes
from serving.schemas import check_document

from headgate.predictor import Field
from headgate.serving.described import server

NOT_DESCRIBED = {"/", "/docs.json", "/schema.json"}
ECHOES = {
    "odd name": (
        Field(name="te xt", dtype="string"),
        Field(name="é", dtype="float32", nullable=True),
        Field(name="flag", dtype="bool"),
        Field(name="small", dtype="uint8"),
    ),
    "grid": (Field(name="image", dtype="float32", shape=(2, 3)),),
    "words": (
        Field(name="image", dtype="int32", shape=(2, 2)),
        Field(name="words", dtype="string", shape=(2,)),
    ),
    "one-column": (Field(name="x", dtype="int64"),),
    "huge": (Field(name="pixels", dtype="float32", shape=(70, 70)),),
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(make_root(tmp_path_factory.mktemp("root"))) as asked:
        yield asked


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    with serving_app(make_echoes(tmp_path_factory.mktemp("echo"), ECHOES)) as asked:
        yield asked


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """Models whose reference rows did not travel with them."""
    root = make_root(tmp_path_factory.mktemp("private"))
    for kind in ("tensor", "table"):
        path = root / ".headgate" / "bundle" / NAMES[kind]
        shutil.rmtree(path)
        make_artifact(path, kind, "onnx", reference_rows=0)
    with serving_app(root) as asked:
        yield asked


def document_of(asked):
    return asked.get("/docs.json").json()


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def validator(document, schema):
    """Of JSON Schema 2020-12, as OpenAPI 3.1 has it."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


@pytest.mark.parametrize("app", ["asked", "echo", "private"])
def test_it_is_openapi(app, request):
    document = document_of(request.getfixturevalue(app))
    check_document(document)
    tags = {tag["name"] for tag in document["tags"]}
    for path, _, operation in operations(document):
        assert set(operation["tags"]) <= tags, path
        assert operation["summary"], path
    said = document["info"]["description"]
    for surface in ("WebSocket", "/ws/NAME", "gRPC", "inference.GRPCInferenceService"):
        assert surface in said


@pytest.mark.parametrize("app", ["asked", "echo"])
def test_every_path_that_there_is_is_described_and_no_other(app, request):
    asked = request.getfixturevalue(app)
    described = {(unquote(path), method) for path, method, _ in operations(document_of(asked))}
    served = set()
    for path, route in asked.app._hot._routes.items():
        for method in route:
            served.add((path, method.lower()))
    assert {each for each in served if each[0] not in NOT_DESCRIBED} == described


def examples(document):
    for path, method, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            for name, example in content.get("examples", {}).items():
                yield path, method, operation, kind, name, example["value"]


def named(asked, path, example):
    """The query that the name of an example asks for."""
    query, found, _ = example.rpartition(": ")
    assert bool(found) == (path == "/invocations" and len(asked.worker.models) > 1)
    return dict([query.split("=", 1)]) if found else {}


@pytest.mark.parametrize("app", ["asked", "echo", "private"])
def test_every_example_works_when_pasted_and_is_answered_as_described(app, request):
    asked = request.getfixturevalue(app)
    document = document_of(asked)
    count = 0
    for path, method, operation, kind, name, value in examples(document):
        where = f"{path} {kind} {name}"
        body = {"content": value} if isinstance(value, str) else {"json": value}
        headers = {"content-type": kind}
        params = named(asked, path, name)
        answer = asked.request(method.upper(), path, headers=headers, params=params, **body)
        expected = 400 if 200 not in map(int, operation["responses"]) else 200
        assert answer.status_code == expected, (where, answer.text)
        told = operation["responses"][str(expected)]["content"]["application/json"]
        assert validator(document, told["schema"]).is_valid(answer.json()), where
        described = operation["requestBody"]["content"][kind]["schema"]
        assert validator(document, described).is_valid(value), where
        count += 1
    assert count > 10 * len(asked.worker.models)


def test_the_answers_that_are_shown_are_those_that_are_given(asked):
    document = document_of(asked)
    count = 0
    for path, method, operation, kind, name, value in examples(document):
        shown = operation["responses"]["200"]["content"]["application/json"].get("examples")
        who, colon, form = name.rpartition(": ")
        if shown and form in {"rows", "row", "tensors", "a data frame"} and kind.endswith("json"):
            params = named(asked, path, name)
            answer = asked.request(method.upper(), path, json=value, params=params).json()
            expected = shown[f"{who}{colon}answer"]["value"]
            if form == "rows" and isinstance(value, list):
                answer = answer[0]
            assert close(answer, expected), path
            count += 1
    assert count >= 18


def parameters_of(document, path, method="post"):
    return {each["name"]: each for each in document["paths"][path][method]["parameters"]}


def test_each_model_has_examples_of_invocations(asked, echo):
    content = document_of(asked)["paths"]["/invocations"]["post"]["requestBody"]["content"]
    for model in asked.worker.models:
        for kind in ("application/json", "text/csv", "application/jsonlines"):
            assert any(name.startswith(f"model={model}: ") for name in content[kind]["examples"])
    assert "no example" in content["application/x-npy"]["schema"]["description"]
    choice = parameters_of(document_of(asked), "/invocations")["model"]
    assert [each["value"] for each in choice["examples"].values()] == [*asked.worker.models]


def test_a_text_that_csv_has_not_is_not_shown_in_it():
    row = {"carrier": "NA", "distance": 1, "wind": 0.5}
    shown = server._text_examples(SimpleNamespace(example=row, signature=TABLE_SIGNATURE))
    assert "text/csv" not in shown
    assert shown["application/jsonlines"]
    row["carrier"] = "UA"
    shown = server._text_examples(SimpleNamespace(example=row, signature=TABLE_SIGNATURE))
    assert "UA,1,0.5" in shown["text/csv"]["by position"]


@pytest.mark.parametrize(("path", "method"), [("/invocations", "post"), ("/ping", "get")])
def test_a_model_may_be_named_in_any_of_three_ways(asked, path, method):
    found = parameters_of(document_of(asked), path, method)
    for name in ("model", "X-Headgate-Model", "X-Amzn-SageMaker-Target-Model"):
        assert found[name]["required"] is False
        assert found[name]["schema"] == {"enum": [*asked.worker.models]}


def test_the_smallest_deadline_is_more_than_none(asked):
    schema = parameters_of(document_of(asked), "/invocations")["X-Headgate-Deadline-Ms"]["schema"]
    assert schema == {"type": "number", "exclusiveMinimum": 0}
    assert asked.post("/late_flights", headers={"X-Headgate-Deadline-Ms": "0"}).status_code == 400


def test_tensors_in_binary_are_described(asked):
    operation = document_of(asked)["paths"]["/v2/models/breast-cancer/infer"]["post"]
    parameters = {each["name"]: each for each in operation["parameters"]}
    (kind,) = set(operation["requestBody"]["content"]) - {"application/json"}
    body = struct.pack("<30f", *range(30))
    answer = asked.post(
        "/v2/models/breast-cancer/infer",
        content=body,
        headers={"content-type": kind, [*parameters][1]: "0"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] in operation["responses"]["200"]["content"]
    assert kind in operation["responses"]["200"]["content"]


def close(found, shown):
    if isinstance(shown, dict):
        return found.keys() == shown.keys() and all(close(found[key], shown[key]) for key in shown)
    if isinstance(shown, list):
        return len(found) == len(shown) and all(map(close, found, shown))
    return found == (pytest.approx(shown, abs=1e-5) if isinstance(shown, float) else shown)


def test_what_is_real_is_shown_where_it_may_be(asked, private):
    def row(served):
        content = document_of(served)["paths"]["/late_flights"]["post"]["requestBody"]["content"]
        return content["application/json"]["examples"]["rows"]["value"]["instances"][0]

    assert row(private) == {"carrier": "a", "distance": 1, "wind": 0.5}
    assert row(asked) != row(private)
    assert None not in row(asked).values()
    answers = document_of(private)["paths"]["/late_flights"]["post"]["responses"]["200"]
    assert "examples" not in answers["content"]["application/json"]


def test_a_row_too_long_to_show_is_not_shown(echo):
    text = echo.get("/docs.json").text
    assert len(text) < 300_000
    content = document_of(echo)["paths"]["/huge"]["post"]["requestBody"]["content"]
    assert not content["application/json"]["examples"]


def test_errors_are_described_as_each_protocol_has_them(asked):
    document = document_of(asked)
    bad = {
        "/v1/models/late-flights:predict": "{",
        "/v2/models/late-flights/infer": "{}",
        "/invocations": '{"instances": []}',
        "/predictions/late-flights": "[]",
        "/late_flights": "[]",
        "/v2/repository/models/late-flights/load": "",
    }
    for path, body in bad.items():
        answer = asked.post(path, content=body)
        assert answer.status_code == 400, path
        told = document["paths"][path]["post"]["responses"]["400"]["content"]["application/json"]
        assert validator(document, told["schema"]).is_valid(answer.json()), path
        name = told["schema"]["$ref"].rpartition("/")[2]
        assert set(answer.json()) == set(document["components"]["schemas"][name]["required"]), path


def test_an_app_beside_the_models_is_told_of(tmp_path):
    root = make_root(tmp_path)
    (root / "app.py").write_text("async def app(scope, receive, send): ...\n")
    with serving_app(root) as asked:
        assert "/app/docs" in document_of(asked)["info"]["description"]


def test_the_page_shows_the_document(asked):
    page = asked.get("/").text
    assert "swagger-ui" in page
    for surface in ("/v1/", "/v2/", "/invocations", "/predictions/", "/ws/", "gRPC", "/docs.json"):
        assert surface in page
    assert not re.search(r"https?://", page)


def test_a_bento_carries_it(asked):
    import yaml

    text = yaml.dump(asked.service.openapi_spec)
    assert yaml.safe_load(text) == document_of(asked)
