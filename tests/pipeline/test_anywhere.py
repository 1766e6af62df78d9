"""`headgate gate` on endpoints and samples that are none of Headgate's."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from headgate import cli
from headgate.records import Outcome, Verdict

Answer = Callable[[dict[str, Any], int], tuple[int, dict[str, Any]]]


def right(request: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
    return 200, {"y": 2 * request["x"], "number": number}


def polite_error(request: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
    """As some frameworks have it."""
    return (200, {"error": "out of memory"}) if number % 9 == 5 else right(request, number)


def off_by_one(request: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
    status, said = right(request, number)
    return status, {**said, "y": said["y"] + (number % 20 == 7)}


@contextmanager
def endpoint(answer: Answer = right) -> Iterator[str]:
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, said = answer(json.loads(body), next(numbers))
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # a generator that is done hangs up
                self.close_connection = True

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Listener(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/score?v=1"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(f'{{"x": {x}}}\n' for x in range(5)))
    return file


def gate(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """In this process: nothing of a bundle is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["headgate", "gate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    told = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, told.out, told.err


def test_a_good_endpoint_beside_its_like(
    requests: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file, folder = tmp_path / "made" / "out.json", tmp_path / "report"
    with endpoint() as url, endpoint() as other:
        _, said, errors = gate(
            *("--url", url, "--against-url", other, "--request", requests, "--budget", 24),
            *(
                "--rate",
                100,
                "--expect",
                "same",
                "--p95-ms",
                5000,
                "--json",
                file,
                "--report",
                folder,
            ),
            capsys=capsys,
        )
    verdict = msgspec.json.decode(file.read_bytes(), type=Verdict)
    assert "Not compared, for it differs between equal requests: .number." in verdict.reason
    # In so short a time, and beside other tests, it need not come to a pass.
    assert verdict.outcome is not Outcome.FAIL, verdict.reason
    assert verdict.release == url
    names = {check.name: check for check in verdict.checks}
    assert names.keys() == {
        *("p95", "throughput", "error_rate", "parity", "p95_ratio", "throughput_ratio")
    }
    assert names["p95"].outcome is Outcome.PASS
    assert names["error_rate"].observed == 0
    assert names["parity"].observed == 0
    assert {path.name for path in folder.iterdir()} == {
        *("report.html", "report.md", "junit.xml", "verdict.json")
    }
    assert "p95_ratio" in said
    assert f"loading {url} beside {other} (at most 24 s)" in errors
    assert {path.name for path in tmp_path.iterdir()} == {"made", "report", "requests.jsonl"}


def test_a_wrong_answer_fails(requests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with endpoint(off_by_one) as url, endpoint() as other:
        code, said, _ = gate(
            *("--url", url, "--against-url", other, "--request", requests, "--budget", 6),
            *("--expect", "same", "--json"),
            capsys=capsys,
        )
    assert code == 1
    verdict = msgspec.json.decode(said, type=Verdict)
    assert {check.name for check in verdict.checks if check.outcome is Outcome.FAIL} == {"parity"}


def test_200_with_an_error_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = tmp_path / "request.json"
    request.write_text('{\n  "x": 4\n}\n')
    with endpoint(polite_error) as url:
        code, said, _ = gate(
            "--url", url, "--request", request, "--budget", 6, "--json", capsys=capsys
        )
    assert code == 1
    verdict = msgspec.json.decode(said, type=Verdict)
    (error_rate,) = (check for check in verdict.checks if check.name == "error_rate")
    assert error_rate.outcome is Outcome.FAIL
    assert "HTTP 200 of another shape at ." in error_rate.reason
    # Without a limit, latency is not judged; without a baseline, nothing relative.
    assert {check.name for check in verdict.checks} == {"throughput", "error_rate"}
    assert "There is no baseline" in verdict.reason
    assert "Latency was not judged" in verdict.reason


BAD = {
    "no request": (("--url", "http://127.0.0.1:1"), "--request: missing"),
    "no file": (
        ("--url", "http://127.0.0.1:1", "--request", "gone.json"),
        "gone.json: No such file",
    ),
    "no JSON": (
        ("--url", "http://127.0.0.1:1", "--request", "bad.jsonl"),
        "bad.jsonl, line 2: no JSON",
    ),
    "empty": (
        ("--url", "http://127.0.0.1:1", "--request", "empty.json"),
        "empty.json: holds no request",
    ),
    "nobody": (
        ("--url", "http://127.0.0.1:1/x", "--request", "good.json"),
        "http://127.0.0.1:1: nobody answers",
    ),
    "no address": (
        ("--url", "localhost:80", "--request", "good.json"),
        "give http://host:port/path",
    ),
    "no header": (
        ("--url", "http://127.0.0.1:1", "--request", "good.json", "--header", "secret"),
        "'secret': no header",
    ),
    "both": (("--url", "http://127.0.0.1:1", "--samples", "a.csv"), "exclude each other"),
    "a profile": (("--url", "http://127.0.0.1:1", "--profile", "full"), "exclude each other"),
    "a release": (
        ("headgate:abc", "--samples", "good.csv", "--p95-ms", "50"),
        "RELEASE: headgate:abc and --url or --samples do not go together",
    ),
    "nothing to compare": (("--against-url", "http://127.0.0.1:1"), "give --url or --samples too"),
    "the same as nobody": (
        ("--url", "http://127.0.0.1:1", "--request", "good.json", "--expect", "same"),
        "--expect same needs --against-url",
    ),
    "a password": (
        ("--url", "http://me:s3cret@127.0.0.1:1/x", "--request", "good.json"),
        "http://…@127.0.0.1:1: holds a name or a password",
    ),
    "no folder": (
        ("--url", "http://127.0.0.1:1", "--request", "good.json", "--report", "good.json"),
        "good.json",
    ),
    "no samples": (("--samples", "gone.csv"), "gone.csv"),
}


@pytest.mark.parametrize("how", BAD)
def test_bad_input_ends_with_2_and_one_line(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = BAD[how]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.json").write_text("{}")
    (tmp_path / "empty.json").write_text(" \n")
    (tmp_path / "bad.jsonl").write_text('{"x": 1}\n{"x": \n')
    rows = "".join(f"{second / 10},20,200\n" for second in range(600))
    (tmp_path / "good.csv").write_text("timestamp,latency_ms,status\n" + rows)
    code, said, errors = gate(*arguments, capsys=capsys)
    assert code == 2, errors
    assert said == ""
    assert words in " ".join(errors.split()), errors
    assert "Traceback" not in errors


def test_so_few_answers_prove_nothing(requests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with endpoint() as url:
        code, said, _ = gate(
            *("--url", url, "--request", requests, "--budget", 2, "--rate", 10, "--json"),
            capsys=capsys,
        )
    assert code == 3
    assert "fewer than the 200" in msgspec.json.decode(said, type=Verdict).reason


def test_answers_of_which_nothing_stays_the_same(
    requests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def restless(request: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
        return 200, {"number": number}

    with endpoint(restless) as url, endpoint(restless) as other:
        code, _, errors = gate(
            *("--url", url, "--against-url", other, "--request", requests),
            *("--expect", "same"),
            capsys=capsys,
        )
    assert code == 2
    assert f"{other}: every value of an answer differs between two equal requests" in errors


def samples(path: Path, latency_ms: float, count: int = 3000, failed: int = 0) -> Path:
    """50 requests a second, latencies a little apart."""
    rows = [
        f"{number / 50:.2f},{latency_ms * (1 + 0.3 * (number * 7919 % 97) / 97):.3f},"
        f"{500 if number < failed else 200}"
        for number in range(count)
    ]
    path.write_text("\n".join(["timestamp,latency_ms,status", *rows]) + "\n")
    return path


def test_samples_of_somebody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick, slow = samples(tmp_path / "quick.csv", 20), samples(tmp_path / "slow.csv", 30)
    failing = samples(tmp_path / "failing.csv", 20, failed=60)
    assert gate("--samples", quick, "--p95-ms", 50, capsys=capsys)[0] == 0
    assert gate("--samples", quick, "--against-samples", slow, capsys=capsys)[0] == 0
    code, said, _ = gate("--samples", slow, "--against-samples", quick, "--json", capsys=capsys)
    assert code == 1
    verdict = msgspec.json.decode(said, type=Verdict)
    (ratio,) = (check for check in verdict.checks if check.name == "p95_ratio")
    assert ratio.observed == pytest.approx(1.5, rel=0.02)
    assert gate("--samples", failing, "--p95-ms", 50, capsys=capsys)[0] == 1


def test_what_is_slow_now_and_then_does_not_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stall of 2.5 s in every 20 is in few blocks, and in one request of eight."""
    quick, stalling = samples(tmp_path / "quick.csv", 20), tmp_path / "stalling.csv"
    head, *rows = quick.read_text().splitlines()
    slow = []
    for row in rows:
        at, latency, status = row.split(",")
        slow.append(f"{at},{float(latency) + 200 * (float(at) % 20 < 2.5):.3f},{status}")
    stalling.write_text("\n".join([head, *slow]) + "\n")
    code, said, _ = gate("--samples", stalling, "--against-samples", quick, "--json", capsys=capsys)
    assert code == 3
    (reason,) = (
        check.reason
        for check in msgspec.json.decode(said, type=Verdict).checks
        if check.name == "p95_ratio"
    )
    assert "P95 over all requests is" in reason
    assert "now and then it is slow on its own" in reason
