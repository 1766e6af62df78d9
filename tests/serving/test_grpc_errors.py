"""What is wrong with a call is said by gRPC's statuses, in the words of the other surfaces."""

from __future__ import annotations

import contextlib
import queue
import time
import warnings

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from serving.asgi import make_root, metric, serving_app
from serving.grpc_server import SERVICE, channel, grpc_server, refusal, request, row, unary
from serving.h2_client import INFER, connected
from serving.held import CALL_S, Held
from serving.refusals import MAX_BYTES, MAX_ROWS, OIP, strict_root
from serving.tiny import until

from headgate.errors import (
    DeadlineExceededError,
    HeadgateError,
    InputError,
    OverloadError,
    ServingError,
    UnknownModelError,
)
from headgate.predictor import Predictor
from headgate.serving.grpc import streaming
from headgate.serving.grpc.frames import ErrorCode
from headgate.serving.grpc.framing import prefixed
from headgate.serving.grpc.headers import outcome
from headgate.serving.grpc.status import Status, StoppingError, ending, status_of
from headgate.serving.http import TooLargeError
from headgate.serving.job import ClientGoneError, QueueFullError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tritonclient import grpc as triton


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = strict_root(tmp_path_factory.mktemp("strict"))
    with grpc_server(root, server=f"max_body_mb = {MAX_BYTES / 2**20}") as served:
        yield served


@pytest.fixture(scope="module")
def opened(served):
    with channel(served.address, **{"grpc.max_send_message_length": -1}) as opened:
        yield opened


def without(index):
    asked = row()
    del asked.inputs[index]
    return asked


def changed(index, **fields):
    asked = row()
    for name, value in fields.items():
        if name == "shape":
            asked.inputs[index].shape[:] = value
        elif name == "contents":
            asked.inputs[index].ClearField("contents")
            for field, values in value.items():
                getattr(asked.inputs[index].contents, field).extend(values)
        else:
            setattr(asked.inputs[index], name, value)
    return asked


def twice():
    asked = row()
    asked.inputs.append(asked.inputs[1])
    return asked


def raw(*contents, typed=False):
    asked = row(raw_input_contents=contents)
    for tensor in asked.inputs:
        if not typed:
            tensor.ClearField("contents")
    return asked


