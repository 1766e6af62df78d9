"""gRPC's load, against gRPC's own server that keeps count."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from benchmarks.harness import calls
from benchmarks.harness.calls import CallError
from benchmarks.harness.protocols import body_of, probabilities_of
from headgate.serving.grpc.messages import message

PATH = "/inference.GRPCInferenceService/ModelInfer"
BODIES = [b"first", b"second" * 100, b"third" * 3000]


class Counting(grpc.GenericRpcHandler):
    """Gives back what it gets, and fails every so many."""

    def __init__(self, fail_every):
        self.fail_every = fail_every
        self.seen = []
        self.lock = threading.Lock()

    def service(self, details):
        assert details.method == PATH
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request, context):
        with self.lock:
            self.seen.append(request)
            wrong = self.fail_every and len(self.seen) % self.fail_every == 0
        if wrong:
            context.abort(grpc.StatusCode.INTERNAL, "no")
        return request


@contextlib.contextmanager
def server(*, fail_every=0, **options):
    counting = Counting(fail_every)
    with ThreadPoolExecutor(8) as pool:
        serving = grpc.server(pool, handlers=(counting,), options=list(options.items()))
        port = serving.add_insecure_port("127.0.0.1:0")
        serving.start()
        try:
            yield port, counting.seen
        finally:
            serving.stop(None).wait(10)


@pytest.mark.parametrize("connections", [1, 5])
def test_what_is_measured_is_what_was_answered(connections):
    with server() as (port, seen):
        measured = calls.load(port, PATH, BODIES, connections=connections, seconds=0.3)
    assert measured.errors == 0
    assert measured.rps > 10
    assert 0 < measured.p50_ms <= measured.p95_ms <= measured.p99_ms
    assert set(seen) == set(BODIES)
    # Those that were under way at the end were not waited for.
    assert 0 <= len(seen) - round(measured.rps * 0.3) <= connections + 0.2 * len(seen)


def test_answers_that_are_errors_are_counted_as_such():
    with server(fail_every=3) as (port, seen):
        measured = calls.load(port, PATH, BODIES, connections=2, seconds=0.3)
    assert abs(measured.errors - len(seen) // 3) <= 2
    assert measured.errors > 0


def test_a_server_that_wants_its_clients_to_reconnect_is_obeyed():
    with server(**{"grpc.max_connection_age_ms": 100}) as (port, seen):
        measured = calls.load(port, PATH, BODIES[:1], connections=2, seconds=0.5)
    assert measured.errors == 0
    assert len(seen) > 10


def test_an_answer_is_given_back():
    with server() as (port, _):
        assert [calls.ask(port, PATH, body) for body in BODIES] == BODIES
    with server(fail_every=1) as (port, _), pytest.raises(CallError, match="refused"):
        calls.ask(port, PATH, b"x")


def test_rows_are_asked_for_raw_and_told_raw_or_typed():
    rows = np.arange(60, dtype=np.float32).reshape(2, 30)
    asked = message("inference.ModelInferRequest").FromString(body_of("calls", rows))
    assert asked.raw_input_contents[0] == rows.tobytes()
    assert asked.inputs[0].shape == [2, 30]
    told = message("inference.ModelInferResponse")()
    told.outputs.add(name="label", datatype="INT64", shape=[1])
    told.outputs.add(name="probabilities", datatype="FP32", shape=[1, 2])
    typed = message("inference.ModelInferResponse")()
    typed.CopyFrom(told)
    typed.outputs[0].contents.int64_contents.append(1)
    typed.outputs[1].contents.fp32_contents.extend([0.25, 0.75])
    told.raw_output_contents.append(np.int64(1).tobytes())
    told.raw_output_contents.append(np.float32([0.25, 0.75]).tobytes())
    for answer in (told, typed):
        found = probabilities_of("calls", answer.SerializeToString())
        assert found.tolist() == [[0.25, 0.75]]
