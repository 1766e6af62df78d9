"""An `app.py` beside the models: mounted, started, bounded, counted; a broken one is one line."""

from __future__ import annotations

import json
import sys

import pytest
from serving.asgi import make_root, make_service, metric, serving_app
from serving.refusals import ROW, X
from serving.tiny import get, serving

from headgate.errors import ServingError
from headgate.serving import beside

FASTAPI = """
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, WebSocket
from pydantic import BaseModel

from headgate.serving import predict

log = []


@asynccontextmanager
async def lifespan(app):
    warm = await predict("breast-cancer", [[0.5] * 30])
    log.append("started")
    yield {"warm": len(warm)}
    log.append("stopped" + str(len(await predict("breast-cancer", [[0.5] * 30]))))


app = FastAPI(lifespan=lifespan)


class Both(BaseModel):
    flight: dict
    cells: list[float]


@app.get("/")
def root():
    return "root"


@app.post("/both/{name}")
async def both(name: str, asked: Both):
    flight = await predict("late-flights", [asked.flight])
    cells = await predict("breast-cancer", [asked.cells])
    return {"name": name, "flight": flight[0], "cells": cells[0], "release": flight.release}


@app.get("/state")
def state(request: Request):
    return {"warm": request.state.warm, "url": str(request.url_for("state")), "log": log}


@app.get("/fails")
def fails():
    raise RuntimeError("a fault of the app's own")


@app.post("/size")
async def size(request: Request):
    return len(await request.body())


@app.websocket("/talk")
async def talk(socket: WebSocket):
    await socket.accept()
    text = await socket.receive_text()
    await socket.send_json(await predict("breast-cancer", [[float(text)] * 30]))
    await socket.close()
"""
BARE = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = (scope["root_path"] + " " + scope["path"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
MAX_BYTES = 65_536


def make_app(root, source):
    make_root(root)
    (root / "app.py").write_text(source)
    limited = f"[server]\nmax_body_mb = {MAX_BYTES / 2**20}\n"
    (root / "headgate.toml").write_text(f"{limited}[gate.profiles.quick]\nrate = 50\n")
    return root


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = make_app(tmp_path_factory.mktemp("root"), FASTAPI)
    with serving_app(root) as asked:
        yield asked
    sys.modules.pop("app", None)


def test_an_endpoint_joins_two_models(asked):
    answer = asked.post("/app/both/x", json={"flight": ROW, "cells": X})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    flight = asked.post("/v1/models/late-flights:predict", json={"instances": [ROW]}).json()
    cells = asked.post("/v1/models/breast-cancer:predict", json={"instances": [X]}).json()
    assert told == {
        "name": "x",
        "flight": flight["predictions"][0],
        "cells": cells["predictions"][0],
        "release": "test:1",
    }
    assert answer.headers["x-headgate-release"] == "test:1"


def test_it_knows_where_it_is(asked):
    assert asked.get("/app/").json() == "root"
    assert asked.get("/app", follow_redirects=True).json() == "root"
    told = asked.get("/app/state").json()
    assert told == {"warm": 1, "url": "http://testserver/app/state", "log": ["started"]}
    assert asked.get("/app/docs").status_code == 200
    described = asked.get("/app/openapi.json").json()
    assert described["servers"] == [{"url": "/app"}]
    assert "/both/{name}" in described["paths"]


def test_its_errors_are_its_own_and_the_predictors_are_ours(asked):
    wrong = asked.post("/app/both/x", json={"flight": {}, "cells": X})
    assert wrong.status_code == 400
    assert wrong.json()["error"] == "column 'carrier' is missing"
    assert asked.post("/app/both/x", json={}).status_code == 422
    assert asked.get("/app/nothing").json() == {"detail": "Not Found"}
    assert asked.get("/apple").json()["error"] == "no such path"
    with pytest.raises(RuntimeError, match="the app's own"):
        asked.get("/app/fails")
    assert asked.get("/livez").status_code == 200


async def chunks(sent):
    for _ in range(40):
        sent.append(4096)
        yield bytes(4096)


def test_bodies_are_limited(asked):
    assert asked.post("/app/size", content=bytes(MAX_BYTES)).json() == MAX_BYTES
    for body in (bytes(MAX_BYTES + 1), chunks([])):
        answer = asked.post("/app/size", content=body)
        assert answer.status_code == 413
        assert "server.max_body_mb" in answer.json()["remedy"]


def test_it_is_counted_by_route_and_nothing_a_scanner_sends_grows_that(asked):
    def count(**labels):
        asked.worker.flush()
        return metric("headgate_app_requests_total", **labels)

    before = count(route="/app/both/{name}", status="2xx"), count(route="other", status="4xx")
    for number in range(20):
        asked.post(f"/app/both/{number}", json={"flight": ROW, "cells": X})
        asked.get(f"/app/scan/{number}")
    after = count(route="/app/both/{name}", status="2xx"), count(route="other", status="4xx")
    assert [new - old for new, old in zip(after, before, strict=True)] == [20, 20]
    assert count(route="/app/fails", status="5xx") >= 1


def test_an_app_that_makes_routes_up_is_bounded(asked, monkeypatch):
    monkeypatch.setattr(beside, "_MOST_ROUTES", 3)
    counts = asked.app._beside._counts
    for number in range(50):
        counts.add(f"/made-up/{number}", 200, 0.1)
    assert sum("made-up" in name for name in counts._routes) <= 3


def test_its_shutdown_comes_before_the_models(tmp_path):
    with serving_app(make_app(tmp_path, FASTAPI)):
        log = sys.modules["app"].log
    assert log == ["started", "stopped1"]


def test_any_asgi_app_will_do(tmp_path):
    with serving_app(make_app(tmp_path, BARE)) as asked:
        assert asked.get("/app/x/y").text == "/app /app/x/y"
        assert asked.get("/app/x").headers["x-headgate-release"] == "test:1"
        asked.worker.flush()
        assert metric("headgate_app_requests_total", route="other", status="2xx") == 2


def test_without_one_nothing_is_there(tmp_path):
    with serving_app(make_root(tmp_path)) as asked:
        assert asked.get("/app/").status_code == 404
        assert asked.get("/app").status_code == 404


BROKEN = {
    "a package that is missing": (
        "import math\nimport no_such_package\n",
        "No module named 'no_such_package' — put the package into requirements/app.txt",
    ),
    "no Python": ("app = (\n", "app.py, line 1: cannot be imported: SyntaxError: "),
    "an error": (
        "def f():\n    return 1 / 0\nf()\n",
        "app.py, line 2: cannot be imported: ZeroDivisionError: division by zero",
    ),
    "an exit": ("import sys\nsys.exit('no')\n", "app.py, line 2: cannot be imported: SystemExit"),
    "no app": ("application = 1\n", "it has no `app`"),
    "a number": ("app = 1\n", "its `app` is no ASGI app but of type int"),
    "a class": ("class app: ...\n", "its `app` is no ASGI app but a class, app"),
    "WSGI": ("def app(environ, start): ...\n", "a2wsgi"),
    "not UTF-8": (b"\xff\xfe\x00", "app.py: cannot be imported: SyntaxError: "),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_one_is_one_clear_line(tmp_path, what):
    source, says = BROKEN[what]
    root = make_root(tmp_path)
    (root / "app.py").write_bytes(source if isinstance(source, bytes) else source.encode())
    with pytest.raises(SystemExit) as caught:
        make_service(root).to_asgi()
    line = str(caught.value.code)
    assert says in line
    assert "\n" not in line
    assert "app" not in sys.modules


@pytest.mark.e2e
def test_a_server_with_one_that_is_broken_does_not_start(tmp_path):
    root = make_root(tmp_path / "root")
    (root / "app.py").write_text("import no_such_package\n")
    broken = pytest.raises(ServingError, match=r"app\.py, line 1: cannot be imported")
    with broken, serving(tmp_path / "log", root):
        pass
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.e2e
def test_a_server_with_one_that_fails_to_start_up_does_not_start(tmp_path):
    failing = FASTAPI.replace('log.append("started")', 'raise OSError("no database")')
    root = make_app(tmp_path / "root", failing)
    broken = pytest.raises(ServingError, match="its startup failed: OSError: no database")
    with broken, serving(tmp_path / "log", root):
        pass


@pytest.mark.e2e
def test_over_http(tmp_path):
    from websockets.sync.client import connect

    root = make_app(tmp_path / "root", FASTAPI)
    with serving(tmp_path / "log", root) as server:
        status, body = get(server.address, "/app/state")
        assert (status, json.loads(body)["warm"]) == (200, 1)
        assert get(server.address, "/app/fails")[0] == 500
        assert get(server.address, "/app/")[0] == 200
        with connect(f"ws://{server.address}/app/talk") as socket:
            socket.send("0.5")
            assert len(json.loads(socket.recv(10))) == 1
        assert b'headgate_app_requests_total{route="/app/fails",status="5xx"} 1.0' in get(
            server.address, "/metrics"
        )[1].replace(b", ", b",")
