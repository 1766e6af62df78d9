"""The same rows through every surface: the model's own answers, bit by bit.

Another surface is another function under ``@surface``: it asks for the predictions of all rows of a
case and returns what it got, lists by output. Some tell fewer outputs than the model has.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from predictor.factory import TABLE_SIGNATURE, TENSOR_SIGNATURE, forest, table_frame
from serving.asgi import Asked, make_root, serving_app
from serving.binary import KINDS, infer_body, infer_outputs, packed, unpacked
from serving.echo import make_echoes
from serving.grpc_server import SERVICE, channel, request, unary

from headgate.predictor import Field, Signature, rows_to_batch
from headgate.serving.grpc.messages import message
from headgate.serving.grpc.server import Server

ECHO = (
    Field(name="bool", dtype="bool"),
    Field(name="uint8", dtype="uint8"),
    Field(name="int32", dtype="int32"),
    Field(name="int64", dtype="int64"),
    Field(name="float32", dtype="float32"),
    Field(name="float64", dtype="float64"),
    Field(name="string", dtype="string"),
)
CUBES = (
    Field(name="cube", dtype="float32", shape=(2, 1, 3)),
    Field(name="words", dtype="string", shape=(2,)),
    Field(name="on", dtype="bool"),
)
THIRD, LARGEST = 1 / 3, 2**63 - 1


@dataclass(frozen=True)
class Case:
    """Rows for one model, as V1 has them."""

    model: str
    signature: Signature
    rows: list[Any]

    @property
    def columns(self) -> dict[str, list[Any]]:
        names = [field.name for field in self.signature.inputs]
        if type(self.rows[0]) is list:
            return {names[0]: self.rows}
        return {name: [row[name] for row in self.rows] for name in names}

    @property
    def flat(self) -> list[list[Any]]:
        """Rows of values, in the order of the inputs."""
        return [list(row.values()) if type(row) is dict else row for row in self.rows]


def _table() -> Case:
    frame, _ = table_frame(60)
    return Case("late-flights", TABLE_SIGNATURE, json.loads(frame.to_json(orient="records")))


def _tensor() -> Case:
    return Case("breast-cancer", TENSOR_SIGNATURE, forest()[1][:40].tolist())


def _signature(inputs: tuple[Field, ...]) -> Signature:
    outputs = tuple(Field(name=f"{f.name}_out", dtype=f.dtype, shape=f.shape) for f in inputs)
    return Signature(inputs=inputs, outputs=outputs, task="tensor")


def _every() -> Case:
    first = [True, 0, -(2**31), -LARGEST - 1, float(np.float32(THIRD)), THIRD, "naïve, ✈"]
    second = [False, 255, 2**31 - 1, LARGEST, -0.0, 5e-324, 'say "nan"\nand None']
    names = [field.name for field in ECHO]
    rows = [dict(zip(names, values, strict=True)) for values in (first, second)]
    return Case("every", _signature(ECHO), rows)


def _cubes() -> Case:
    cube = np.random.default_rng(0).normal(size=(5, 2, 1, 3)).astype(np.float32).tolist()
    rows = [{"cube": each, "words": [str(n), "é"], "on": n > 2} for n, each in enumerate(cube)]
    return Case("cubes", _signature(CUBES), rows)


def _complete() -> Case:
    """The table without missing texts, for which raw tensors and gRPC have no form."""
    case = _table()
    return Case(case.model, case.signature, [row for row in case.rows if row["carrier"]])


CASES = {case.model: case for case in (_table(), _tensor(), _every(), _cubes())}
CASES["complete"] = _complete()
TABLES = ("late-flights", "every")
PLAIN = (*TABLES, "breast-cancer")
"""Those that are rows of values, which CSV and the like can hold."""
TENSORS = ("complete", "every", "breast-cancer", "cubes")
"""Those of which nothing is lost in typed tensors."""

Ask = Callable[[Asked, Case], dict[str, list[Any]]]
SURFACES: list[tuple[Ask, str]] = []


def surface(*cases: str) -> Callable[[Ask], Ask]:
    """Register a surface, for all cases or for those that it can carry."""

    def register(ask: Ask) -> Ask:
        SURFACES.extend((ask, case) for case in cases or CASES)
        return ask

    return register


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The app by case."""
    echoes = {"every": ECHO, "cubes": CUBES}
    with (
        serving_app(make_root(tmp_path_factory.mktemp("real"))) as real,
        serving_app(make_echoes(tmp_path_factory.mktemp("echo"), echoes)) as echo,
    ):
        yield {case: echo if case in echoes else real for case in CASES}


