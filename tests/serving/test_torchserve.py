"""What TorchServe's clients send, and what they are told."""

from __future__ import annotations

import gzip
import json

import pytest
from serving.asgi import serving_app
from serving.echo import make_echoes
from serving.refusals import MAX_ROWS, ROW, V1, V1_X, X, strict_root

from headgate.predictor import Field

TABLE, TENSOR = "/predictions/late-flights", "/predictions/breast-cancer"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(strict_root(tmp_path_factory.mktemp("torchserve"))) as asked:
        yield asked


@pytest.mark.parametrize(("path", "v1", "row"), [(TABLE, V1, ROW), (TENSOR, V1_X, X)])
def test_a_row_gets_a_prediction_and_rows_get_as_many(asked, path, v1, row):
    (one,) = asked.post(v1, json={"instances": [row]}).json()["predictions"]
    two = asked.post(v1, json={"instances": [row, row]}).json()["predictions"]

    def told(body):
        answer = asked.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-headgate-model-version"] == "1"
        assert answer.headers["x-headgate-release"] == "test:1"
        return answer.json()

    assert told(row) == told({"data": row}) == one
    assert told([row]) == told({"data": [row]}) == [one]
    assert told([row, row]) == told({"data": [row, row]}) == two
    assert told({"instances": [row, row]}) == {"predictions": two}
    assert told({"data": {"instances": [row, row]}}) == {"predictions": two}


def test_a_file_may_be_sent_as_it_is(asked):
    """`curl -T` names no type."""
    answer = asked.post(TABLE, content=json.dumps(ROW))
    assert "content-type" not in answer.request.headers
    assert set(answer.json()) == {"label", "probabilities"}


@pytest.mark.parametrize("name", ["data", "body"])
def test_a_field_of_a_form_is_as_good_as_a_body(asked, name):
    for given in (ROW, [ROW, ROW], {"data": ROW}, {"instances": [ROW]}):
        expected = asked.post(TABLE, json=given)
        assert expected.status_code == 200
        text = json.dumps(given)
        for form in (
            {"files": {name: text.encode()}},
            {"files": {name: (None, text)}},
            {"data": {name: text}},
        ):
            answer = asked.post(TABLE, **form)
            assert answer.status_code == 200, answer.text
            assert answer.content == expected.content


def test_a_form_may_be_compressed(asked):
    form = asked.client.build_request("POST", TABLE, files={"data": json.dumps(ROW)})
    headers = {"content-type": form.headers["content-type"], "content-encoding": "gzip"}
    answer = asked.post(TABLE, content=gzip.compress(form.read()), headers=headers)
    assert answer.status_code == 200, answer.text
    headers["content-encoding"] = "br"
    said(asked.post(TABLE, content=form.read(), headers=headers), 415, "BadRequestException")


def test_json_that_curl_calls_a_form_is_json(asked):
    kind = {"content-type": "application/x-www-form-urlencoded"}
    row = {**ROW, "carrier": "a=b&c"}
    answer = asked.post(TABLE, content=json.dumps(row, indent=1), headers=kind)
    assert answer.content == asked.post(TABLE, json=row).content


def test_a_form_that_is_wrong_is_a_bad_request(asked):
    other = said(asked.post(TABLE, files={"image": b"1"}), 400, "BadRequestException")
    assert other.startswith("form: the field 'image' is unknown")
    two = asked.post(TABLE, files={"data": b"1", "body": b"2"})
    assert said(two, 400, "BadRequestException").startswith("form: of fields there is more than")
    content = asked.post(TABLE, files={"data": b"\x89PNG"})
    assert said(content, 400, "BadRequestException").startswith("body: invalid JSON")


def test_a_version_may_be_named(asked):
    assert asked.post(f"{TABLE}/1", json=ROW).json() == asked.post(TABLE, json=ROW).json()


@pytest.mark.parametrize("name", ["data", "instances"])
def test_a_column_of_an_envelope_s_name_is_a_column(tmp_path, name):
    models = {"odd": (Field(name=name, dtype="float64"),)}
    with serving_app(make_echoes(tmp_path, models)) as asked:
        assert asked.post("/predictions/odd", json={name: 1.5}).json() == 1.5
        assert asked.post("/predictions/odd", json=[{name: 1.5}]).json() == [1.5]


