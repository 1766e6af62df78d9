"""Rows over a WebSocket, to a real server: the same answers as over V1, each under its id."""

from __future__ import annotations

import json
import re
import socket as sockets

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.asgi import make_root
from serving.frames import handshake, raw_socket
from serving.refusals import ROW
from serving.tiny import get, metric, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.e2e

PATH = "/ws/late-flights"
V1 = "/v1/models/late-flights:predict"
WHO = {"model_name": "late-flights", "model_version": "1", "release": "tiny:1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("server"))
    settings_file = root / "headgate.toml"
    allowed = '[server]\nallowed_origins = ["https://shop.example"]\n'
    settings_file.write_text(allowed + settings_file.read_text())
    with serving(root / "log", root) as server:
        yield server


@pytest.fixture
def socket(server):
    with connect(f"ws://{server.address}{PATH}") as socket:
        yield socket


def ask(socket, message):
    socket.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
    return json.loads(socket.recv(timeout=10))


def answers(socket, count):
    """So many answers, in whatever order they come."""
    return [json.loads(socket.recv(timeout=10)) for _ in range(count)]


def row(carrier="UA", distance=1000, wind=5.5):
    return {"carrier": carrier, "distance": distance, "wind": wind}


ROWS = st.builds(
    row,
    carrier=st.none() | st.sampled_from(["UA", "DL", "nan", "", "\u00e4\u4e2d\U0001f600"]),
    distance=st.integers(0, 5000),
    wind=st.none() | st.floats(0, 100, width=32),
)
BAD_ROWS = st.sampled_from([{}, {**ROW, "distance": None}, {**ROW, "gate": 1}, [], None, "x"])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"instances": st.lists(ROWS, max_size=5) | st.lists(BAD_ROWS, min_size=1, max_size=2)}
    ),
    min_size=1,
    max_size=30,
)


@given(messages=MESSAGES)
@settings(max_examples=40, deadline=None)
def test_every_id_gets_the_answer_that_v1_gives(server, messages):
    with connect(f"ws://{server.address}{PATH}") as socket, httpx.Client() as client:
        for number, message in enumerate(messages):
            socket.send(json.dumps({"id": number, **message}))
        found = {answer.pop("id"): answer for answer in answers(socket, len(messages))}
        assert found.keys() == set(range(len(messages)))
        for number, message in enumerate(messages):
            said = client.post(f"http://{server.address}{V1}", json=message)
            expected = said.json()
            if said.status_code != 200:
                expected |= {"status": said.status_code, **WHO}
            assert found[number] == expected


def test_columns_are_answered_in_columns(server, socket):
    inputs = {"carrier": ["UA", None], "distance": [1, 2], "wind": [None, 3.5]}
    found = ask(socket, {"id": "c", "inputs": inputs})
    said = httpx.post(f"http://{server.address}{V1}", json={"inputs": inputs}).json()
    assert found == {"id": "c", **said}
    assert len(found["outputs"]["label"]) == 2


def test_a_model_of_one_tensor_takes_lists(server):
    with connect(f"ws://{server.address}/ws/breast-cancer/versions/1") as socket:
        found = ask(socket, {"id": 1, "instances": [[0.5] * 30]})
    assert found["model_name"] == "breast-cancer"
    assert len(found["predictions"]) == 1


@pytest.mark.parametrize("name", [0, -1, 2**53, "", "a", "\u4e2d", 'say "hi"\n', "x" * 200, None])
def test_an_id_comes_back_as_it_was(socket, name):
    assert ask(socket, {"id": name, "instances": [ROW]})["id"] == name
    assert ask(socket, {"id": name, "instances": []})["id"] == name


def test_no_id_is_null(socket):
    found = ask(socket, {"instances": [ROW]})
    assert found["id"] is None
    assert len(found["predictions"]) == 1


BAD = {
    "no JSON": "{",
    "nothing": "",
    "a list": "[1, 2]",
    "null": "null",
    "NaN": '{"id": 1, "instances": [{"carrier": "UA", "distance": 1, "wind": NaN}]}',
    "deep": '{"id": 1, "instances": ' + "[" * 100_000,
    "deep and whole": '{"id": 1, "instances": ' + "[" * 5000 + "]" * 5000 + "}",
    "a lone surrogate": '{"id": "\\ud800", "instances": []}',
    "binary": b'{"id": 1, "instances": []}',
    "an id that is a list": '{"id": [1], "instances": []}',
    "an id that is a fraction": '{"id": 1.5, "instances": []}',
    "an id that is a bool": '{"id": true, "instances": []}',
    "an id that is long": json.dumps({"id": "x" * 201, "instances": [ROW]}),
    "an id beyond 64 bits": '{"id": 100000000000000000000, "instances": []}',
}


@pytest.mark.parametrize("what", BAD)
def test_a_message_without_a_usable_id_is_answered_under_null(socket, what):
    wrong = ask(socket, BAD[what])
    assert wrong["id"] is None or what in {"NaN", "deep and whole"}
    assert wrong["status"] == 400
    assert wrong["error"]
    assert wrong["where"]
    assert wrong["remedy"]
    assert WHO.items() <= wrong.items()
    assert len(json.dumps(wrong)) < 1000
    assert ask(socket, {"id": "after", "instances": [ROW]})["id"] == "after"


