"""What the generator makes of all sorts of servers. One Locust asks them all."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gate.loads import PROFILE, asked, sent, subject, write
from gate.makers import outcomes
from gate.server import Server, predict, right, serving

from headgate.gate.load import Load
from headgate.gate.plan import Ask, Block, Seen, Target
from headgate.records import Outcome, Samples

PASS, FAIL = Outcome.PASS, Outcome.FAIL
ANY_LATENESS = 1e6
"""Milliseconds: what these tests hold is not how busy the machine is."""
CLOCK_S = 0.01
"""By how much a timer may ring early."""
# It waits less than ten seconds for an answer, has fewer connections, its wall clock jumps to and fro, and it tells how much
# garbage a block has left: with the collector off, that would pile up in a long one.
LOCUSTFILE = """
import gc, itertools, json, time
import gevent
from pathlib import Path
from headgate.gate import generator
generator.TIMEOUT_S = 5.0
real, hours = time.time, itertools.cycle((0, 7200, -7200))
time.time = lambda: real() + next(hours)
class Watched(generator.PlannedLoad):
    concurrency = 200
    def carry_out(self, block):
        gc.collect()
        seen = super().carry_out(block)
        with Path({told!r}).open("a") as told:
            told.write(json.dumps([len(seen.ask), gc.collect(), gc.isenabled()]) + "\\n")
        return seen
    def send(self, place):
        if not self.target.url.endswith("/stubborn"):
            return super().send(place)
        gevent.sleep(6.5)  # when it should have been given up and another block is under way
        self.status[place] = 299
PlannedLoad = Watched
del Watched
"""


def one_wrong(rows: list[dict[str, Any]]) -> tuple[int, bytes]:
    status, answer = right(rows)
    if rows[0]["wind"] == 17:
        (said,) = [predict(row) for row in rows]
        said["probabilities"][0] += 0.001
        answer = json.dumps({"predictions": [said]}).encode()
    return status, answer


def failing(rows: list[dict[str, Any]]) -> tuple[int, bytes]:
    status, answer = right(rows)
    match rows[0]["wind"]:
        case None:
            return 200, b"<html>It works!</html>"
        case wind if wind % 4 == 1:
            return 200, answer.replace(b"r:1", b"r:2")
        case wind if wind % 4 == 2:
            return 500, b'{"error": "out of memory", "where": "m"}'
    return status, answer


def certificate(folder: Path) -> Path:
    """Signed by nobody that anybody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "staging.example")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    path = folder / "tls.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@dataclass
class Bench:
    """Servers, and a generator that knows them all."""

    told: Path
    servers: dict[str, Server] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    load: Load | None = None

    def index(self, name: str) -> int:
        return list(self.servers).index(name)

    def url(self, name: str) -> str:
        return self.servers[name].url + self.paths.get(name, "")

    def samples(self, name: str, seconds: float = 0.8, rate: float = 125) -> Samples:
        assert self.load is not None
        return sent(self.load, self.index(name), subject(self.url(name), rate=rate), seconds)

    def send(self, name: str, **how: Any) -> Seen:
        assert self.load is not None
        return self.load.send(Block(target=self.index(name), **how))

    def garbage(self) -> tuple[int, int, bool]:
        """Of the last block: how many requests, how many objects, and whether it was collected."""
        requests, objects, collected = json.loads(self.told.read_text().splitlines()[-1])
        return requests, objects, collected


