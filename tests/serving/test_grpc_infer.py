"""Predictions over gRPC, asked for by clients that others wrote."""

from __future__ import annotations

import asyncio
import queue
import warnings

import grpc
import numpy as np
import pytest
from predictor.factory import forest, table_frame, table_pipeline
from serving.asgi import make_root, metric
from serving.echo import make_echoes
from serving.grpc_server import channel, grpc_server, refusal, request, row, unary
from serving.test_oip import EVERY

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tritonclient import grpc as triton
    from tritonclient.grpc import aio
    from tritonclient.utils import InferenceServerException

TABLE, TENSOR = "late-flights", "breast-cancer"
VALUES = {
    "bool": ("BOOL", [True, False]),
    "uint8": ("UINT8", [0, 255]),
    "int32": ("INT32", [-(2**31), 2**31 - 1]),
    "int64": ("INT64", [-(2**63), 2**63 - 1]),
    "float32": ("FP32", [1.5, 3]),
    "float64": ("FP64", [0.1, np.nan]),
    "string": ("BYTES", ["", "naïve ✈"]),
    "cube": ("INT32", np.arange(1, 13).reshape(2, 2, 1, 3)),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with grpc_server(make_root(tmp_path_factory.mktemp("grpc"))) as served:
        yield served


@pytest.fixture(scope="module")
def echo(tmp_path_factory, served):
    with grpc_server(make_echoes(tmp_path_factory.mktemp("echo"), {"echo": EVERY})) as echo:
        yield echo


@pytest.fixture(scope="module")
def opened(served):
    with channel(served.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(served):
    with triton.InferenceServerClient(served.address) as client:
        yield client


def tensor(name, datatype, values):
    array = np.array(values, dtype={"BYTES": object}.get(datatype, triton_type(datatype)))
    sent = triton.InferInput(name, list(array.shape), datatype)
    sent.set_data_from_numpy(array)
    return sent


def triton_type(datatype):
    from tritonclient.utils import triton_to_np_dtype

    return triton_to_np_dtype(datatype)


def table_inputs(frame):
    carrier = np.array(["" if c is None else c for c in frame["carrier"]], dtype=object)
    return [
        tensor("carrier", "BYTES", carrier),
        tensor("distance", "INT64", frame["distance"].to_numpy()),
        tensor("wind", "FP64", frame["wind"].to_numpy()),
    ]


def test_a_table_gets_the_answers_of_the_model_as_trained(client):
    frame, labels = table_frame()
    model = table_pipeline().fit(frame, labels)
    known = frame[frame["carrier"].notna()]
    told = client.infer(TABLE, table_inputs(known))
    assert [text.decode() for text in told.as_numpy("label")] == model.predict(known).tolist()
    assert np.allclose(told.as_numpy("probabilities"), model.predict_proba(known), atol=1e-5)


def test_a_tensor_gets_the_answers_of_the_model_as_trained(client):
    model, x, _ = forest()
    told = client.infer(TENSOR, [tensor("x", "FP32", x)])
    assert told.as_numpy("label").tolist() == model.predict(x).tolist()
    assert np.allclose(told.as_numpy("probabilities"), model.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("kind", ["raw", "typed"])
def test_every_datatype_comes_back_as_it_was_sent_and_in_the_same_form(echo, kind):
    asked = request("echo", id="é7")
    for name, (datatype, values) in VALUES.items():
        sent = tensor(name, datatype, values)
        asked.inputs.append(asked.inputs.add())
        del asked.inputs[-1]
        asked.inputs[-1].MergeFromString(sent._get_tensor().SerializeToString())
        if kind == "raw":
            asked.raw_input_contents.append(sent._get_content())
        else:
            fill(asked.inputs[-1].contents, datatype, values)
    with channel(echo.address) as opened:
        told = unary(opened, "ModelInfer")(asked)
    assert told.id == "é7"
    assert [output.name for output in told.outputs] == [f"{name}_out" for name in VALUES]
    for index, (name, (datatype, _)) in enumerate(VALUES.items()):
        output = told.outputs[index]
        assert (output.datatype, list(output.shape)) == (datatype, list(asked.inputs[index].shape))
        if kind == "raw":
            assert told.raw_output_contents[index] == asked.raw_input_contents[index], name
            assert not output.HasField("contents")
        else:
            assert str(output.contents) == str(asked.inputs[index].contents), name
    assert len(told.raw_output_contents) == (len(VALUES) if kind == "raw" else 0)


FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def fill(contents, datatype, values):
    flat = np.ravel(np.array(values, dtype=object)).tolist()
    if datatype == "BYTES":
        flat = [text.encode() for text in flat]
    getattr(contents, FIELDS[datatype]).extend(flat)


@pytest.mark.parametrize(
    ("datatype", "field"),
    [
        ("INT8", "int_contents"),
        ("INT16", "int_contents"),
        ("UINT16", "uint_contents"),
        ("UINT32", "uint_contents"),
        ("UINT64", "uint64_contents"),
        ("FP32", "fp32_contents"),
    ],
)
def test_any_number_is_fine_where_a_float_is_wanted(opened, datatype, field):
    asked = row()
    wind = asked.inputs[2]
    wind.datatype = datatype
    wind.ClearField("contents")
    getattr(wind.contents, field).append(5)
    expected = row()
    expected.inputs[2].contents.fp64_contents[:] = [5.0]
    infer = unary(opened, "ModelInfer")
    assert infer(asked) == infer(expected)


def test_the_request_names_the_outputs_it_wants_and_their_order(client):
    _, x, _ = forest()
    wanted = [triton.InferRequestedOutput(name) for name in ("probabilities", "label")]
    told = client.infer(TENSOR, [tensor("x", "FP32", x[:2])], outputs=wanted).get_response()
    assert [output.name for output in told.outputs] == ["probabilities", "label"]
    assert [len(data) for data in told.raw_output_contents] == [16, 16]
    one = client.infer(TENSOR, [tensor("x", "FP32", x[:2])], outputs=wanted[1:])
    assert one.as_numpy("probabilities") is None
    assert one.as_numpy("label").shape == (2,)


def test_an_answer_names_the_request_the_model_its_version_and_the_release(opened):
    told, call = unary(opened, "ModelInfer").with_call(row(id="seven", model_version="1"))
    assert (told.id, told.model_name, told.model_version) == ("seven", TABLE, "1")
    assert told.parameters["release"].string_param == "r:1"
    said = dict(call.initial_metadata())
    assert said["x-headgate-model-version"] == "1"
    assert said["x-headgate-release"] == "r:1"


def test_a_refusal_names_them_too(opened):
    with pytest.raises(grpc.RpcError) as caught:
        unary(opened, "ModelInfer")(row(outputs=[{"name": "nope"}]))
    said = dict(caught.value.initial_metadata() or caught.value.trailing_metadata())
    assert said["x-headgate-release"] == "r:1"


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_a_request_may_be_compressed(client, compression):
    _, x, _ = forest()
    plain = client.infer(TENSOR, [tensor("x", "FP32", x)]).as_numpy("probabilities")
    told = client.infer(TENSOR, [tensor("x", "FP32", x)], compression_algorithm=compression)
    assert (told.as_numpy("probabilities") == plain).all()


def test_a_large_request_and_its_answer_pass_whatever_the_windows(served):
    _, x, _ = forest()
    rows = np.tile(x, (17, 1))[:9000]
    with channel(served.address, **{"grpc.http2.lookahead_bytes": 1024}) as opened:
        infer = unary(opened, "ModelInfer")
        tensors = [{"name": "x", "datatype": "FP32", "shape": rows.shape}]
        asked = request(TENSOR, inputs=tensors, raw_input_contents=[rows.tobytes()])
        for _ in range(2):
            told = infer(asked, timeout=20)
            found = np.frombuffer(told.raw_output_contents[1], "<f4").reshape(-1, 2)
            assert np.array_equal(found[: len(x)], found[len(x) : 2 * len(x)])
            assert found.shape == (9000, 2)


def test_requests_of_many_clients_at_once_get_their_own_answers(served):
    model, x, _ = forest()
    expected = model.predict_proba(x).astype(np.float32)

    async def ask():
        async with aio.InferenceServerClient(served.address) as client:

            async def one(index):
                told = await client.infer(
                    TENSOR, [tensor("x", "FP32", x[index : index + 1])], request_id=str(index)
                )
                assert told.get_response().id == str(index)
                assert np.allclose(told.as_numpy("probabilities")[0], expected[index], atol=1e-5)

            await asyncio.gather(*(one(index) for index in range(300)))

    asyncio.run(ask())


def test_a_stream_answers_in_order_and_a_bad_message_fails_alone(client):
    _, x, _ = forest()
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        for index in range(200):
            name = "nobody" if index == 50 else TENSOR
            client.async_stream_infer(
                name,
                [tensor("x", "FP32", x[index : index + 1])],
                request_id=str(index),
                enable_empty_final_response=True,
            )
        for index in range(200):
            result, error = answers.get(timeout=10)
            if index == 50:
                assert error.message() == "model_name: no model 'nobody' — " + SERVED
                continue
            assert error is None
            told = result.get_response()
            assert told.id == str(index)
            assert told.parameters["triton_final_response"].bool_param
    finally:
        client.stop_stream()


SERVED = "served here: breast-cancer, late-flights"


def test_a_stream_may_be_asked_by_asyncio_and_be_left(served):
    _, x, _ = forest()

    async def ask():
        async with aio.InferenceServerClient(served.address) as client:

            async def requests():
                for index in range(20):
                    yield {
                        "model_name": TENSOR,
                        "inputs": [tensor("x", "FP32", x[index : index + 1])],
                        "request_id": str(index),
                    }

            seen = []
            stream = client.stream_infer(requests())
            async for result, error in stream:
                assert error is None
                seen.append(result.get_response().id)
                if len(seen) == 10:
                    break
            stream.cancel()
            return seen

    assert asyncio.run(ask()) == [str(index) for index in range(10)]


def test_the_server_and_its_models_describe_themselves(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(TABLE)
    assert client.is_model_ready(TABLE, "1")
    about = client.get_server_metadata()
    assert (about.name, about.version) == ("headgate", "r:1")
    assert "model_configuration" in about.extensions
    model = client.get_model_metadata(TABLE, as_json=True)
    assert model["versions"] == ["1"]
    assert model["platform"] == "headgate_onnx"
    assert {"name": "carrier", "datatype": "BYTES", "shape": ["-1"]} in model["inputs"]
    assert {"name": "probabilities", "datatype": "FP32", "shape": ["-1", "2"]} in model["outputs"]
    config = client.get_model_config(TENSOR, as_json=True)["config"]
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["-1", "30"]}]
    index = client.get_model_repository_index(as_json=True)["models"]
    assert [(each["name"], each["state"]) for each in index] == [
        (TENSOR, "READY"),
        (TABLE, "READY"),
    ]


def test_a_release_is_not_changed_by_its_clients(client):
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="is immutable"):
            change(TABLE)
    with pytest.raises(InferenceServerException, match="NOT_FOUND"):
        client.load_model("nobody")
    assert client.is_model_ready(TABLE)


def test_what_was_asked_is_counted(tmp_path):
    with grpc_server(make_root(tmp_path)) as served, channel(served.address) as opened:
        unary(opened, "ModelInfer")(row())
        refusal(opened, row(outputs=[{"name": "nope"}]))
        refusal(opened, request("nobody"))
        with pytest.raises(grpc.RpcError):
            opened.unary_unary("/inference.GRPCInferenceService/ModelStatistics")(b"")
        served.run(served.worker.flush)

        def count(model, outcome):
            return metric("headgate_requests_total", surface="grpc", model=model, outcome=outcome)

        assert [count(TABLE, "ok"), count(TABLE, "input"), count("", "unknown")] == [1, 1, 1]
        assert count("", "input") == 1  # a method that there is not
        assert metric("headgate_request_seconds_count", surface="grpc", model=TABLE) == 2
