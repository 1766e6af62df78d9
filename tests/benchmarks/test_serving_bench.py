"""The pure parts of the benchmarks, and the generator against a server that keeps count."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import orjson
import pytest

from benchmarks import overload as overload_script
from benchmarks import serving
from benchmarks.harness import goals, million, wrk
from benchmarks.harness.client import request_bytes
from benchmarks.harness.environments import PEERS
from benchmarks.harness.goals import ALONE, GOALS, WORKERS, Goal, judge
from benchmarks.harness.measure import Plan, Round
from benchmarks.harness.openloop import Offered, offer
from benchmarks.harness.overload import judged, refusal_us
from benchmarks.harness.protocols import (
    Target,
    WrongAnswerError,
    body_of,
    check_answers,
    headers_of,
    probabilities_of,
)
from benchmarks.harness.report import Results, table, verdicts, write
from benchmarks.harness.servers import SERVERS

SAID = {
    "requests": 2000,
    "duration_us": 2_000_000,
    "p50_us": 900,
    "p95_us": 1500,
    "p99_us": 4000,
    "status": 10,
    "connect": 0,
    "read": 2,
    "write": 0,
    "timeout": 1,
}
PLAN = Plan(rounds=2, seconds=1, warmup_s=1, rate=10)


def test_what_wrk_says_is_read_past_its_own_report():
    measured = wrk.parse(f"Running 2s test @ http://x\n  1 threads\n{json.dumps(SAID)}\n")
    assert measured.described() == {
        "rps": 995.0,
        "p50_ms": 0.9,
        "p95_ms": 1.5,
        "p99_ms": 4.0,
        "errors": 13,
    }


@pytest.mark.parametrize(
    "output",
    ["", "unable to connect to 127.0.0.1:1", "{}", json.dumps({**SAID, "duration_us": 0})],
)
def test_what_wrk_did_not_measure_is_an_error(output):
    with pytest.raises(wrk.WrkError):
        wrk.parse(output)


@pytest.mark.parametrize("script", [serving, overload_script])
def test_without_wrk_it_says_how_to_get_it(script, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert script.main([]) == 2
    assert "apt-get install wrk" in capsys.readouterr().err


def test_an_unknown_server_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        serving.main(["--only", "nobody"])
    assert ended.value.code == 2
    assert "'headgate'" in capsys.readouterr().err


def at(rps, p95=1.0, errors=0):
    return {"rps": rps, "p50_ms": p95 / 2, "p95_ms": p95, "p99_ms": p95 * 2, "errors": errors}


def test_a_goal_is_judged_by_the_median_of_the_ratios_of_each_round():
    # The second round was slow for both: the ratio of the medians would be 1.5.
    rounds = {
        "onnx": {
            "headgate": {"16": [at(300), at(100), at(400)]},
            "bare": {"16": [at(200), at(50), at(400)]},
        }
    }
    goal = Goal(of="headgate", over="bare", at="16", at_least=1.5)
    found = judge(goal, rounds)
    assert (found.value, found.low, found.high) == (1.5, 1.0, 2.0)
    assert found.reached
    assert not judge(Goal(of="headgate", over="bare", at="16", at_least=1.51), rounds).reached


def test_a_latency_is_to_be_below():
    rounds = {"onnx": {"headgate": {"1": [at(1, 3)]}, "fastapi": {"1": [at(1, 4)]}}}
    goal = Goal(of="headgate", over="fastapi", at="1", metric="p95_ms", below=1)
    assert judge(goal, rounds).reached
    rounds["onnx"]["fastapi"]["1"] = [at(1, 3)]
    assert not judge(goal, rounds).reached


@pytest.mark.parametrize(
    "rounds",
    [{}, {"onnx": {"headgate": {"16": [at(1)]}}}, {"onnx": {"headgate": {}, "bare": {"16": []}}}],
)
def test_what_was_not_measured_is_neither_reached_nor_missed(rounds):
    found = judge(Goal(of="headgate", over="bare", at="16", at_least=1), rounds)
    assert found.value is None
    assert found.reached is None
    assert "not measured" in verdicts([found])


def test_every_goal_names_what_is_measured():
    names = {target.name for server in SERVERS for target in server.targets}
    for goal in GOALS:
        assert {goal.of, goal.over} <= names | {ALONE, *WORKERS.values()}
    assert {server.name for server in SERVERS} == {
        *("headgate", "headgate-1000-rows", "bare", "bare-grpc", "fastapi", "bentoml", "litserve"),
        *("mlserver", "pytriton"),
    }


@pytest.mark.parametrize("server", [each for each in SERVERS if not each.own], ids=lambda s: s.name)
def test_every_peer_has_a_server_and_pins_everything(server):
    assert (PEERS / f"serve_{server.name.replace('-', '_')}.py").is_file()
    pins = (PEERS / f"{server.name}.txt").read_text().splitlines()
    assert all(line.count("==") == 1 for line in pins)
    assert server.package in {line.partition("==")[0] for line in pins}


def results(**failed):
    found = Results(plan=PLAN, machine={"cpu": "x", "cores": 2, "at": "now", "load_before": 0.1})
    for scale in (1, 2):
        for name in ("headgate", "bare"):
            found.add(
                "onnx",
                name,
                Round(
                    closed={
                        level: at(1000 * scale, 2, errors=scale) for level in ("1", "16", "64")
                    },
                    opened={
                        "rate": 10,
                        "p50_ms": 1,
                        "p95_ms": 2,
                        "p99_ms": float("inf"),
                        "errors": 1,
                    },
                    costs={"startup_s": 1, "memory_mb": 100 * scale, "cpu_ms_per_request": 0.05},
                ),
            )
        found.add("sklearn", WORKERS[2], Round(closed={"64": at(10)}))
    found.failed.update(failed)
    return found


def test_the_json_has_every_server_at_every_number_of_connections(tmp_path):
    for file in write(tmp_path, results(**{"mlserver (ONNX)": "it ended with 1"})):
        assert file.is_file()
    told = json.loads((tmp_path / "serving.json").read_text())
    assert set(told["servers"]) == {"headgate", "bare"}
    for levels in told["servers"].values():
        assert set(levels) == {"1", "16", "64"}
        for numbers in levels.values():
            assert set(numbers) == {"rps", "p50_ms", "p95_ms", "p99_ms", "errors"}
    # The median of the rounds; errors are added up, and what never came is null.
    assert told["servers"]["headgate"]["16"] == {**at(1500, 2), "errors": 3}
    assert told["open_loop"]["bare"]["p99_ms"] is None
    assert told["costs"]["bare"]["memory_mb"] == 150
    assert told["unconverted"] == {WORKERS[2]: {"64": at(10)}}
    assert told["failed"] == {"mlserver (ONNX)": "it ended with 1"}
    assert len(told["goals"]) == len(GOALS)
    page = (tmp_path / "serving.md").read_text()
    assert "| headgate | 1,500 / 1,500 / 1,500 | 2.00 / 2.00 / 2.00 |" in page
    assert page.count("| mlserver (ONNX) | not measured: it ended with 1 |") == 1
    drawn = ET.fromstring((tmp_path / "serving.svg").read_text())  # noqa: S314
    assert drawn.tag.endswith("svg")


def test_a_failure_is_told_where_its_model_is():
    two = "headgate-2-workers (unconverted)"
    found = results(**{"mlserver (unconverted)": "x", "litserve (ONNX)": "y", two: "z"})
    assert found.failures("onnx") == {"litserve (ONNX)": "y"}
    assert found.failures("sklearn") == {"mlserver (unconverted)": "x", two: "z"}


def test_equal_results_make_equal_plots(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, results())
    assert (tmp_path / "a/serving.svg").read_bytes() == (tmp_path / "b/serving.svg").read_bytes()


def test_a_level_that_was_not_measured_is_a_dash():
    assert "| - / - / 10 |" in table({WORKERS[2]: {"64": at(10)}}, {}, {})


def test_errors_are_added_up_and_all_else_is_a_median():
    assert goals.median_of([at(1, 1, 1), at(5, 3, 2), at(2, 9, 3)]) == {**at(2, 3), "errors": 6}


ROWS = np.arange(60, dtype=np.float32).reshape(2, 30)
LIKELY = np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)
GOOD = {
    "tensors": {
        "outputs": [
            {"name": "probabilities", "shape": [2, 2], "data": [0.25, 0.75, 0.9, 0.1]},
            {"name": "label", "shape": [2, 1], "data": [[1], [0]]},
        ]
    },
    "instances": {
        "predictions": [
            {"label": 1, "probabilities": [0.25, 0.75]},
            {"label": 0, "probabilities": [0.9, 0.1]},
        ]
    },
    "array": [[0.25, 0.75], [0.9, 0.1]],
}


def test_a_binary_request_is_its_json_and_its_numbers():
    body = body_of("binary", ROWS)
    length = int(headers_of("binary", ROWS)["inference-header-content-length"])
    (tensor,) = orjson.loads(body[:length])["inputs"]
    assert tensor["shape"] == [2, 30]
    assert np.frombuffer(body[length:], "<f4").tolist() == ROWS.ravel().tolist()


def test_a_binary_answer_is_read():
    labels, numbers = np.array([1, 0], "<i8").tobytes(), LIKELY.astype("<f4").tobytes()
    outputs = [
        {"name": name, "datatype": kind, "parameters": {"binary_data_size": len(content)}}
        for name, kind, content in (("label", "INT64", labels), ("probabilities", "FP32", numbers))
    ]
    answer = orjson.dumps({"outputs": outputs}) + labels + numbers
    assert probabilities_of("binary", answer) == pytest.approx(LIKELY)
    with pytest.raises(WrongAnswerError):
        probabilities_of("binary", answer[:-1])


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_the_closed_loop_sends_bodies_and_headers_as_they_are(tmp_path):
    seen = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.add((self.headers["x-kind"], body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_): ...

    bodies = [b"\x00\n\xff" * 9, b"12\n", b"{}"]
    wrk.write(tmp_path / "bodies", bodies)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        found = wrk.load(
            url, tmp_path / "bodies", connections=2, seconds=1, headers={"x-kind": "a: b"}
        )
        server.shutdown()
    assert found.errors == 0
    assert seen == {("a: b", body) for body in bodies}


@pytest.mark.parametrize("kind", GOOD)
def test_answers_of_every_kind_are_read(kind):
    assert probabilities_of(kind, orjson.dumps(GOOD[kind])) == pytest.approx(LIKELY)


@pytest.mark.parametrize("answer", [b"", b"{}", b"[1]", b'{"predictions":[{"label":0}]}'])
@pytest.mark.parametrize("kind", GOOD)
def test_what_is_no_answer_is_wrong(kind, answer):
    with pytest.raises(WrongAnswerError):
        probabilities_of(kind, answer)


def test_a_label_that_is_not_the_likeliest_is_wrong():
    told = {"predictions": [{"label": 0, "probabilities": [0.25, 0.75]}]}
    with pytest.raises(WrongAnswerError, match="likeliest"):
        probabilities_of("instances", orjson.dumps(told))


def test_a_server_that_predicts_something_else_is_found():
    target = Target(name="x", path="/", kind="instances")
    rows = {body_of("instances", ROWS[i : i + 1]): i for i in (0, 1)}

    def ask(body, headers):
        assert headers == {"content-type": "application/json"}
        return orjson.dumps({"predictions": [GOOD["instances"]["predictions"][rows[body]]]})

    check_answers(target, ROWS, LIKELY, ask)
    with pytest.raises(WrongAnswerError, match="row 1"):
        check_answers(target, ROWS, LIKELY + np.array([[0], [1e-3]], np.float32), ask)


def test_a_request_in_tensors_holds_the_row():
    told = orjson.loads(body_of("tensors", ROWS))
    (tensor,) = told["inputs"]
    assert tensor["shape"] == [2, 30]
    assert tensor["data"] == ROWS.ravel().tolist()


def answer(request_id, value):
    return orjson.dumps({"id": request_id, "outputs": [{"name": "value", "data": [value]}]})


def test_a_swapped_answer_is_wrong_and_shown():
    checked = million.Checked()
    checked.count(7, 1.5, (200, answer("7", 1.5)))
    checked.count(7, 1.5, (200, answer("8", 1.5)))
    checked.count(7, 1.5, (200, answer("7", 1.6)))
    checked.count(7, 1.5, (200, b"rubbish"))
    checked.count(7, 1.5, (503, b""))
    checked.count(7, 1.5, (0, b""))
    assert (checked.right, checked.wrong, checked.failed, checked.lost) == (1, 3, 1, 1)
    assert "row 7" in checked.examples[0]


def test_how_likely_a_swapped_answer_would_pass():
    values = np.array([1.0, 2.0, 3.0, 3.0])
    question = million.Question(rows=np.zeros((4, 30), np.float32), values=values)
    # Two of the twelve ordered pairs of different rows have the same value.
    assert question.mistakable == pytest.approx(2 / 12)


def test_what_is_too_late_or_refused_is_no_goodput():
    offered = Offered(
        late=np.array([0, 0, 0.3, 0, 0]),
        latency=np.array([0.1, 0.6, 0.7, 0.01, np.inf]),
        status=np.array([200, 200, 200, 429, 0]),
    )
    load = judged(offered, seconds=2, rate=2.5, deadline_s=0.5)
    assert load.goodput == 1.0  # the first and the third, which was sent late
    assert load.refused == pytest.approx(1 / 5)
    assert load.in_time == pytest.approx(2 / 4)
    assert load.failed == pytest.approx(1 / 5)


def test_what_a_refusal_takes_is_what_answers_do_not():
    light = judged(offered_at(100, refused=0), seconds=1, rate=100, deadline_s=1)
    heavy = judged(offered_at(100, refused=400), seconds=1, rate=500, deadline_s=1)
    light, heavy = replace(light, user=0.5, system=0.1), replace(heavy, user=0.52, system=0.112)
    cost = refusal_us(light, heavy)
    assert cost == {"user": pytest.approx(50), "system": pytest.approx(30)}
    assert refusal_us(light, light) is None


def offered_at(good, *, refused):
    count = good + refused
    return Offered(
        late=np.zeros(count),
        latency=np.full(count, 0.1),
        status=np.repeat([200, 503], [good, refused]),
    )


@contextlib.contextmanager
def counting():
    """A server that answers 200, every seventh time 503 and then closes."""
    seen = []

    async def handle(reader, writer):
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                seen.append(await reader.readexactly(size))
                bad = len(seen) % 7 == 0
                status, more = (b"503 No", b"connection: close\r\n") if bad else (b"200 OK", b"")
                writer.write(b"HTTP/1.1 %b\r\n%bcontent-length: 2\r\n\r\n" % (status, more))
                await writer.drain()
                writer.write(b"ok")
                if bad:
                    writer.close()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()

    started, told, stop = threading.Event(), [], []

    async def serve():
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        told.append(server.sockets[0].getsockname()[1])
        over = asyncio.Event()
        stop.append(partial(asyncio.get_running_loop().call_soon_threadsafe, over.set))
        started.set()
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait(10)
    try:
        yield told[0], seen
    finally:
        stop[0]()
        thread.join(10)


def test_an_open_loop_sends_all_of_its_schedule_and_counts_what_came_back():
    requests = [request_bytes("/", str(i).encode()) for i in range(10)]
    with counting() as (port, seen):
        offered = offer(port, requests, rate=300, seconds=0.7)
    assert len(offered.status) == len(seen) == 210
    assert sorted(seen) == sorted(str(i % 10).encode() for i in range(210))
    assert int((offered.status == 503).sum()) == 30
    assert int(offered.ok.sum()) == 180
    assert np.isfinite(offered.latency).all()
    assert (offered.late >= 0).all()
    assert (offered.latency >= offered.late).all()


def test_an_open_loop_counts_what_nobody_answers():
    with counting() as (port, _):
        pass
    offered = offer(port, [request_bytes("/", b"1")], rate=100, seconds=0.2)
    assert set(offered.status.tolist()) == {0}
    assert not offered.ok.any()
    assert offered.quantile_ms(0.5) == float("inf")