@pytest.mark.parametrize(
    ("ask", "name"), SURFACES, ids=lambda each: getattr(each, "__name__", each)
)
def test_every_surface_gives_the_model_s_own_answers(served, ask, name):
    case, asked = CASES[name], served[name]
    predictor = asked.worker.models[case.model].predictor
    expected = predictor.predict(rows_to_batch(case.signature, case.rows))
    told = ask(asked, case)
    assert told
    for field in case.signature.outputs:
        if field.name not in told:
            continue
        found = told[field.name]
        if field.dtype == "string":
            assert np.array(found, dtype=object).tolist() == expected[field.name].tolist()
        else:
            array = np.array(found, dtype=field.numpy).reshape(-1, *field.shape)
            assert array.tobytes() == expected[field.name].tobytes()
    assert told.keys() <= expected.keys()


def answered(asked: Asked, path: str, **request: Any) -> httpx.Response:
    """An answer that is one, and that names the version and the release."""
    answer = asked.post(path, **request)
    assert answer.status_code == 200, answer.text
    (version,) = {model.version for model in asked.worker.models.values()}
    assert answer.headers["x-headgate-model-version"] == version
    assert answer.headers["x-headgate-release"] == "test:1"
    return answer


def by_output(case: Case, predictions: list[Any]) -> dict[str, list[Any]]:
    """Predictions of V1's kind, turned round."""
    names = [field.name for field in case.signature.outputs]
    if len(names) == 1:
        return {names[0]: predictions}
    return {name: [each[name] for each in predictions] for name in names}


def predicted(case: Case, predictions: list[Any]) -> dict[str, list[Any]]:
    """Predictions of MLflow's kind: a classifier gives labels."""
    if case.signature.task == "classification":
        return {"label": predictions}
    return by_output(case, predictions)


@surface()
def v1_rows(asked, case):
    body = {"instances": case.rows}
    answer = answered(asked, f"/v1/models/{case.model}:predict", json=body)
    return by_output(case, answer.json()["predictions"])


@surface()
def v1_columns(asked, case):
    path = f"/v1/models/{case.model}/versions/{asked.worker.models[case.model].version}:predict"
    return answered(asked, path, json={"inputs": case.columns}).json()["outputs"]


@surface()
def typed(asked, case):
    path = f"/{asked.worker.models[case.model].packaged.method}"
    return by_output(
        case, answered(asked, path, json={"instances": case.rows}).json()["predictions"]
    )


@surface()
def oip_json(asked, case):
    body, headers = infer_body(case.signature, case.columns, binary=False)
    answer = answered(asked, f"/v2/models/{case.model}/infer", content=body, headers=headers)
    return {
        each["name"]: np.array(each["data"], dtype=object).reshape(each["shape"]).tolist()
        for each in answer.json()["outputs"]
    }


@surface()
def oip_binary(asked, case):
    body, headers = infer_body(case.signature, case.columns, binary=True)
    answer = answered(asked, f"/v2/models/{case.model}/infer", content=body, headers=headers)
    return infer_outputs(answer)


@surface("breast-cancer")
def oip_raw(asked, case):
    body = np.array(case.rows, "<f4").tobytes()
    headers = {"inference-header-content-length": "0"}
    path = f"/v2/models/{case.model}/infer"
    return infer_outputs(answered(asked, path, content=body, headers=headers))


def invoked(asked: Asked, case: Case, **request: Any) -> httpx.Response:
    request["headers"] = {"x-headgate-model": case.model, **request.get("headers", {})}
    return answered(asked, "/invocations", **request)


@surface(*TABLES)
def mlflow_split(asked, case):
    body = {"dataframe_split": {"columns": list(case.columns), "data": case.flat}}
    return predicted(case, invoked(asked, case, json=body).json()["predictions"])


