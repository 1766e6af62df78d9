from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from headgate.errors import InputError
from headgate.gate.imported import as_evidence, read_samples
from headgate.records import Samples

K6_HEAD = (
    "metric_name,timestamp,metric_value,check,error,error_code,expected_response,group,method,name,"
    "proto,scenario,service,status,subproto,tls_version,url,extra_tags,metadata"
)
JTL_HEAD = (
    "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,"
    "failureMessage,bytes,sentBytes,grpThreads,allThreads,URL,Latency,IdleTime,Connect"
)


def read(folder: Path, *lines: str, name: str = "run.csv") -> Samples:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    (found,) = read_samples(path, name="run").samples
    return found


def refusal(folder: Path, *lines: str, name: str = "run.csv") -> str:
    with pytest.raises(InputError) as caught:
        read(folder, *lines, name=name)
    assert caught.value.remedy
    return str(caught.value).replace(f"{folder}/", "")


def ms(found: Samples) -> list[float]:
    return [round(1000 * value, 6) for value in found.latency_s]


# --- any CSV ---


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("latency_ms", "12.5"),
        ("latency_s", "0.0125"),
        ("latency_us", "12500"),
        ("latency_ns", "12500000"),
        ("latency", "12.5"),
        ("duration_ms", "12.5"),
        ("elapsed", "12.5"),
        ("response_time", "12.5"),
        ("Response Time (ms)", "12.5"),
    ],
)
def test_latency_in_the_unit_that_its_column_names(tmp_path: Path, column: str, value: str) -> None:
    found = read(tmp_path, f"id,{column}", f"1,{value}", f"2,{value}")
    assert ms(found) == [12.5, 12.5]
    assert found.ok.all()
    assert (found.model, found.release, found.errors, found.duration_s) == ("", "run", {}, 0.0)


@pytest.mark.parametrize(
    ("column", "times"),
    [
        ("sent", ["5.5", "6", "7.5"]),
        ("timestamp", ["1700000000.5", "1700000001", "1700000002.5"]),
        ("timestamp", ["1700000000500", "1700000001000", "1700000002500"]),
        ("time_ms", ["500", "1000", "2500"]),
        ("start_time_s", ["500.5", "501", "502.5"]),
        ("time", ["1700000000500000", "1700000001000000", "1700000002500000"]),
        ("time", ["1700000000500000000", "1700000001000000000", "1700000002500000000"]),
        (
            "timestamp",
            [
                "2026-03-01T12:00:00.5Z",
                "2026-03-01T13:00:01.000000000+01:00",
                "2026-03-01T12:00:02.5Z",
            ],
        ),
    ],
)
def test_times_count_from_the_first(tmp_path: Path, column: str, times: list[str]) -> None:
    found = read(tmp_path, f"{column},latency_ms", *(f"{time},10" for time in times))
    assert np.round(found.intended_s, 6).tolist() == [0.0, 0.5, 2.0]
    assert found.sent_s.tolist() == found.intended_s.tolist()
    assert found.duration_s == pytest.approx(3.0)  # three gaps: the last has one of its own


def test_sorted_by_time(tmp_path: Path) -> None:
    found = read(tmp_path, "sent,latency_ms,ok", "3,30,true", "1,10,false", "2,20,true")
    assert ms(found) == [math.inf, 20.0, 30.0]
    assert found.ok.tolist() == found.matched.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("head", "row", "cause"),
    [
        ("ok", "true", None),
        ("ok", "1", None),
        ("success", "False", "no answer"),
        ("result", "failure", "no answer"),
        ("status", "200", None),
        ("status", "302", None),
        ("status", "200.0", None),
        ("status", "503", "HTTP 503"),
        ("status", "0", "no answer"),
        ("status", "KO", "KO"),
        ("status", "OK", None),
        ("status_code,error", "0,connection refused", "connection refused"),
        ("exception", "", None),
        ("exception", "None", None),
        ("exception", "TimeoutError()", "TimeoutError()"),
        ("success,status", "true,404", None),  # whoever measured expected it
        ("success,status", "false,500", "HTTP 500"),
        ("success,error", "false,wrong body", "wrong body"),
    ],
)
def test_what_came_of_it(tmp_path: Path, head: str, row: str, cause: str | None) -> None:
    found = read(tmp_path, f"latency_ms,{head}", f"10,{row}")
    assert found.errors == ({} if cause is None else {cause: 1})
    assert found.ok.tolist() == [cause is None]
    assert ms(found) == [10.0 if cause is None else math.inf]


