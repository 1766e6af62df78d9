"""Clients that others wrote, and bodies that theirs send, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json

import numpy as np
import pytest
from predictor.factory import forest, table_frame
from serving.asgi import make_root
from serving.tiny import connect, serving

from headgate.predictor import Predictor

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning:mlflow.*"),
]

TABLE, TENSOR = "late-flights", "breast-cancer"
FRAME = table_frame(40)[0]
ROWS = json.loads(FRAME.to_json(orient="records"))
X = forest()[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def address(root):
    with serving(root / "log", root) as server:
        yield server.address


@pytest.fixture(scope="module")
def expected(root):
    """What the models themselves give: for X, and for the frame."""
    bundle = root / ".headgate" / "bundle"
    carrier = np.array([row["carrier"] for row in ROWS], dtype=object)
    table = {
        "carrier": carrier,
        "distance": FRAME["distance"].to_numpy(),
        "wind": FRAME["wind"].to_numpy(),
    }
    return {
        TENSOR: Predictor.open(bundle / TENSOR).predict({"x": X}),
        TABLE: Predictor.open(bundle / TABLE).predict(table),
    }


@pytest.fixture(scope="module")
def triton(address):
    from tritonclient import http

    with contextlib.closing(http.InferenceServerClient(address, concurrency=4)) as client:
        yield client


def test_triton_s_client_finds_its_way(triton):
    from tritonclient.utils import InferenceServerException

    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(TABLE)
    assert triton.is_model_ready(TABLE, "1")
    assert not triton.is_model_ready("nobody")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    about = triton.get_model_metadata(TENSOR, "1")
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 30]}]
    config = triton.get_model_config(TABLE)
    assert config["max_batch_size"] == 0
    assert config["input"][0] == {"name": "carrier", "data_type": "TYPE_STRING", "dims": [-1]}
    index = triton.get_model_repository_index()
    assert {(each["name"], each["version"], each["state"]) for each in index} == {
        (TABLE, "1", "READY"),
        (TENSOR, "1", "READY"),
    }
    for change in (triton.load_model, triton.unload_model):
        with pytest.raises(InferenceServerException, match="tiny:1 is immutable") as caught:
            change(TABLE)
        assert caught.value.status() == "400"


def tensor_inputs(module, binary):
    x = module.InferInput("x", list(X.shape), "FP32")
    x.set_data_from_numpy(X, binary_data=binary)
    return [x]


def table_inputs(module, binary):
    """Strings cannot be missing in binary, so here none is."""
    columns = {
        "carrier": np.array([row["carrier"] or "?" for row in ROWS], dtype=object),
        "distance": FRAME["distance"].to_numpy(),
        "wind": np.nan_to_num(FRAME["wind"].to_numpy(), nan=9.0),
    }
    inputs = []
    for name, datatype in (("carrier", "BYTES"), ("distance", "INT64"), ("wind", "FP64")):
        # A column of a table as they often are: (rows, 1).
        one = module.InferInput(name, [len(ROWS), 1], datatype)
        one.set_data_from_numpy(columns[name].reshape(-1, 1), binary_data=binary)
        inputs.append(one)
    return inputs


def check(result, expected):
    found = result.as_numpy("label")
    if found.dtype == object:
        found = np.array([each.decode() if isinstance(each, bytes) else each for each in found])
    assert found.tolist() == expected["label"].tolist()
    assert result.as_numpy("probabilities").tobytes() == expected["probabilities"].tobytes()


@pytest.mark.parametrize("sent", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("given", [None, True, False], ids=["all", "binary", "json"])
def test_triton_s_client_infers(triton, expected, sent, given):
    import tritonclient.http as module

    wanted = None
    if given is not None:
        names = ("probabilities", "label")
        wanted = [module.InferRequestedOutput(name, binary_data=given) for name in names]
    inputs = tensor_inputs(module, sent)
    result = triton.infer(TENSOR, inputs, outputs=wanted, request_id="7", timeout=9_000_000)
    check(result, expected[TENSOR])
    assert result.get_response()["id"] == "7"
    assert result.get_response()["model_version"] == "1"
    told = triton.infer(TABLE, table_inputs(module, sent), outputs=wanted, model_version="1")
    assert set(told.as_numpy("label").astype(str)) == {"late", "on time"}
    assert told.as_numpy("probabilities").shape == (len(ROWS), 2)


@pytest.mark.parametrize("how", ["gzip", "deflate"])
@pytest.mark.parametrize("sent", [True, False], ids=["binary", "json"])
def test_triton_s_client_may_compress(triton, expected, how, sent):
    import tritonclient.http as module

    inputs = tensor_inputs(module, sent)
    check(triton.infer(TENSOR, inputs, request_compression_algorithm=how), expected[TENSOR])


def test_triton_s_client_infers_with_many_in_flight(triton, expected):
    import tritonclient.http as module

    asked = [
        triton.async_infer(TENSOR, tensor_inputs(module, binary=n % 2 == 0), parameters={"n": n})
        for n in range(12)
    ]
    for each in asked:
        check(each.get_result(), expected[TENSOR])


def test_triton_s_asynchronous_client_infers(address, expected):
    from tritonclient.http import aio

    async def main():
        async with aio.InferenceServerClient(address) as client:
            assert await client.is_model_ready(TENSOR)
            inputs = [tensor_inputs(aio, binary=n % 2 == 0) for n in range(8)]
            results = await asyncio.gather(*(client.infer(TENSOR, each) for each in inputs))
            for result in results:
                check(result, expected[TENSOR])

    asyncio.run(main())


def test_triton_s_client_is_told_what_is_wrong(triton):
    import tritonclient.http as module
    from tritonclient.utils import InferenceServerException

    inputs = module.InferInput("x", [1, 29], "FP32")
    inputs.set_data_from_numpy(X[:1, :29])
    with pytest.raises(InferenceServerException, match=r"\[1,29\] is not its shape") as caught:
        triton.infer(TENSOR, [inputs])
    assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match="classification is not offered"):
        triton.infer(
            TENSOR,
            tensor_inputs(module, binary=True),
            outputs=[module.InferRequestedOutput("label", class_count=2)],
        )
    with pytest.raises(InferenceServerException, match="no model 'nobody'") as caught:
        triton.infer("nobody", tensor_inputs(module, binary=True))
    assert caught.value.status() == "404"


def test_mlflow_s_client_scores(tmp_path, expected):
    """It cannot name a model, so the server has one."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    root = make_root(tmp_path, kinds=("table",))
    with serving(root / "log", root) as server:
        host, _, port = server.address.rpartition(":")
        client = ScoringServerClient(host, port)
        client.wait_server_ready(10)
        assert client.get_version() == '"tiny:1"'
        answer = client.invoke(FRAME)
        assert answer["predictions"] == expected[TABLE]["label"].tolist()
        assert answer.get_predictions("ndarray").tolist() == answer["predictions"]
        with_params = client.invoke(FRAME, params={"threshold": 1})
        assert with_params["predictions"] == answer["predictions"]