def servers(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        "fast": {},
        "stalling": {"stalls_at": 40, "stall_s": 1.0},
        "slow": {"delay_s": 0.3},
        "wrong": {"answer": one_wrong},
        "failing": {"answer": failing},
        "dying": {"dies_after": 80},
        "cut": {"cut": True},
        "silent": {"silent": True},
        "closing": {"idle_s": 0.1},
        "tls": {"tls": certificate(folder)},
        "elsewhere": {"answer": lambda _: (307, b""), "said": {"location": "/v1/other"}},
        "latin": {"answer": lambda _: (500, "Größe".encode("latin-1"))},
        "odd": {"said": {"content-encoding": "zstd"}},
        "cookies": {"said": {"set-cookie": "replica=2; Path=/"}},
        "below": {},
        "stubborn": {},
        "foreign": {"raw": b"SSH-2.0-OpenSSH_9.6\r\n"},
    }


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    bench = Bench(folder / "told.jsonl", paths={"below": "/some/where", "stubborn": "/stubborn"})
    with contextlib.ExitStack() as stack:
        for name, how in servers(folder).items():
            bench.servers[name] = stack.enter_context(serving(**how))
        taken = stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))  # and does not listen
        bench.servers["nobody"] = Server(url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        if has_ipv6():
            bench.servers["six"] = stack.enter_context(serving(host="::1"))
        asks = asked().asks
        targets = [
            Target(url=bench.url(name), asks=asks, headers=(("X-Key", "sesame"),))
            for name in bench.servers
        ]
        locustfile = write(folder, LOCUSTFILE.format(told=str(bench.told)))
        bench.load = stack.enter_context(
            Load(targets, workdir=folder / "run", locustfile=locustfile)
        )
        yield bench


def test_a_fast_server(bench: Bench) -> None:
    samples = bench.samples("fast")
    assert len(bench.servers["fast"].seen) == 100
    assert samples.ok.all()
    assert samples.matched.all()
    assert samples.errors == {}
    assert (np.diff(samples.intended_s) >= 0).all()
    assert 0 <= samples.intended_s.min() <= samples.intended_s.max() < 0.8
    assert (samples.sent_s >= samples.intended_s - CLOCK_S).all()
    assert (samples.latency_s > samples.sent_s - samples.intended_s).all()
    assert samples.latency_s.max() < 60  # no jump of the wall clock is in it
    assert ("x-key", "sesame") in bench.servers["fast"].headers
    assert ("content-type", "application/json") in bench.servers["fast"].headers


def test_latency_counts_from_the_intended_moment(bench: Bench) -> None:
    """One pause of a second. A generator that waits for answers would see one slow request."""
    samples = bench.samples("stalling", 1.8, 100)
    seen = bench.servers["stalling"].seen
    assert samples.ok.all()
    # About a hundred were meant to go in that second, and half of them waited over half of it.
    assert 25 <= (samples.latency_s > 0.5).sum() <= 125
    assert samples.latency_s.max() >= 0.9
    # They were sent during the pause, not after it.
    arrived = np.array(seen) - seen[39]
    assert ((arrived > 0) & (arrived < 0.9)).sum() >= 30
    assert outcomes(samples, profile=PROFILE)["p95"] is not PASS


def test_a_slow_server_is_asked_no_less(bench: Bench) -> None:
    samples = bench.samples("slow")
    assert samples.ok.all()
    assert (samples.latency_s >= 0.3 - CLOCK_S).all()
    assert len(bench.servers["slow"].seen) == 100
    assert outcomes(samples, profile=PROFILE, lateness_ms=ANY_LATENESS)["p95"] is FAIL


def test_a_wrong_server(bench: Bench) -> None:
    samples = bench.samples("wrong")
    assert samples.ok.all()
    assert 1 <= (~samples.matched).sum() <= 3
    assert outcomes(samples, profile=PROFILE)["parity"] is FAIL


def test_errors_in_words(bench: Bench) -> None:
    samples = bench.samples("failing")
    assert set(samples.errors) == {
        "HTTP 200 without the model's predictions",
        "answered by r:2, not by r:1",
        "HTTP 500 (m: out of memory)",
    }
    assert all(count >= 4 for count in samples.errors.values())
    assert sum(samples.errors.values()) == (~samples.ok).sum()
    assert (samples.ok == samples.matched).all()
    assert samples.ok.sum() >= 20
    assert np.isfinite(samples.latency_s).all()  # an error is an answer
    assert outcomes(samples, profile=PROFILE)["error_rate"] is FAIL


def test_a_server_that_dies_in_the_middle(bench: Bench) -> None:
    samples = bench.samples("dying")
    assert 1 <= samples.ok.sum() <= 80
    assert samples.matched.sum() == samples.ok.sum()
    assert np.isinf(samples.latency_s[~samples.ok]).all()
    assert np.isfinite(samples.sent_s).all()
    assert "connection refused" in samples.errors
    assert sum(samples.errors.values()) == (~samples.ok).sum()
    assert outcomes(samples, profile=PROFILE)["error_rate"] is FAIL


def test_half_an_answer_is_none(bench: Bench) -> None:
    samples = bench.samples("cut")
    assert not samples.ok.any()
    assert np.isinf(samples.latency_s).all()
    assert sum(samples.errors.values()) == 100
    assert not [cause for cause in samples.errors if cause.startswith("HTTP") or not cause]


def test_an_answer_that_does_not_come(bench: Bench) -> None:
    """To more than there are connections for: all of those are free again afterwards."""
    samples = bench.samples("silent", 0.5, 500)
    assert samples.errors == {"no answer in time": 250}
    assert np.isinf(samples.latency_s).all()
    assert len(bench.servers["silent"].seen) >= 200
    bench.servers["silent"].silent = False
    bench.servers["silent"].seen.clear()
    samples = bench.samples("silent")
    assert samples.ok.all()
    assert len(bench.servers["silent"].seen) == 100


def test_nobody_listens(bench: Bench) -> None:
    samples = bench.samples("nobody")
    assert samples.errors == {"connection refused": 100}
    assert np.isfinite(samples.sent_s).all()


@pytest.mark.parametrize("name", ["fast", "failing", "nobody", "cut"])
def test_no_block_leaves_garbage_for_the_next_hour(name: str, bench: Bench) -> None:
    """The collector is off while a block is sent."""
    bench.samples(name)
    requests, objects, collected = bench.garbage()
    assert requests == 100
    assert objects < requests
    assert not collected


def test_connections_that_the_server_has_closed_meanwhile(bench: Bench) -> None:
    """As those to one side are while the other has its turn."""
    first = bench.samples("closing")
    connections = len(bench.servers["closing"].connections)
    bench.samples("slow")
    second = bench.samples("closing")
    assert len(bench.servers["closing"].connections) > connections
    assert second.errors == first.errors == {}
    assert len(bench.servers["closing"].seen) == 200


def test_a_server_with_tls(bench: Bench) -> None:
    samples = bench.samples("tls")
    assert bench.servers["tls"].url.startswith("https://")
    assert samples.errors == {}
    assert samples.ok.all()


def test_a_server_at_an_address_of_version_6(bench: Bench) -> None:
    if "six" not in bench.servers:
        pytest.skip("nothing can listen at ::1 here")
    samples = bench.samples("six")
    assert samples.errors == {}
    host = bench.servers["six"].url.removeprefix("http://")
    assert ("host", host) in bench.servers["six"].headers


def test_a_url_with_a_path(bench: Bench) -> None:
    samples = bench.samples("below")
    assert samples.errors == {}
    assert bench.servers["below"].paths == {"/some/where/v1/models/m:predict"}


def test_nobody_is_sent_elsewhere(bench: Bench) -> None:
    samples = bench.samples("elsewhere")
    assert samples.errors == {"HTTP 307": 100}
    assert np.isfinite(samples.latency_s).all()
    assert bench.servers["elsewhere"].paths == {"/v1/models/m:predict"}
    assert len(bench.servers["elsewhere"].seen) == 100


def test_an_error_that_is_no_text(bench: Bench) -> None:
    samples = bench.samples("latin")
    assert samples.errors == {"HTTP 500": 100}
    assert np.isfinite(samples.latency_s).all()


def test_an_encoding_that_nobody_asked_for(bench: Bench) -> None:
    samples = bench.samples("odd")
    ((cause, count),) = samples.errors.items()
    assert "zstd" in cause
    assert count == 100
    # Nor does it end the connection of a closed loop.
    seen = bench.send("odd", order=(0,), seconds=0.3, connections=1)
    assert len(seen.ask) > 2


def test_a_server_that_speaks_something_else(bench: Bench) -> None:
    samples = bench.samples("foreign")
    ((cause, count),) = samples.errors.items()
    assert cause.startswith("Expected HTTP/")
    assert cause.isprintable()
    assert not set(cause) & set("()'")
    assert count == 100
    assert np.isinf(samples.latency_s).all()


def test_requests_share_no_cookies(bench: Bench) -> None:
    bench.samples("cookies")
    assert "cookie" not in {name for name, _ in bench.servers["cookies"].headers}


def test_a_closed_loop(bench: Bench) -> None:
    """Four connections and 0.3 s an answer: in 0.7 s each sends three requests at most."""
    order = tuple(range(len(asked().asks)))
    already = len(bench.servers["slow"].seen)
    seen = bench.send("slow", order=order, seconds=0.7, connections=4)
    assert 4 <= len(seen.ask) <= 12
    assert seen.ask == order[: len(seen.ask)]
    assert len(bench.servers["slow"].seen) - already == len(seen.ask)
    assert seen.at_s == seen.sent_s
    assert max(seen.sent_s) < 0.7
    assert (np.array(seen.done_s) - np.array(seen.sent_s) >= 0.3 - CLOCK_S).all()
    assert set(seen.status) == {200}
    assert seen.cpu > 0


def test_what_is_late_in_one_block_is_not_in_the_next(bench: Bench) -> None:
    """Whatever outlives its block is given up, and writes nothing into another."""
    first = bench.send("stubborn", order=(0,) * 20, at_s=(0.0,) * 20, seconds=0.1)
    second = bench.send("fast", order=(1,) * 20, at_s=(0.0,) * 20, seconds=1.0)
    assert first.done_s == (math.inf,) * 20
    assert first.status == (0,) * 20
    assert {first.answers[answer] for answer in first.answer} == {b"no answer in time"}
    assert second.ask == (1,) * 20
    assert second.status == (200,) * 20
    assert np.isfinite(second.done_s).all()


def test_blocks_of_nothing(bench: Bench) -> None:
    for how in ({"at_s": ()}, {"connections": 0}):
        seen = bench.send("fast", order=(), seconds=0.05, **how)
        assert seen.ask == seen.at_s == seen.sent_s == seen.done_s == seen.status == ()


def test_requests_of_one_moment(bench: Bench) -> None:
    """As many as come, each in a greenlet of its own and none lost."""
    asks = tuple(range(64)) * 4
    already = len(bench.servers["fast"].seen)
    seen = bench.send("fast", order=asks, at_s=(0.0,) * 256, seconds=0.1)
    assert seen.ask == asks
    assert set(seen.status) == {200}
    assert len(bench.servers["fast"].seen) - already == 256
    for place, ask in enumerate(asks):
        answer = json.loads(seen.answers[seen.answer[place]])
        assert answer["predictions"] == [predict(known_row(ask))]


def known_row(ask: int) -> dict[str, Any]:
    one: Ask = asked().asks[ask]
    (row,) = json.loads(one.body)["instances"]
    return dict(row)