GOOD = (b"\x02\0\0\0UA", np.int64(1000).tobytes(), np.float64(5.5).tobytes())
BAD = {
    "no model": (request("nobody"), "NOT_FOUND", "model_name: no model 'nobody' — served here:"),
    "no name": (request(""), "NOT_FOUND", "no model ''"),
    "no version": (row(model_version="9"), "NOT_FOUND", "model_version: no version '9' of late-"),
    "nothing": (request(), "", "inputs: input 'carrier' is missing — send a tensor of BYTES"),
    "an input less": (
        without(1),
        "",
        "inputs: input 'distance' is missing — send a tensor of INT64",
    ),
    "an input twice": (twice(), "", "inputs[3]: input 'distance' is there twice — send it once"),
    "another input": (changed(0, name="gate"), "", "inputs[0].name: input 'gate' is unknown"),
    "a datatype": (changed(2, datatype="FP33"), "", "inputs[2].datatype: 'FP33' is not what it"),
    "a float": (changed(1, datatype="FP64"), "", "inputs[1].datatype: 'FP64' is not what it takes"),
    "a shape": (changed(2, shape=[1, 2]), "", "inputs[2].shape: [1,2] is not its shape"),
    "no shape": (changed(2, shape=[]), "", "inputs[2].shape: [] is not its shape — send [rows]"),
    "less than none": (changed(2, shape=[-1]), "", "inputs[2].shape: [-1] is not its shape"),
    "another length": (
        changed(2, shape=[2]),
        "",
        "inputs[2].contents.fp64_contents: 1 values for FP64 of shape [2] — send 2",
    ),
    "another field": (
        changed(2, contents={"fp32_contents": [1.0]}),
        "",
        "inputs[2].contents.fp64_contents: 0 values for FP64 of shape [1] — send 1",
    ),
    "no numbers of half": (
        changed(2, datatype="FP16", contents={}),
        "",
        "inputs[2].contents: FP16 has no typed contents — send raw_input_contents",
    ),
    "a number too large for its datatype": (
        changed(2, datatype="INT8", contents={"int_contents": [300]}),
        "",
        "inputs[2].contents.int_contents[0]: 300 is no INT8 — send an integer from -128 to 127",
    ),
    "infinity": (
        changed(2, contents={"fp64_contents": [np.inf]}),
        "",
        "inputs[2].contents.fp64_contents[0]: inf is not a finite number",
    ),
    "no text": (
        changed(0, contents={"bytes_contents": [b"\xff\xfe"]}),
        "",
        r"inputs[0].contents.bytes_contents[0]: b'\xff\xfe' is no UTF-8 — send valid UTF-8",
    ),
    "raw of another length": (
        raw(GOOD[0], GOOD[1][:7], GOOD[2]),
        "",
        "raw_input_contents[1]: 7 bytes for INT64 of shape [1] — send 8 bytes",
    ),
    "raw text past its end": (
        raw(b"\xff\xff\xff\xff", *GOOD[1:]),
        "",
        "raw_input_contents[0]: element 0",
    ),
    "raw that is no text": (
        raw(b"\x01\0\0\0\xff", *GOOD[1:]),
        "",
        r"raw_input_contents[0][0]: b'\xff' is no UTF-8",
    ),
    "raw for too few": (raw(*GOOD[:2]), "", "raw_input_contents: 2 raw contents for 3 inputs"),
    "raw and typed": (
        raw(*GOOD, typed=True),
        "",
        "inputs[0].contents: contents beside raw contents",
    ),
    "an output": (row(outputs=[{"name": "nope"}]), "", "outputs[0].name: output 'nope' is unknown"),
    "an output twice": (
        row(outputs=[{"name": "label"}] * 2),
        "",
        "outputs[1].name: output 'label' is there twice — ask for it once",
    ),
    "classes": (
        row(outputs=[{"name": "label", "parameters": {"classification": {"int64_param": 2}}}]),
        "",
        "outputs[0].parameters: classification is not offered",
    ),
    "rows without end": (changed(2, shape=[2**62]), "", f"body: {2**62} rows — send at most 50"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request(opened, what):
    asked, status, says = BAD[what]
    infer = unary(opened, "ModelInfer")
    good = infer.future(row())
    found = refusal(opened, asked)
    assert found[0].name == (status or "INVALID_ARGUMENT")
    assert says in found[1]
    assert len(found[1]) < 1000
    assert good.result(10) == infer(row())


def test_raw_that_is_right_is_answered(opened):
    typed, sent = unary(opened, "ModelInfer")(row()), unary(opened, "ModelInfer")(raw(*GOOD))
    assert (
        sent.raw_output_contents[1] == np.float32(typed.outputs[1].contents.fp32_contents).tobytes()
    )


def test_what_shared_memory_holds_is_not_guessed(opened):
    asked = raw()
    for tensor in asked.inputs:
        tensor.parameters["shared_memory_region"].string_param = "r"
    assert refusal(opened, asked)[1].startswith("inputs[0]: shared memory is not read here")


def test_too_many_rows_are_refused(opened):
    rows = MAX_ROWS + 1
    asked = request("breast-cancer")
    tensor = asked.inputs.add(name="x", datatype="FP32", shape=[rows, 30])
    tensor.contents.fp32_contents.extend([0.0] * 30 * rows)
    status, says = refusal(opened, asked)
    assert (status, says) == (
        StatusCode.INVALID_ARGUMENT,
        f"body: {rows} rows — send at most {MAX_ROWS} rows at a time",
    )


def test_the_words_are_those_of_rest(opened, tmp_path):
    """The same mistake, the same sentence: the checks are the same."""
    wrong = {"name": "wind", "datatype": "FP99", "shape": [1], "data": [1]}
    with serving_app(strict_root(tmp_path)) as asked:
        said = asked.post(OIP, json={"inputs": [wrong]}).json()["error"]
    found = refusal(opened, request(inputs=[{"name": "wind", "datatype": "FP99", "shape": [1]}]))
    assert found[1] == said


def test_a_message_over_the_limit_is_refused_and_the_next_one_answered(opened):
    asked = row(id="x" * MAX_BYTES)
    status, says = refusal(opened, asked)
    assert status == StatusCode.RESOURCE_EXHAUSTED
    assert f"send at most {MAX_BYTES} bytes, or raise server.max_body_mb" in says
    assert unary(opened, "ModelInfer")(row(id="x" * (MAX_BYTES // 2))).id


def test_a_message_that_unfolds_beyond_the_limit_is_refused(opened):
    asked = row(id="x" * 20 * MAX_BYTES)
    status, says = refusal(opened, asked, compression=grpc.Compression.Gzip)
    assert status == StatusCode.RESOURCE_EXHAUSTED
    assert "decompressed" in says


def test_what_is_no_message_is_refused(opened):
    send = opened.unary_unary(f"/{SERVICE}/ModelInfer")
    for content in (b"\x0a\xff", b"\xff" * 100, b"\x0a\x02\xff\xff", b"\x0a"):
        with pytest.raises(grpc.RpcError) as caught:
            send(content, timeout=10)
        assert caught.value.code() == StatusCode.INVALID_ARGUMENT
        assert f"{len(content)} bytes are no ModelInferRequest" in caught.value.details()


@pytest.mark.parametrize(
    "path", [f"/{SERVICE}/Nothing", "/nobody.Service/ModelInfer", f"/{SERVICE}/", "/x"]
)
def test_a_method_that_there_is_not(opened, path):
    with pytest.raises(grpc.RpcError) as caught:
        opened.unary_unary(path)(b"", timeout=10)
    assert caught.value.code() == StatusCode.UNIMPLEMENTED
    assert path in caught.value.details()


@contextlib.contextmanager
def held_server(root, monkeypatch, serving=""):
    """A server whose engine a test can hold, and who holds it."""
    held = Held()
    predict = Predictor.predict

    def instead(predictor, batch):
        held.calls.append(len(next(iter(batch.values()))))
        time.sleep(CALL_S)
        held.go.wait(20)
        return held.spoil(batch, predict(predictor, batch))

    monkeypatch.setattr(Predictor, "predict", instead)
    with grpc_server(make_root(root, serving=serving)) as served:
        held.calls.clear()
        yield served, held


def shed(served, cause):
    served.run(served.worker.flush)
    return metric("headgate_shed_total", model="late-flights", cause=cause)


def test_a_deadline_of_the_clients_is_kept_by_the_server(tmp_path, monkeypatch):
    with (
        held_server(tmp_path, monkeypatch) as (served, held),
        connected(served.port) as client,
        held.back(),
    ):
        began = time.monotonic()
        told = client.call(INFER, row().SerializeToString(), grpc_timeout="200m")
        assert 0.15 < time.monotonic() - began < 2
        assert told.status == StatusCode.DEADLINE_EXCEEDED.value[0]
        assert "ms after it was read — send fewer rows, or allow more time" in told.text
        assert "X-Headgate" not in told.text
        assert shed(served, "deadline") == 1


def test_without_one_the_models_own_counts(tmp_path, monkeypatch):
    with (
        held_server(tmp_path, monkeypatch) as (served, held),
        channel(served.address) as opened,
    ):
        with held.back():
            model = served.worker.models["late-flights"]
            model.deadline_s = 0.2
            assert refusal(opened, row())[0] == StatusCode.DEADLINE_EXCEEDED
        model.deadline_s = 10.0
        assert unary(opened, "ModelInfer")(row(), timeout=10).model_name == "late-flights"


def test_what_cannot_be_in_time_is_refused_at_once(tmp_path, monkeypatch):
    with (
        held_server(tmp_path, monkeypatch) as (served, held),
        channel(served.address) as opened,
        connected(served.port) as client,
        held.back(),
    ):
        batcher = served.worker.models["late-flights"].batcher
        first = unary(opened, "ModelInfer").future(row())
        until(lambda: batcher.busy_s > 0.05, 10)
        served.run(lambda: [batcher.cost.learn(1, 30.0) for _ in range(20)])
        told = client.call(INFER, row().SerializeToString(), grpc_timeout="1S")
        assert told.status == StatusCode.UNAVAILABLE.value[0]
        assert "with a later deadline" in told.text
        assert int(told.headers["grpc-retry-pushback-ms"]) > 0
        held.go.set()
        assert first.result(10).model_name == "late-flights"


def test_a_full_queue_is_told(tmp_path, monkeypatch):
    with (
        held_server(tmp_path, monkeypatch, "max_queue_rows = 2\n") as (served, held),
        channel(served.address) as opened,
    ):
        infer = unary(opened, "ModelInfer")
        infer(row())
        batcher = served.worker.models["late-flights"].batcher
        with held.back():
            calls = [infer.future(row())]
            until(lambda: batcher.busy_s > 0, 10)
            calls += [infer.future(row()) for _ in range(2)]
            until(lambda: batcher.queued_rows == 2, 10)
            status, says = refusal(opened, row())
        assert status == StatusCode.RESOURCE_EXHAUSTED
        assert "2 rows wait already, 2 may" in says
        assert [call.result(10).model_name for call in calls] == ["late-flights"] * 3
        assert shed(served, "queue_full") == 1


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_a_client_that_is_gone_frees_its_rows(tmp_path, monkeypatch, how):
    with held_server(tmp_path, monkeypatch) as (served, held), channel(served.address) as opened:
        infer = unary(opened, "ModelInfer")
        infer(row())
        batcher = served.worker.models["late-flights"].batcher
        held.calls.clear()
        with held.back():
            first = infer.future(row())
            until(lambda: batcher.busy_s > 0, 10)
            with channel(served.address) as other:
                gone = [unary(other, "ModelInfer").future(row()) for _ in range(3)]
                until(lambda: batcher.queued_rows == 3, 10)
                if how == "cancelled":
                    for call in gone:
                        call.cancel()
                else:
                    other.close()
                until(lambda: batcher.queued_rows == 0, 10)
        assert first.result(10).model_name == "late-flights"
        assert held.calls == [1]
        served.run(served.worker.flush)
        name = "headgate_requests_total"
        assert metric(name, surface="grpc", model="late-flights", outcome="gone") == 3


@pytest.mark.parametrize(("idle_s", "drain_s"), [(0.0, 20), (1e9, 0.01)], ids=["idle", "busy"])
def test_a_stream_gets_what_it_is_owed_before_a_server_that_stops_ends_it(
    tmp_path, monkeypatch, idle_s, drain_s
):
    """One on which nothing comes soon, one on which more and more comes in time."""
    with (
        held_server(tmp_path, monkeypatch) as (served, held),
        connected(served.port) as client,
    ):
        stream = client.begin(f"/{SERVICE}/ModelStreamInfer")
        monkeypatch.setattr(streaming, "_IDLE_S", idle_s)
        with held.back():
            client.send(stream, prefixed(row(id="owed").SerializeToString()), end=False)
            until(lambda: served.worker.models["late-flights"].batcher.busy_s > 0, 10)
            served.run(lambda: served.server.stop(refusing=False, drain_s=drain_s))
            until(lambda: served.server._leaving, 10)
            served.run(served.server.end_idle)
        client.until(lambda: b"owed" in client.told[stream].data)
        until(lambda: served.run(served.server.end_idle) or client_ended(client, stream), 10)
        assert client.told[stream].status == StatusCode.UNAVAILABLE.value[0]


def client_ended(client, stream):
    client.sock.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        client.read()
    return client.told[stream].ended


def test_an_unfit_server_has_its_calls_made_elsewhere(served):
    with connected(served.port) as client:
        under_way = client.begin(INFER)
        until(lambda: any(each.calls for each in served.server.connections), 5)
        served.run(lambda: [each.go_away(refusing=True) for each in served.server.connections])
        late = client.begin(INFER)
        client.until_ended(late)
        assert client.told[late].reset == ErrorCode.REFUSED_STREAM
        client.send(under_way, prefixed(row().SerializeToString()))
        assert client.until_ended(under_way).status == 0


def test_an_engine_that_fails_is_the_servers_fault(tmp_path, monkeypatch):
    with held_server(tmp_path, monkeypatch) as (served, held), channel(served.address) as opened:
        held.spoil = lambda batch, outputs: {}
        status, says = refusal(opened, row())
        assert status == StatusCode.INTERNAL
        assert says == "no outputs"
        held.spoil = lambda batch, outputs: outputs
        assert unary(opened, "ModelInfer")(row()).model_name == "late-flights"


def test_a_fault_of_ours_is_told_without_its_insides(served, opened, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr("headgate.serving.grpc.codec.rows_of", broken)
    status, says = refusal(opened, row())
    assert status == StatusCode.INTERNAL
    assert "a fault of this server" in says
    assert "secret" not in says
    monkeypatch.undo()
    assert unary(opened, "ModelInfer")(row()).model_name == "late-flights"


def test_the_deadline_of_a_stream_ends_it(served):
    with triton.InferenceServerClient(served.address) as client:
        ends = queue.Queue()
        client.start_stream(lambda result, error: ends.put(error), stream_timeout=0.3)
        assert "DEADLINE_EXCEEDED" in str(ends.get(timeout=10)).upper().replace(" ", "_")
        client.stop_stream(cancel_requests=True)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("x"), StatusCode.INVALID_ARGUMENT),
        (TooLargeError("x"), StatusCode.INVALID_ARGUMENT),
        (UnknownModelError("x"), StatusCode.NOT_FOUND),
        (QueueFullError("x"), StatusCode.RESOURCE_EXHAUSTED),
        (OverloadError("x"), StatusCode.UNAVAILABLE),
        (StoppingError("x"), StatusCode.UNAVAILABLE),
        (DeadlineExceededError("x"), StatusCode.DEADLINE_EXCEEDED),
        (ClientGoneError("x"), StatusCode.CANCELLED),
        (ServingError("x"), StatusCode.INTERNAL),
        (HeadgateError("x"), StatusCode.INTERNAL),
    ],
)
def test_the_status_of_an_error(error, status):
    assert status_of(error).value == status.value[0]
    assert status_of(error).name == status.name


def test_every_status_has_grpcs_own_number():
    assert {each.name: each.value for each in Status}.items() <= {
        code.name: code.value[0] for code in StatusCode
    }.items()


def test_a_text_is_sent_as_grpc_wants_it_and_no_longer_than_needed():
    assert len(ending(InputError("\N{MATHEMATICAL SCRIPT CAPITAL X}" * 5000))) < 8000
    assert outcome(3, "50 % — é\n").endswith(b"50 %25 %E2%80%94 %C3%A9%0A")