def test_without_an_answer_there_need_be_no_latency(tmp_path: Path) -> None:
    found = read(tmp_path, "latency_ms,ok", ",false", "10,true")
    assert ms(found) == [math.inf, 10.0]


def test_causes_are_counted_and_bounded(tmp_path: Path) -> None:
    rows = [f'10,"broken\n{number} {"x" * 500}"' for number in range(1_500)]
    found = read(tmp_path, "latency_ms,error", *rows, "10,refused", "10,refused")
    assert len(found.errors) == 1_001
    assert sum(found.errors.values()) == 1_502
    assert max(len(cause) for cause in found.errors) <= 200
    assert not [cause for cause in found.errors if "\n" in cause]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators(tmp_path: Path, separator: str) -> None:
    assert ms(read(tmp_path, f"a{separator}latency_ms", f"x{separator}10")) == [10.0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "run.csv"
    path.write_text("latency_ms,ok\r\n10,true\r\n", encoding=encoding)
    assert read_samples(path, name="r").samples[0].latency_s.tolist() == [0.01]


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "run.csv.gz"
    path.write_bytes(gzip.compress(b"latency_ms\n" + b"10\n" * 100_000))
    assert len(read_samples(path, name="r").samples[0].ok) == 100_000


def test_files_one_behind_the_other(tmp_path: Path) -> None:
    assert ms(read(tmp_path, "latency_ms,ok", "10,true", "latency_ms,ok", "20,true")) == [10, 20]


# --- blocks ---


@pytest.mark.parametrize(("seconds", "blocks"), [(4, 6), (60, 30), (1_000, 200)])
def test_cut_by_time(tmp_path: Path, seconds: int, blocks: int) -> None:
    rows = (f"{seconds * number / 4000},10" for number in range(4_001))
    found = read(tmp_path, "sent,latency_ms", *rows)
    assert sorted(set(found.block.tolist())) == list(range(blocks))
    sizes = np.bincount(found.block)
    assert sizes.max() - sizes.min() <= 2
    assert (np.diff(found.block) >= 0).all()


@pytest.mark.parametrize(("count", "blocks"), [(3, 3), (100, 6), (2_000, 20), (30_000, 200)])
def test_cut_by_count_without_times(tmp_path: Path, count: int, blocks: int) -> None:
    found = read(tmp_path, "latency_ms", *["10"] * count)
    assert sorted(set(found.block.tolist())) == list(range(blocks))
    assert found.duration_s == 0


def test_named_blocks_are_pairs_and_cut_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("block,latency_ms\n0,10\n0,11\n4,12\n")
    (tmp_path / "b.csv").write_text("latency_ms\n10\n11\n12\n")
    named = read_samples(tmp_path / "a.csv", name="a")
    cut = read_samples(tmp_path / "b.csv", name="b")
    assert named.samples[0].block.tolist() == [0, 0, 4]
    assert (named.paired, cut.paired) == (True, False)
    evidence = as_evidence(named, cut)
    assert (evidence.candidate, evidence.champion) == (named, cut)


# --- k6 ---


def k6_row(metric: str, value: float, **tags: str) -> str:
    cells = {"timestamp": "1700000000", "status": "200", "expected_response": "true", **tags}
    cells |= {"metric_name": metric, "metric_value": f"{value:.6f}"}
    return ",".join(cells.get(name, "") for name in K6_HEAD.split(","))


def k6_line(metric: str, value: float, **tags: str) -> str:
    at = tags.pop("timestamp", "2026-03-01T12:00:00.000000000+01:00")
    told = {"status": "200", "expected_response": "true", **tags}
    data = {"time": at, "value": value, "tags": told}
    return json.dumps({"metric": metric, "type": "Point", "data": data})


K6_METRIC = json.dumps(
    {
        "type": "Metric",
        "data": {"name": "http_req_duration", "type": "trend"},
        "metric": "http_req_duration",
    }
)


@pytest.mark.parametrize(("write", "head"), [(k6_row, K6_HEAD), (k6_line, K6_METRIC)])
def test_k6(tmp_path: Path, write: object, head: str) -> None:
    assert callable(write)
    late = "1700000009" if write is k6_row else "2026-03-01T12:00:09+01:00"
    found = read(
        tmp_path,
        head,
        write("http_req_duration", 99.0, group="::setup"),
        write("http_req_failed", 1, group="::setup"),
        write("http_reqs", 1),
        write("http_req_duration", 20.0),
        write("http_req_blocked", 3.0),
        write("http_req_failed", 0),
        write("http_req_duration", 30.0, status="503", expected_response="false"),
        write("http_req_failed", 1, status="503", expected_response="false"),
        write(
            "http_req_duration", 0.0, status="0", expected_response="false", error="dial: timeout"
        ),
        write("http_req_duration", 40.0, status="404"),
        write("http_req_duration", 50.0, status="", expected_response=""),
        write("http_req_failed", 1, status="", expected_response=""),
        write("http_req_duration", 60.0, timestamp=late, status="", expected_response=""),
        write("http_req_failed", 0, status="", expected_response=""),
        write("iteration_duration", 70.0),
    )
    assert sorted(ms(found)) == [20.0, 40.0, 60.0, math.inf, math.inf, math.inf]
    assert found.errors == {"HTTP 503": 1, "dial: timeout": 1, "failed": 1}
    assert ms(found)[-1] == 60.0
    # It is told when they ended, so that the slowest of those began first.
    assert found.intended_s[-1] == pytest.approx(9 - 0.060 + 0.050, abs=1e-3)


def test_k6_without_requests(tmp_path: Path) -> None:
    assert "has no http_req_duration" in refusal(tmp_path, K6_HEAD, k6_row("vus", 1))
    line = k6_line("http_req_failed", 0)
    assert "has no http_req_duration" in refusal(tmp_path, line, name="run.json")


# --- JMeter, Locust, vegeta ---


def jtl(at: int, elapsed: int, code: str, success: str, *, message: str = "", why: str = "") -> str:
    return f"{at},{elapsed},x,{code},{message},t 1,text,{success},{why},1,1,1,1,http://h,3,0,0"


def test_jmeter(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        JTL_HEAD,
        jtl(1700000000000, 20, "200", "true", message="OK"),
        jtl(1700000000500, 30, "500", "false"),
        jtl(1700000001000, 40, "200", "false", why="body differs"),
        jtl(1700000001500, 50, "Non HTTP response code: java.net.ConnectException", "false"),
        jtl(1700000002000, 140, "200", "true", message="Number of samples in transaction : 4"),
        name="run.jtl",
    )
    assert ms(found) == [20.0, math.inf, math.inf, math.inf]
    assert found.errors == {
        "HTTP 500": 1,
        "body differs": 1,
        "Non HTTP response code: java.net.ConnectException": 1,
    }
    assert found.intended_s.tolist() == pytest.approx([0, 0.5, 1.0, 1.5])


def test_a_log_of_locusts_requests(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "start_time,request_type,name,response_time,response_length,exception",
        "1700000000.1,POST,/predict,12.25,312,None",
        "1700000000.2,POST,/predict,0.5,0,ConnectionRefusedError(111)",
    )
    assert ms(found) == [12.25, math.inf]
    assert found.errors == {"ConnectionRefusedError(111)": 1}


def test_vegeta(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "1700000000000000000,200,12500000,1,2,,aGVsbG8=,,0,POST,http://h,",
        "1700000000500000000,503,30000000,1,2,503 Service Unavailable,,,1,POST,http://h,",
        "1700000001000000000,0,30000000,1,0,dial tcp: refused,,,2,POST,http://h,",
    )
    hits = [
        {"code": 200, "timestamp": "2026-03-01T12:00:00Z", "latency": 12_500_000, "error": ""},
        {"code": 503, "timestamp": "2026-03-01T12:00:00.5Z", "latency": 30_000_000, "error": "503"},
        {
            "code": 0,
            "timestamp": "2026-03-01T12:00:01Z",
            "latency": 1,
            "error": "dial tcp: refused",
        },
    ]
    lines = read(tmp_path, *(json.dumps({"attack": "", "body": None, **hit}) for hit in hits))
    for found in (table, lines):
        assert ms(found) == [12.5, math.inf, math.inf]
        assert found.errors == {"HTTP 503": 1, "dial tcp: refused": 1}
        assert found.intended_s.tolist() == pytest.approx([0, 0.5, 1.0])


# --- what is refused ---


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Type,Name,Request Count,Failure Count,Median Response Time", "Locust's statistics, sums"),
        ("Timestamp,User Count,Type,Name,Requests/s,Total Request Count", "history of Locust's"),
        ("Method,Name,Error,Occurrences", "Locust's failures, counted"),
        ("Count,Message,Traceback,Nodes", "Locust's exceptions"),
        ("response-time,DNS+dialup,DNS,Request-write,status-code,offset", "is from hey"),
        ("request-start,DNS,DNS+dialup,Response-delay,request-duration,bytes,status", "from oha"),
        ('<?xml version="1.0"?>', "is XML"),
        ("{", "one JSON document"),
        ("[", "one JSON document"),
        ('{"a": 1}', "neither k6 nor vegeta; its first line has: a"),
        ("{nonsense}", "line 1: cannot be read"),
        ("a,b", "line 1: no column holds a latency; there are: a, b"),
        ("latency_ms", "holds no request"),
        ("", "is empty"),
    ],
)
def test_files_that_hold_no_samples(tmp_path: Path, line: str, says: str) -> None:
    assert says in refusal(tmp_path, line)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["latency_ms", "10", "fast"], "run.csv, line 3, column latency_ms: 'fast' is no number"),
        (["latency_ms", "-1"], "run.csv, line 2, column latency_ms: '-1' is no latency"),
        (["latency_ms", "nan"], "line 2, column latency_ms: 'nan' is no latency"),
        (["latency_ms", "inf"], "line 2, column latency_ms: 'inf' is no latency"),
        (["latency_ms;x", "12,5;x"], "line 2, column latency_ms: '12,5' is no number"),
        (["latency_ms,ok", "10,maybe"], "line 2, column ok: 'maybe' is neither true nor false"),
        (["latency_ms,sent", "10,noon"], "line 2, column sent: 'noon' is no time"),
        (["latency_ms,sent", "10,1", "10,nan"], "line 3, column sent: 'nan' is no time"),
        (["latency_ms,block", "10,1.5"], "line 2, column block: '1.5' is no whole number"),
        (["latency_ms,block", f"10,{10**19}"], "column block: '10000000000000000000' is too large"),
        (["latency_ms,block", "10,1", "10,0"], "column block: its blocks do not follow"),
        (["latency_ms,ok", "10,true", "", "10"], "line 4: has 1 columns, and the first line 2"),
        (["latency_ms,error", '10,"a', 'b"', "x,"], "line 4, column latency_ms: 'x' is no number"),
        (["sent,latency_ms", "0,10", "2000000,10"], "its requests span 23 days"),
        (["latency", "0.020", "0.030"], "column latency: half of it is below 0.025"),
        ([K6_HEAD, k6_row("http_req_duration", math.nan)], "line 2, column metric_value: 'nan'"),
        ([k6_line("http_req_duration", 1.0, timestamp="noon")], "line 1, column timestamp: 'noon'"),
        ([k6_line("http_req_duration", -1.0)], "line 1, column data.value: '-1.0'"),
        ([k6_line("http_req_duration", 1.0), '{"http_req_duration'], "line 2: cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: list[str], says: str) -> None:
    assert says in refusal(tmp_path, *lines)


@pytest.mark.parametrize(
    "content",
    [
        b"\x0f\xff\x81\x03\x01\x01\x06Result\x00",
        gzip.compress(b"latency_ms\n10\n")[:-9],
        b"\x1f\x8bx",
    ],
    ids=["binary", "gzip cut off", "no gzip"],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.csv"):
        read_samples(path, name="r")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_samples(tmp_path / "none.csv", name="r")
