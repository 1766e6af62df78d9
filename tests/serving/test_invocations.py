"""``/invocations`` as MLflow's and SageMaker's clients use it."""

from __future__ import annotations

import asyncio
import json

import pytest
from serving.asgi import metric, serving_app
from serving.echo import make_echoes
from serving.refusals import MAX_BYTES, MAX_ROWS, ROW, X, strict_root

from headgate.predictor import Field
from headgate.serving import http

TABLE, TENSOR = "/invocations?model=late-flights", "/invocations?model=breast-cancer"
GOOD = json.dumps({"dataframe_records": [ROW]})
CSV = {"content-type": "text/csv"}
LINES = {"content-type": "application/jsonlines"}
NPY = {"content-type": "application/x-npy"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(strict_root(tmp_path_factory.mktemp("invocations"))) as asked:
        yield asked


def refused(asked, path, status=400, **request):
    """The message of a refusal, good requests before, beside and after it."""
    good = asked.post(TABLE, content=GOOD)
    assert good.status_code == 200, good.text
    answer, beside = asked.all(
        asked.client.post(path, **request), asked.client.post(TABLE, content=GOOD)
    )
    assert beside.content == asked.post(TABLE, content=GOOD).content == good.content
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-headgate-release"] == "test:1"
    assert answer.headers["x-headgate-model-version"] == "1"
    told = answer.json()
    assert set(told) == {"error_code", "message"}
    assert len(answer.content) < 1000
    codes = {400: "BAD_REQUEST", 404: "RESOURCE_DOES_NOT_EXIST", 429: "REQUEST_LIMIT_EXCEEDED"}
    assert told["error_code"] == codes.get(status, "BAD_REQUEST")
    return told["message"]


def test_a_classifier_gives_labels_and_nothing_else(asked):
    answer = asked.post(TABLE, json={"dataframe_records": [ROW, ROW]})
    assert set(answer.json()) == {"predictions"}
    assert answer.json()["predictions"][0] in {"late", "on time"}
    assert answer.headers["content-type"] == "application/json"


def test_what_mlflow_ignores_is_ignored(asked):
    plain = asked.post(TABLE, content=GOOD).json()
    row = {"gate": "B22", **ROW, "tail": None}
    for body in (
        {"dataframe_records": [row], "client_request_id": "7"},
        {"instances": [row], "params": None},
        {"inputs": [row], "params": {}},
        {"instances": [row], "params": {"predict_method": "predict_proba"}},
        {"inputs": {name: [value] for name, value in row.items()}},
        {"inputs": row},
        {"dataframe_split": {"columns": [*row], "index": [9], "data": [[*row.values()]]}},
    ):
        assert asked.post(TABLE, json=body).json() == plain, body


def test_nan_is_a_missing_number(asked):
    """MLflow's clients write a data frame so."""
    with_null = asked.post(TABLE, json={"dataframe_records": [{**ROW, "wind": None}]})
    with_nan = asked.post(TABLE, content=with_null.request.content.replace(b"null", b"NaN"))
    assert with_null.status_code == 200
    assert with_nan.json() == with_null.json()


@pytest.mark.parametrize("where", ["label", "probabilities"])
def test_a_torch_classifier_tells_a_number_a_class(tmp_path, where):
    """MLflow gives the scores of its classes; which are not kept, but their order is."""
    with serving_app(strict_root(tmp_path)) as asked:
        from headgate.serving.protocols.mlflow import Predicted

        model = asked.worker.models["breast-cancer"]
        if where == "probabilities":
            model.packaged.manifest.source["flavor"] = "torch"
        predicted = Predicted(model)
        outputs = model.predictor.predict({"x": model.predictor.reference.inputs["x"][:3]})
        assert predicted(outputs) == outputs[where].tolist()


def test_a_model_of_several_outputs_gives_objects(tmp_path):
    fields = (Field(name="a", dtype="float64"), Field(name="b", dtype="string", shape=(2,)))
    with serving_app(make_echoes(tmp_path, {"two": fields})) as asked:
        body = {"instances": [{"a": 0.5, "b": ["x", "y"]}]}
        told = asked.post("/invocations", json=body).json()
        assert told == {"predictions": [{"a_out": 0.5, "b_out": ["x", "y"]}]}
        array = asked.post("/invocations", json=body, headers={"accept": "application/x-npy"})
        assert array.status_code == 406


PLAIN = [
    (TENSOR, {"json": X}),
    (TENSOR, {"json": [X]}),
    (TENSOR, {"json": {"inputs": [X]}}),
    (TENSOR, {"json": {"instances": [{"features": X}]}}),
    (TENSOR, {"json": {"instances": [{"data": {"features": {"values": X}}}]}}),
    (TENSOR, {"json": {"dataframe_split": {"columns": list(range(30)), "data": [X]}}}),
    (TENSOR, {"json": {"dataframe_split": {"data": [X]}}}),
    (TENSOR, {"content": json.dumps(X), "headers": LINES}),
    (TENSOR, {"content": json.dumps({"features": X}) + "\n\n", "headers": LINES}),
    (TENSOR, {"content": ",".join(map(str, X)), "headers": CSV}),
    (TABLE, {"json": list(ROW.values())}),
    (TABLE, {"json": [list(ROW.values())]}),
    (TABLE, {"json": [ROW]}),
    (TABLE, {"json": {"instances": [{"features": list(ROW.values())}]}}),
    (TABLE, {"content": json.dumps(ROW), "headers": LINES}),
    (TABLE, {"content": "UA,1000,5.5", "headers": {"content-type": "Text/CSV; charset=UTF-8"}}),
    (TABLE, {"content": "UA,1000,5.5", "headers": {"content-type": "text/csv; header=absent"}}),
    (TABLE, {"content": "UA,1000,5.5", "headers": {"content-type": "text/csv; label_size=0"}}),
]


@pytest.mark.parametrize(("path", "request_"), PLAIN)
def test_one_row_in_all_its_forms(asked, path, request_):
    row = X if path == TENSOR else ROW
    expected = asked.post(path, json={"instances": [row]}).json()
    assert asked.post(path, **request_).json() == expected


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("image/png, text/csv;q=0.5", "text/csv; charset=utf-8"),
        ("text/csv;q=0.1, application/jsonlines;q=0.9", "application/jsonlines"),
        ("text/csv;q=0, */*;q=0.1", "application/json"),
    ],
)
def test_the_answer_is_of_the_kind_that_is_asked_for(asked, accept, kind):
    answer = asked.post(TABLE, json={"instances": [ROW, ROW]}, headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    (label,) = {*asked.post(TABLE, json={"instances": [ROW]}).json()["predictions"]}
    if "csv" in kind:
        assert answer.text == f"{label}\n{label}\n"
    elif "lines" in kind:
        assert answer.text == f'"{label}"\n"{label}"\n'
    else:
        assert answer.json() == {"predictions": [label, label]}


def test_a_model_may_be_invoked_by_its_path(asked):
    answer = asked.post("/models/late-flights/invoke", content=GOOD)
    assert answer.json() == asked.post(TABLE, content=GOOD).json()


BODIES = {
    "nothing": (b"", "body: the body is empty"),
    "half of it": (b'{"instances": [', "body: invalid JSON"),
    "null": (b"null", "body: null is no object"),
    "text": (b'"x"', "body: 'x' is no object"),
    "no rows": (b"{}", "body: no rows are there — send one of: dataframe_split"),
    "an empty list": (b"[]", "body: no rows"),
    "no rows in it": (b'{"instances": []}', "instances: no rows"),
    "two forms": (b'{"instances": [], "inputs": []}', "body: instances and inputs are both there"),
    "odd parameters": (b'{"instances": [], "params": 7}', "params: 7 is no object"),
    "a list of parameters": (b'{"instances": [], "params": []}', "params: [] is no object"),
    "no frame": (b'{"dataframe_split": [[1]]}', "dataframe_split: a list of 1 is no split frame"),
    "no columns": (
        b'{"dataframe_split": {"data": [[1]]}}',
        "dataframe_split.columns: null are no names",
    ),
    "numbers for names": (
        b'{"dataframe_split": {"columns": [1], "data": [[1]]}}',
        "dataframe_split.columns: [1] are no names",
    ),
    "a column twice": (
        b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}',
        "dataframe_split.columns: 'a' is there twice",
    ),
    "a ragged frame": (
        b'{"dataframe_split": {"columns": ["carrier", "wind"], "data": [["UA", 1], ["UA"]]}}',
        "dataframe_split.data[1]: 1 values where 2 belong",
    ),
    "no row of a frame": (
        b'{"dataframe_split": {"columns": ["carrier"], "data": ["UA"]}}',
        "dataframe_split.data[0]: 'UA' where 1 belong",
    ),
    "a missing column": (
        b'{"dataframe_split": {"columns": ["carrier", "wind"], "data": [["UA", 1]]}}',
        "dataframe_split: column 'distance' is missing",
    ),
    "an empty frame": (
        b'{"dataframe_split": {"columns": ["carrier", "distance", "wind"], "data": []}}',
        "dataframe_split: no rows",
    ),
    "records of values": (
        b'{"dataframe_records": [["UA", 1, 2]]}',
        "dataframe_records[0]: a list of 3 is no object",
    ),
    "a record short": (
        b'{"dataframe_records": [{"carrier": "UA", "wind": 1}]}',
        "dataframe_records[0]: column 'distance' is missing",
    ),
    "a wrong value": (
        json.dumps({"instances": [ROW, {**ROW, "wind": "soft"}]}).encode(),
        "instances[1].wind: 'soft' is no float64",
    ),
    "columns of other lengths": (
        b'{"inputs": {"carrier": ["UA"], "distance": [1, 2], "wind": [1]}}',
        "inputs.carrier: 1 rows where another input has 2",
    ),
    "values for a table": (b'{"inputs": [1, 2]}', "inputs: a list of 2 is no object"),
    "a row short": (b'["UA", 1]', "row 0: 2 values where 3 belong — send, in this order: carrier"),
    "a row among objects": (
        json.dumps([ROW, ["UA"]]).encode(),
        "row 1: 1 values where 3 belong",
    ),
    "infinity": (b'[["UA", 1, Infinity]]', "body: invalid JSON"),
    "NaN for an integer": (b'[["UA", NaN, 1]]', "body[0].distance: null is not allowed"),
    "NaN and infinity": (b'[["UA", 1, NaN], ["UA", 1, Infinity]]', "body[1].wind: inf is not"),
    "NaN in no JSON": (b'{"instances": NaN', "body: invalid JSON"),
    "NaN, deep": (b"[NaN," * 5000, "body: invalid JSON"),
    "NaN and digits": (b"[NaN, " + b"9" * 5000 + b"]", "body: invalid JSON"),
    "deep lists": (b"[" * 3000, "body: invalid JSON"),
    "deep lists, closed": (b"[" * 900 + b"]" * 900, "row 0: 1 values where 3 belong"),
    "no UTF-8": (b'{"instances": ["\xff"]}', "body: invalid JSON"),
    "zeros": (bytes(1000), "body: invalid JSON"),
}