def test_an_image_is_as_deep_as_a_row(tmp_path):
    models = {"image": (Field(name="x", dtype="float32", shape=(1, 2, 2)),)}
    with serving_app(make_echoes(tmp_path, models)) as asked:
        image = [[[1.0, 2.0], [3.0, 4.0]]]
        assert asked.post("/predictions/image", json=image).json() == image
        assert asked.post("/predictions/image", json=[image, image]).json() == [image, image]


def said(answer, status, kind):
    assert answer.status_code == status, answer.text
    assert answer.headers["x-headgate-release"] == "test:1"
    told = answer.json()
    assert (told["code"], told["type"]) == (status, kind)
    assert set(told) == {"code", "type", "message"}
    return told["message"]


BAD = {
    "nothing": (b"", "body: the body is empty"),
    "a number": (b"7", "body: 7 is no row"),
    "text under data": (b'{"data": "AAAA"}', "data: 'AAAA' is no row"),
    "no rows": (b"[]", "body: no rows"),
    "no rows under data": (b'{"data": []}', "data: no rows"),
    "no rows under instances": (b'{"instances": []}', "instances: no rows"),
    "no list under instances": (b'{"instances": 7}', "instances: 7 is no list"),
    "values": (b'["UA", 1, 2]', "body[0]: a list of 3 is no object"),
    "a wrong row": (b'[{"carrier": "UA"}]', "body[0]: column 'distance' is missing"),
    "NaN": (b'{"carrier": null, "distance": 1, "wind": NaN}', "body: invalid JSON"),
    "deep": (b"[" * 3000, "body: invalid JSON"),
    "deep, closed": (b"[" * 1000 + b"]" * 1000, "body[0]: a list of 1 is no object"),
    "deep under data": (b'{"data":' * 900 + b"1" + b"}" * 900, "data[0]: column 'carrier' is"),
    "no UTF-8": (b'{"carrier": "\xff"}', "body: invalid JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(asked, case):
    body, message = BAD[case]
    good, bad = asked.all(
        asked.client.post(TABLE, json=ROW), asked.client.post(TABLE, content=body)
    )
    assert good.status_code == 200
    assert said(bad, 400, "BadRequestException").startswith(message)


def test_errors_have_torchserve_s_names(asked):
    unknown = "ModelNotFoundException"
    for path in ("/predictions/nobody", "/predictions/nobody/1", "/models/nobody"):
        assert "no model 'nobody'" in said(asked.post(path, json=ROW), 404, unknown)
    unknown = "ModelVersionNotFoundException"
    for path in (f"{TABLE}/2", "/models/late-flights/2"):
        assert "no version '2' of late-flights" in said(asked.post(path), 404, unknown)
    assert said(asked.get(TABLE), 405, "MethodNotAllowedException").endswith("use POST")
    assert said(asked.post("/models"), 405, "MethodNotAllowedException").endswith("use GET, HEAD")
    kind = {"content-type": "multipart/mixed; boundary=x"}
    said(asked.post(TABLE, content=b"", headers=kind), 415, "BadRequestException")
    rows = [ROW] * (MAX_ROWS + 1)
    message = said(asked.post(TABLE, json=rows), 413, "BadRequestException")
    assert message.startswith(f"body: {MAX_ROWS + 1} rows")


def test_the_models_are_listed_and_described(asked, monkeypatch):
    listed = asked.get("/models")
    assert listed.json() == {
        "models": [
            {"modelName": name, "modelUrl": f"models:/{name}/1"}
            for name in ("breast-cancer", "late-flights")
        ]
    }
    for path in ("/models/late-flights", "/models/late-flights/1"):
        (about,) = asked.get(path).json()
        assert (about["modelName"], about["modelVersion"]) == ("late-flights", "1")
        assert about["minWorkers"] == about["maxWorkers"] == 1
        (worker,) = about["workers"]
        assert (worker["status"], worker["gpu"]) == ("READY", False)
    monkeypatch.setattr(asked.worker.models["late-flights"], "_mismatch", "it answers wrongly")
    (about,) = asked.get("/models/late-flights").json()
    assert about["workers"][0]["status"] == "UNHEALTHY"