@surface("late-flights", "every", "cubes")
def mlflow_records(asked, case):
    answer = invoked(asked, case, json={"dataframe_records": case.rows})
    return predicted(case, answer.json()["predictions"])


@surface()
def mlflow_instances(asked, case):
    return predicted(
        case, invoked(asked, case, json={"instances": case.rows}).json()["predictions"]
    )


@surface()
def mlflow_inputs(asked, case):
    return predicted(
        case, invoked(asked, case, json={"inputs": case.columns}).json()["predictions"]
    )


def as_csv(rows: list[list[Any]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()


@surface(*TABLES)
def mlflow_csv(asked, case):
    body = as_csv([list(case.columns), *case.flat])
    answer = invoked(asked, case, content=body, headers={"content-type": "text/csv"})
    return predicted(case, answer.json()["predictions"])


@surface(*PLAIN)
def sagemaker_csv(asked, case):
    headers = {"content-type": "text/csv", "accept": "text/csv"}
    answer = invoked(asked, case, content=as_csv(case.flat), headers=headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.reader(io.StringIO(answer.text, newline="")))
    if case.model != "every":
        return {"label": [cell for (cell,) in lines]}
    names = [field.name for field in case.signature.outputs]
    columns = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
    return {**columns, "bool_out": [cell == "True" for cell in columns["bool_out"]]}


@surface()
def sagemaker_lines(asked, case):
    body = b"".join(json.dumps(row).encode() + b"\n" for row in case.rows)
    headers = {"content-type": "application/jsonlines", "accept": "application/jsonlines"}
    answer = invoked(asked, case, content=body, headers=headers)
    return predicted(case, [json.loads(line) for line in answer.text.splitlines()])


@surface(*PLAIN)
def sagemaker_lists(asked, case):
    return predicted(case, invoked(asked, case, json=case.flat).json()["predictions"])


@surface("breast-cancer")
def sagemaker_array(asked, case):
    buffer = io.BytesIO()
    np.save(buffer, np.array(case.rows))
    headers = {"content-type": "application/x-npy", "accept": "application/x-npy"}
    answer = invoked(asked, case, content=buffer.getvalue(), headers=headers)
    return {"label": np.load(io.BytesIO(answer.content), allow_pickle=False).tolist()}


@surface(*PLAIN)
def sagemaker_features(asked, case):
    body = {"instances": [{"features": row} for row in case.flat]}
    return predicted(case, invoked(asked, case, json=body).json()["predictions"])


@surface()
def torchserve(asked, case):
    path = f"/predictions/{case.model}/{asked.worker.models[case.model].version}"
    return by_output(case, answered(asked, path, json={"data": case.rows}).json())


@surface()
def torchserve_envelope(asked, case):
    answer = answered(asked, f"/predictions/{case.model}", json={"instances": case.rows})
    return by_output(case, answer.json()["predictions"])


TYPED = {
    "bool": "bool_contents",
    "uint8": "uint_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "string": "bytes_contents",
}
"""Which field of gRPC's contents holds values of a dtype."""


def call_of(case: Case, columns: dict[str, list[Any]], *, raw: bool) -> Any:
    """A ModelInferRequest. A number that is missing is NaN there."""
    asked = request(case.model)
    for field in case.signature.inputs:
        values = columns[field.name]
        datatype, dtype = KINDS[field.dtype]
        tensor = asked.inputs.add(
            name=field.name, datatype=datatype, shape=[len(values), *field.shape]
        )
        flat = np.array(values, dtype=object).reshape(-1).tolist()
        if field.dtype == "string":
            flat = [text.encode() for text in flat]
        else:
            flat = [np.nan if value is None else value for value in flat]
        if not raw:
            getattr(tensor.contents, TYPED[field.dtype]).extend(flat)
        elif field.dtype == "string":
            asked.raw_input_contents.append(packed(flat))
        else:
            asked.raw_input_contents.append(np.array(flat, dtype).tobytes())
    return asked


def outputs_of(asked: Asked, case: Case, told: Any, *, raw: bool) -> dict[str, list[Any]]:
    """The outputs of a ModelInferResponse, in the form of its request."""
    assert told.model_version == asked.worker.models[case.model].version
    assert told.parameters["release"].string_param == "test:1"
    assert bool(told.raw_output_contents) == raw
    found = {}
    for index, (field, output) in enumerate(zip(case.signature.outputs, told.outputs, strict=True)):
        assert output.name == field.name
        if not raw:
            flat = list(getattr(output.contents, TYPED[field.dtype]))
            flat = [text.decode() for text in flat] if field.dtype == "string" else flat
        elif field.dtype == "string":
            flat = unpacked(told.raw_output_contents[index])
        else:
            flat = np.frombuffer(told.raw_output_contents[index], KINDS[field.dtype][1]).tolist()
        found[field.name] = np.array(flat, dtype=object).reshape(output.shape).tolist()
    return found


def over_grpc(asked: Asked, ask: Callable[[Any], Any]) -> Any:
    """What ``ask`` gets from a channel to this worker; gRPC's own client runs in a thread."""

    async def answer() -> Any:
        server = Server(asked.worker)
        listener = await asked.loop.create_server(server.protocol, "127.0.0.1", 0)
        address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"

        def work() -> Any:
            with channel(address) as opened:
                return ask(opened)

        try:
            return await asyncio.to_thread(work)
        finally:
            listener.close()
            server.close()

    return asked.run(answer())


@pytest.mark.parametrize("name", TENSORS)
def test_grpc_gives_one_answer_in_both_of_its_forms(served, name):
    """And so typed values lose nothing that raw ones keep."""
    case, asked = CASES[name], served[name]
    assert grpc_raw(asked, case) == grpc_typed(asked, case)


@surface(*TENSORS)
def grpc_raw(asked, case):
    content = call_of(case, case.columns, raw=True)
    told = over_grpc(asked, lambda opened: unary(opened, "ModelInfer")(content, timeout=10))
    return outputs_of(asked, case, told, raw=True)


@surface(*TENSORS)
def grpc_typed(asked, case):
    content = call_of(case, case.columns, raw=False)
    told = over_grpc(asked, lambda opened: unary(opened, "ModelInfer")(content, timeout=10))
    return outputs_of(asked, case, told, raw=False)


@surface(*TENSORS)
def grpc_stream(asked, case):
    """A row a message."""
    columns = case.columns
    messages = [
        call_of(case, {name: [values[index]] for name, values in columns.items()}, raw=True)
        for index in range(len(case.rows))
    ]
    kind = message("inference.ModelStreamInferResponse")

    def ask(opened: Any) -> list[Any]:
        stream = opened.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=kind.FromString,
        )
        return list(stream(iter(messages), timeout=10))

    found: dict[str, list[Any]] = {}
    for told in over_grpc(asked, ask):
        assert not told.error_message
        for name, values in outputs_of(asked, case, told.infer_response, raw=True).items():
            found.setdefault(name, []).extend(values)
    return found


def over_websocket(asked: Asked, case: Case, messages: list[dict[str, Any]]) -> list[Any]:
    """The answers to messages that are all in flight on one connection, in their order."""

    async def talk() -> list[Any]:
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        outbox: asyncio.Queue[Any] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": f"/ws/{case.model}",
            "raw_path": f"/ws/{case.model}".encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"testserver")],
            "subprotocols": [],
        }
        await inbox.put({"type": "websocket.connect"})
        for number, each in enumerate(messages):
            text = json.dumps({"id": number, **each})
            await inbox.put({"type": "websocket.receive", "text": text})
        task = asked.loop.create_task(asked.app(scope, inbox.get, outbox.put))
        accepted = await outbox.get()
        assert accepted["type"] == "websocket.accept"
        assert dict(accepted["headers"])[b"x-headgate-release"] == b"test:1"
        told = [json.loads((await outbox.get())["text"]) for _ in messages]
        await inbox.put({"type": "websocket.disconnect", "code": 1000})
        await task
        return sorted(told, key=lambda each: each["id"])

    return asked.run(talk())


@surface()
def websocket_rows(asked, case):
    """A row a message."""
    told = over_websocket(asked, case, [{"instances": [row]} for row in case.rows])
    return by_output(case, [each["predictions"][0] for each in told])


@surface()
def websocket_columns(asked, case):
    (told,) = over_websocket(asked, case, [{"inputs": case.columns}])
    return told["outputs"]