@pytest.mark.parametrize("case", BODIES)
def test_json_that_is_wrong(asked, case):
    body, message = BODIES[case]
    assert refused(asked, TABLE, content=body).startswith(message)


OTHERS = {
    "another type": ({"content-type": "text/plain"}, b"", 415, "header Content-Type: 'text/plain'"),
    "a pickle": ({"content-type": "application/x-pickle"}, b"", 415, "header Content-Type"),
    "no array": (NPY, b"x" * 100, 400, "body: no array of NumPy"),
    "another alphabet": (
        {"content-type": "text/csv; charset=latin-1"},
        b"UA,1,2",
        415,
        "header Content-Type: 'text/csv; charset=latin-1' is not understood",
    ),
    "compressed": ({**CSV, "content-encoding": "br"}, b"UA", 415, "header Content-Encoding"),
    "badly compressed": ({**CSV, "content-encoding": "gzip"}, b"UA", 400, "header Content-Enc"),
    "a header that may be": (
        {"content-type": "text/csv; header=maybe"},
        b"UA,1,2",
        400,
        "header Content-Type: header=maybe says nothing",
    ),
    "no kind of ours": ({"accept": "image/png"}, b"[]", 406, "header Accept: 'image/png' is not"),
    "none at all": ({"accept": "*/*;q=0"}, b"[]", 406, "header Accept"),
    "no quality": (
        {"accept": "text/csv;q=high"},
        b"[]",
        400,
        "header Accept: 'high' is no quality",
    ),
    "a bad deadline": ({**CSV, "x-headgate-deadline-ms": "x"}, b"UA,1,2", 400, "header X-Headgate"),
    "CSV with a hole": (CSV, b"UA,1,2\nUA,1", 400, "csv[1]: 2 cells where 3 belong"),
    "too many lines of CSV": (CSV, b"UA,1,2\n" * 51, 413, f"body: more than {MAX_ROWS} rows"),
    "a line that is none": (LINES, b'["UA", 1, 2]\n{', 400, "line 2: invalid JSON"),
    "NaN in a line": (LINES, b'["UA", 1, NaN]', 400, "line 1: invalid JSON"),
    "a line of another": (LINES, b'["UA", 1, 2]\n[1]', 400, "row 1: 1 values where 3 belong"),
    "no lines": (LINES, b"\n\n", 400, "lines: no rows"),
    "too many lines": (LINES, b'["UA", 1, 2]\n' * 51, 413, "body: 51 rows"),
    "too many rows": ({}, json.dumps([[1, 2, 3]] * 51).encode(), 413, "body: 51 rows"),
    "too many records": ({}, json.dumps({"inputs": [ROW] * 51}).encode(), 413, "body: 51 rows"),
    "too long columns": ({}, json.dumps({"inputs": {"wind": [1] * 51}}).encode(), 413, "body: 51"),
    "too long a frame": (
        {},
        json.dumps({"dataframe_split": {"data": [[]] * 51}}).encode(),
        413,
        "body: 51 rows",
    ),
    "too many bytes": (CSV, b"x" * (MAX_BYTES + 1), 413, "body: the body has"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_else_is_wrong(asked, case):
    headers, body, status, message = OTHERS[case]
    found = refused(asked, TABLE, status, content=body, headers=headers)
    assert found.startswith(message)


def test_too_many_bytes_in_chunks_are_cut_off(asked, monkeypatch):
    monkeypatch.setattr(http, "_DISCARD_BYTES", 4 * MAX_BYTES)
    taken = []

    async def endless():
        while True:
            taken.append(1000)
            yield b" " * 1000
            await asyncio.sleep(0)

    refused(asked, TABLE, 413, content=endless(), headers=CSV)
    assert sum(taken) < 6 * MAX_BYTES


def test_health_is_told_in_every_container_s_words(asked, monkeypatch):
    for path in ("/ping", "/health"):
        answer = asked.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "Healthy"})
        assert answer.headers["x-headgate-release"] == "test:1"
    assert asked.get("/version").json() == "test:1"
    monkeypatch.setattr(asked.worker.models["late-flights"], "_mismatch", "it answers wrongly")
    for path in ("/ping", "/health"):
        answer = asked.get(path)
        assert answer.status_code == 503
        assert answer.json() == {"status": "Unhealthy", "error": "it answers wrongly"}


def test_it_is_counted_as_a_surface_of_its_own(asked):
    def count():
        asked.worker.flush()
        return metric(
            "headgate_requests_total", surface="invocations", model="late-flights", outcome="ok"
        )

    before = count()
    asked.post(TABLE, content=GOOD)
    assert count() == before + 1
