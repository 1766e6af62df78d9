"""A real server, and clients of every kind at the same time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys

import httpx
import psutil
import pytest
from serving.asgi import make_root
from serving.refusals import GOOD, INVOCATIONS, LONG, OIP, PREDICTIONS, ROW, TYPED, V1, tensors
from serving.tiny import connect, get, metric, serving

pytestmark = pytest.mark.e2e

SURFACES = (V1, TYPED, OIP, PREDICTIONS, INVOCATIONS)
ANY = {**GOOD, INVOCATIONS: GOOD[V1]}
MB = 1024 * 1024
IMPATIENT = """
from headgate.serving.launch import connections

connections.BODY_S = 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("server"))
    (root / "service.py").write_text((root / "service.py").read_text() + IMPATIENT)
    with serving(root / "log", root) as server:
        yield server


def post(address, path, body, **headers):
    with contextlib.closing(connect(address, 20)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, named)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def talk(address, *pieces):
    """What the server says to these bytes until it closes, or nothing comes for a while."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        for piece in pieces:
            sock.sendall(piece)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(65536):
                received += data
        return received


def test_every_surface_answers(server):
    for path, body in ANY.items():
        with contextlib.closing(connect(server.address, 20)) as connection:
            connection.request("POST", path, body)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            assert answer.headers["X-Headgate-Model-Version"] == "1"
            assert answer.headers["X-Headgate-Release"] == "tiny:1"
            told = json.loads(answer.read())
        if path.startswith(("/v", "/late", "/breast")):
            assert told["model_version"] == "1"
            assert "tiny:1" in (told.get("release"), told.get("parameters", {}).get("release"))
    for path in (
        "/livez",
        "/readyz",
        "/healthz",
        "/metrics",
        "/docs.json",
        "/schema.json",
        "/",
        "/ping",
    ):
        assert get(server.address, path)[0] == 200


def bad_requests():
    """Every kind that in-process tests know, over every surface that takes it."""
    # MLflow's clients write a missing number as NaN, and its server overlooks more columns.
    fine_for_mlflow = [
        b'{"instances": [{"carrier": "UA", "distance": 1, "wind": NaN}]}',
        json.dumps({"instances": [ROW] * 100 + [{**ROW, "gate": 1}]}).encode(),
    ]
    bodies = [
        b"",
        b"{",
        b"null",
        b'{"instances": []}',
        b'{"instances": [{}]}',
        b"[" * 3000,
        b"\xff" * 2000,
        json.dumps({"instances": [{**ROW, "wind": "nan"}]}).encode(),
        json.dumps({"instances": [ROW, {**ROW, "distance": None}]}).encode(),
        json.dumps({"instances": [{**ROW, "carrier": 7}] * 50}).encode(),
        json.dumps({"inputs": tensors(carrier=["UA"], distance=[1], wind=["None"])}).encode(),
        json.dumps({"inputs": tensors(carrier=[LONG], distance=[1.5], wind=[1])}).encode(),
        json.dumps({"inputs": [{"name": []}]}).encode(),
    ]
    for path in SURFACES:
        for body in bodies if path == INVOCATIONS else [*bodies, *fine_for_mlflow]:
            yield "POST", path, {"content": body}
        yield "POST", path, {"content": b"x" * 100, "headers": {"content-encoding": "gzip"}}
        yield "POST", path, {"content": ANY[path], "headers": {"content-type": "text/html"}}
        yield "POST", path, {"content": ANY[path], "headers": {"x-headgate-deadline-ms": "-1"}}
        yield "POST", path, {"content": b"UA,1\n", "headers": {"content-type": "text/csv"}}
        yield "GET", path, {}
        yield "PUT", path, {"content": ANY[path]}
        yield "OPTIONS", path, {}
        yield "DELETE", f"{path}/nothing", {}
        yield "POST", path.replace("late", "early"), {"content": ANY[path]}
    binary = json.dumps({"inputs": [{**tensors(wind=[1])[0], "data": None}]}).encode()
    for length in ("0", "7", str(len(binary)), "2000000000", "x"):
        headers = {"inference-header-content-length": length}
        yield "POST", OIP, {"content": binary + b"\xff" * 7, "headers": headers}


def too_large():
    for path in SURFACES:
        yield "POST", path, {"content": chunks(b" " * MB, 17)}


async def chunks(piece, count):
    for _ in range(count):
        yield piece


def test_bad_requests_never_disturb_good_ones(server):
    """Good ones among them, interleaved on the same connections: each gets its own answer."""
    rows = [
        {"carrier": ["UA", "DL", "nan", None][n % 4], "distance": 100 + n, "wind": n / 8}
        for n in range(300)
    ]
    _, told = post(server.address, V1, json.dumps({"instances": rows}))
    expected = told["predictions"]

    async def good(client, n):
        row = rows[n]
        if n % 3 == 2:
            body = {"inputs": tensors(**{name: [value] for name, value in row.items()})}
            answer = await client.post(OIP, json=body)
            found = {each["name"]: each["data"] for each in answer.json()["outputs"]}
            prediction = {"label": found["label"][0], "probabilities": found["probabilities"]}
        else:
            answer = await client.post((V1, TYPED)[n % 2], json={"instances": [row]})
            [prediction] = answer.json()["predictions"]
        assert answer.status_code == 200
        assert prediction["label"] == expected[n]["label"]
        assert prediction["probabilities"] == pytest.approx(expected[n]["probabilities"], abs=1e-6)

    async def bad(client, method, path, request):
        answer = await client.request(method, path, **request)
        assert 400 <= answer.status_code < 500, (method, path, answer.text)
        if method != "HEAD":
            told = answer.json()
            assert told.get("error") or told["message"]

    async def main():
        limits = httpx.Limits(max_connections=24)
        base = f"http://{server.address}"
        async with httpx.AsyncClient(base_url=base, limits=limits, timeout=30) as client:
            wrong = [*too_large(), *(each for _ in range(3) for each in bad_requests())]
            tasks = []
            for n in range(len(rows)):
                tasks.append(good(client, n))
                if n < len(wrong):
                    tasks.append(bad(client, *wrong[n]))
            await asyncio.gather(*tasks)
            assert len(wrong) > 200

    asyncio.run(main())
    assert metric(server.address, "headgate_requests_total", outcome="internal") == 0
    assert metric(server.address, "headgate_requests_total", outcome="engine") == 0


def head(path=V1, *lines):
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", *lines, "", ""]).encode()


def test_100_mb_that_are_announced_are_refused_before_they_come(server):
    heads = [
        head(path, f"content-length: {100 * MB}", *expect)
        for path in SURFACES
        for expect in ([], ["expect: 100-continue"])
    ]
    # Until the server hangs up: nothing else is said, neither "continue" nor "too slow".
    with concurrent.futures.ThreadPoolExecutor(len(heads)) as pool:
        for said in pool.map(lambda request: talk(server.address, request), heads):
            assert said.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close" in said
            assert f"the body has {100 * MB} bytes".encode() in said
            assert b"x-headgate-release: tiny:1" in said
            assert said.count(b"HTTP/1.1") == 1


def memory(server):
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in family)


def test_100_mb_are_refused_and_not_kept_however_they_come(server):
    """In one piece, in chunks, and in chunks by clients that read nothing before the end."""
    before = memory(server)
    piece = bytes(MB)

    def whole():
        return post(server.address, V1, bytes(100 * MB))

    def chunked():
        with contextlib.closing(connect(server.address, 20)) as connection:
            connection.request("POST", V1, iter([piece] * 100), encode_chunked=True)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def good():
        return [post(server.address, V1, GOOD[V1])[0] for _ in range(50)]

    with concurrent.futures.ThreadPoolExecutor() as pool:
        others = pool.submit(good)
        tried = [pool.submit(play) for play in (whole, chunked, chunked)]
        for each in tried:
            status, told = each.result()
            assert status == 413
            assert told["where"] == "body"
            assert f"send at most {16 * MB} bytes" in told["remedy"]
        assert set(others.result()) == {200}
    assert memory(server) - before < 100 * MB


def test_a_body_that_does_not_come_gets_408(server):
    body = GOOD[V1].encode()
    said = talk(server.address, head(V1, f"content-length: {len(body)}"), body[:20])
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"send a smaller or faster request" in said


CLOSE = "connection: close"
RAW = {
    "HEAD": (f"HEAD /livez HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n", 200),
    "HEAD of what can be asked": (f"HEAD {V1} HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n", 405),
    "OPTIONS of the server": (f"OPTIONS * HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n", 404),
    "an absolute target": (f"GET http://x/livez HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n", 200),
    "a percent-encoded path": (
        f"GET /v1/models/late%2Dflights HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n",
        200,
    ),
    "percent-encoded rubbish": (f"GET /%ff%00%zz HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n", 404),
    "a path that is not ASCII": (f"GET /sp\u00e4ti HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n", 400),
    "a long path": (f"GET /{'x' * 20_000} HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n", 404),
    "too long a path": (f"GET /{'x' * 70_000} HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n", 431),
    "HTTP/1.0": ("GET /livez HTTP/1.0\r\n\r\n", 200),
    "no HTTP": ("HELLO\r\n\r\n", 400),
    "a length that is none": (f"POST {V1} HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
    "two lengths": (
        f"POST {V1} HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
    ),
    "chunks that are none": (
        f"POST {V1} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        400,
    ),
}


@pytest.mark.parametrize("what", RAW)
def test_odd_requests_get_an_answer(server, what):
    request, status = RAW[what]
    said = talk(server.address, request.encode())
    assert said.startswith(f"HTTP/1.1 {status} ".encode()), said[:200]
    if what.startswith("HEAD"):
        assert said.endswith(b"\r\n\r\n")
    assert get(server.address, "/livez")[0] == 200


def test_requests_in_one_go_are_answered_in_their_order(server):
    body = GOOD[V1].encode()
    good = head(V1, f"content-length: {len(body)}") + body
    bad = head(V1, "content-length: 1") + b"{"
    last = head(V1, "content-length: 1", "connection: close") + b"{"
    said = talk(server.address, good + bad + good + bad + good + last)
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"400"] * 3


def test_strangers_do_not_grow_the_metrics(server):
    def series():
        lines = get(server.address, "/metrics")[1].decode().splitlines()
        return {line.rpartition(" ")[0] for line in lines}

    handshake = (
        "GET /ws/{} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    talk(server.address, handshake.format("known").encode())
    get(server.address, "/docs.json")
    before = series()
    for number in range(30):
        assert get(server.address, f"/scan/{number}")[0] == 404
        assert b" 404 " in talk(server.address, handshake.format(number).encode())[:20]
    after = series()
    assert {line for line in after if "pid=" not in line} <= before | {""}


BENTOML_CLIENT = """
import json, sys
import bentoml

address, rows = sys.argv[1], json.loads(sys.argv[2])
with bentoml.SyncHTTPClient(f"http://{address}", server_ready_timeout=20) as client:
    print(json.dumps(client.late_flights(instances=rows)))
"""


def test_a_client_of_bentoml_s_can_ask(server):
    rows = json.dumps([ROW, {**ROW, "wind": None, "carrier": None}])
    done = subprocess.run(
        [sys.executable, "-c", BENTOML_CLIENT, server.address, rows],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["model_name"] == "late-flights"
    assert [set(each) for each in told["predictions"]] == [{"label", "probabilities"}] * 2


def test_a_client_that_hangs_up_is_not_missed(server):
    body = GOOD[V1].encode()
    host, _, port = server.address.partition(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(head(V1, f"content-length: {len(body)}") + body[:-1])
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(head(V1, f"content-length: {len(body)}") + body)
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=10)) as connection:
        connection.request("POST", V1, body)
        assert connection.getresponse().status == 200
    assert metric(server.address, "headgate_requests_total", outcome="internal") == 0