@pytest.mark.parametrize("value", ["0", "-5", '"100"', "null", "true", "[]", "1" + "0" * 400])
def test_a_deadline_that_is_none(socket, value):
    wrong = ask(socket, f'{{"id": 3, "deadline_ms": {value}, "instances": []}}')
    assert wrong["status"] == 400
    assert (wrong["id"], wrong["where"]) in [(3, "deadline_ms"), (None, "body")]


def test_a_deadline_is_kept(socket):
    late = ask(socket, {"id": 4, "deadline_ms": 1e-6, "instances": [ROW] * 50})
    assert late["id"] == 4
    assert late["status"] in (503, 504)
    assert late["retry_after_s"] >= 1
    assert "with deadline_ms" in late["remedy"]
    assert "predictions" in ask(socket, {"id": 5, "deadline_ms": 9999.5, "instances": [ROW]})


def test_too_many_rows_are_an_error_of_the_message(socket):
    wrong = ask(socket, {"id": 6, "instances": [ROW] * 10_001})
    assert (wrong["id"], wrong["status"]) == (6, 413)
    assert "predictions" in ask(socket, {"id": 7, "instances": [ROW] * 300})


def test_a_plain_request_is_told_to_upgrade(server):
    for path in (PATH, f"{PATH}/versions/1"):
        answer = httpx.get(f"http://{server.address}{path}")
        assert answer.status_code == 426
        assert answer.headers["upgrade"] == "websocket"
        assert "ws://" in answer.json()["remedy"]
    assert httpx.post(f"http://{server.address}{PATH}", json={}).status_code == 405


@pytest.mark.parametrize("path", ["/ws/early-flights", "/ws", "/ws/late-flights/versions/2", "/x"])
def test_what_is_not_there_is_refused(server, path):
    with pytest.raises(InvalidStatus) as caught, connect(f"ws://{server.address}{path}"):
        pass
    response = caught.value.response
    assert response.status_code == 404
    assert response.headers["x-headgate-release"] == "tiny:1"
    told = json.loads(response.body)
    assert PATH in told["remedy"]
    assert told["where"] == path


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://shop.example", True),
        ("HTTPS://Shop.example", True),
        ("http://{}", True),
        ("https://{}", True),
        ("https://evil.example", False),
        ("http://{}.evil.example", False),
        ("http://localhost:1", False),
        ("null", False),
        ("file://", False),
    ],
)
def test_pages_of_others_may_not_connect(server, origin, allowed):
    headers = {} if origin is None else {"Origin": origin.format(server.address)}
    url = f"ws://{server.address}{PATH}"
    if allowed:
        with connect(url, additional_headers=headers) as socket:
            assert "predictions" in ask(socket, {"instances": [ROW]})
        return
    with pytest.raises(InvalidStatus) as caught, connect(url, additional_headers=headers):
        pass
    assert caught.value.response.status_code == 403
    assert "server.allowed_origins" in json.loads(caught.value.response.body)["remedy"]


def test_nothing_is_compressed_and_no_subprotocol_chosen(server):
    with connect(f"ws://{server.address}{PATH}", compression="deflate") as socket:
        assert socket.response.headers.get("sec-websocket-extensions") is None
        assert socket.response.headers["x-headgate-release"] == "tiny:1"
        assert socket.response.headers["x-headgate-model-version"] == "1"
    with raw_socket(server.address, PATH, sec_websocket_protocol="v1.x") as socket:
        socket.say({"id": 1, "instances": [ROW]})
        assert socket.hear()["id"] == 1


def test_pings_are_answered(socket):
    assert socket.ping("are you there?").wait(10)


def test_a_client_may_close(server):
    with connect(f"ws://{server.address}{PATH}") as socket:
        socket.send(json.dumps({"id": 1, "instances": [ROW]}))
        socket.close(1000, "done")
    assert socket.close_code == 1000


def test_what_became_of_messages_is_counted(server):
    name, labels = "headgate_requests_total", {"surface": "ws", "model": "breast-cancer"}
    before = [metric(server.address, name, **labels, outcome=what) for what in ("ok", "input")]
    with connect(f"ws://{server.address}/ws/breast-cancer") as socket:
        for number in range(10):
            ask(socket, {"id": number, "instances": [[0.5] * (30 - number % 2)]})
    after = [metric(server.address, name, **labels, outcome=what) for what in ("ok", "input")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [5, 5]


def test_strangers_do_not_grow_the_metrics(server):
    def series():
        lines = get(server.address, "/metrics")[1].decode().splitlines()
        return {re.sub(r'pid="\d+"', "", line.rpartition(" ")[0]) for line in lines}

    def knock(number):
        with pytest.raises(InvalidStatus), connect(f"ws://{server.address}/ws/{number}"):
            pass

    knock("known")
    before = series()
    for number in range(20):
        knock(number)
    assert series() <= before


@pytest.mark.parametrize("change", [{"sec_websocket_version": "8"}, {"sec_websocket_key": "short"}])
def test_a_handshake_that_is_none_is_refused(server, change):
    host, _, port = server.address.partition(":")
    with sockets.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(handshake(PATH, **change))
        assert re.match(rb"HTTP/1.1 4\d\d ", sock.recv(1000))