def post(address, path, body, **headers):
    with contextlib.closing(connect(address, 20)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


# What MLServer's PandasCodec and NumpyRequestCodec make of a frame and an array (mlserver 1.7.1),
# and kserve.InferRequest.to_rest of the same (kserve 0.21.0).
MLSERVER = {
    "parameters": {"content_type": "pd"},
    "inputs": [
        {
            "name": "carrier",
            "shape": [2, 1],
            "datatype": "BYTES",
            "parameters": {"content_type": "str"},
            "data": ["UA", "DL"],
        },
        {"name": "distance", "shape": [2, 1], "datatype": "INT64", "data": [1000, 20]},
        {"name": "wind", "shape": [2, 1], "datatype": "FP64", "data": [5.5, 1.0]},
    ],
    "outputs": [{"name": "label", "parameters": {"content_type": "str"}}],
}
KSERVE = (
    b'{"id":"7","model_name":"late-flights","inputs":[{"name":"carrier","shape":[2],"datatype":'
    b'"BYTES","parameters":{"binary_data_size":12}},{"name":"distance","shape":[2],"datatype":'
    b'"INT64","parameters":{"binary_data_size":16}},{"name":"wind","shape":[2],"datatype":"FP64",'
    b'"data":[5.5,1.0]}]}'
)
BLOBS = b"\x02\x00\x00\x00UA\x02\x00\x00\x00DL" + np.array([1000, 20], "<i8").tobytes()


def test_mlserver_s_and_kserve_s_bodies_mean_the_same(address):
    path = f"/v2/models/{TABLE}/infer"
    kind = {"Content_Type": "application/json"}
    status, _, body = post(address, path, json.dumps(MLSERVER), **kind)
    assert status == 200, body
    (label,) = json.loads(body)["outputs"]
    assert (label["name"], label["shape"]) == ("label", [2])
    length = {"Inference_Header_Content_Length": str(len(KSERVE))}
    status, _, body = post(address, path, KSERVE + BLOBS, **length)
    assert status == 200, body
    told = json.loads(body)
    assert told["id"] == "7"
    assert told["outputs"][0] == label
    rows = [{"carrier": "UA", "distance": 1000, "wind": 5.5}]
    rows.append({"carrier": "DL", "distance": 20, "wind": 1.0})
    _, _, body = post(address, f"/v1/models/{TABLE}:predict", json.dumps({"instances": rows}))
    assert [each["label"] for each in json.loads(body)["predictions"]] == label["data"]


def test_sagemaker_s_runtime_invokes(address, expected):
    """As its local mode hands a call of invoke_endpoint to a container."""
    lines = "\n".join(",".join(repr(float(value)) for value in row) for row in X[:5])
    for accept, answer in (
        ("text/csv", "".join(f"{label}\n" for label in expected[TENSOR]["label"][:5])),
        ("application/json", json.dumps({"predictions": expected[TENSOR]["label"][:5].tolist()})),
    ):
        status, headers, body = post(
            address,
            "/invocations",
            lines,
            Content_Type="text/csv",
            Accept=accept,
            X_Amzn_SageMaker_Target_Model=f"{TENSOR}.tar.gz",
            X_Amzn_SageMaker_Custom_Attributes="trace=7",
        )
        assert status == 200, body
        assert body.decode().replace(" ", "") == answer.replace(" ", "")
        assert headers["X-Headgate-Model-Version"] == "1"


def test_a_large_binary_tensor_comes_in_many_pieces(address, expected):
    many = np.concatenate([X] * 9)
    data = many.tobytes()
    assert len(data) > 500_000
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": list(many.shape),
                    "parameters": {"binary_data_size": len(data)},
                }
            ],
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
        }
    ).encode()
    status, headers, body = post(
        address,
        f"/v2/models/{TENSOR}/infer",
        head + data,
        Inference_Header_Content_Length=str(len(head)),
    )
    assert status == 200, body
    begin = int(headers["Inference-Header-Content-Length"])
    found = np.frombuffer(body[begin:], "<f4").reshape(-1, 2)
    assert found.tobytes() == np.concatenate([expected[TENSOR]["probabilities"]] * 9).tobytes()
