"""Code to paste, pasted: each language's asks a real server and prints what the model says."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
import sys
import urllib.request
from typing import Any

import pytest
from serving.asgi import make_root
from serving.echo import make_echoes
from serving.tiny import serving

from headgate.errors import InputError
from headgate.pipeline import Callee
from headgate.predictor import Field, Predictor, Signature, example, rows_to_batch
from headgate.predictor.rows import batch_to_rows
from headgate.snippets import LANGUAGES, grpc_request, snippet

EVIL = "it's \"here\" \\n\n\t${HOME} `ls` $(ls) %s {0} </script> \u2028 \u00e4\u4e2d\U0001f600 '''"
TEXT = Field(name="te xt", dtype="string", nullable=True)
FLOAT = Field(name="x", dtype="float32", nullable=True)
FIELDS = {
    "table": (
        TEXT,
        FLOAT,
        Field(name="flag", dtype="bool"),
        Field(name="small", dtype="uint8"),
        Field(name="large", dtype="int64"),
        Field(name="exact", dtype="float64"),
    ),
    "one tensor": (Field(name="image", dtype="float32", shape=(2, 3)),),
    "two tensors": (
        Field(name="image", dtype="int32", shape=(2, 2)),
        Field(name="words", dtype="string", shape=(2,)),
    ),
}
ROWS: dict[str, Any] = {
    "table": {
        "te xt": EVIL,
        "x": 0.1,
        "flag": False,
        "small": 255,
        "large": -(2**53) + 1,  # JavaScript knows no larger
        "exact": 1.7976931348623157e308 / 1e300,
    },
    "one tensor": [[0.1, 2, -3.5], [1e-20, 0, 7]],
    "two tensors": {"image": [[1, -2], [3, 4]], "words": [EVIL, ""]},
}
MISSING = {
    "curl": "apt-get install curl",
    "js": "node 18 or later",
}
PROGRAMS = {"curl": "curl", "js": "node", "python": sys.executable, "grpcurl": sys.executable}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = make_echoes(tmp_path_factory.mktemp("server"), FIELDS)
    with serving(root / "log", root, grpc_port=0) as server:
        yield server


def callee_of(server, name, **changes):
    fields = FIELDS[name]
    outputs = tuple(Field(name=f"{f.name}_out", dtype=f.dtype, shape=f.shape) for f in fields)
    known = {
        "model": name,
        "version": "7",
        "release": "tiny:1",
        "http": server.address,
        "grpc": server.grpc,
        "running": True,
        "signature": Signature(inputs=fields, outputs=outputs, task="tensor"),
        "row": ROWS[name],
    }
    return Callee(**{**known, **changes})


def run(code, lang, folder):
    """What the code prints, pasted where its readers would."""
    program = PROGRAMS[lang]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here: {MISSING[lang]}")
    if lang == "curl":
        command = ["/bin/sh", "-c", code]
    elif lang == "grpcurl":
        return reflect(shlex.split(code))
    else:
        file = folder / {"python": "ask.py", "js": "ask.mjs"}[lang]
        file.write_text(code, encoding="utf-8")
        command = [program, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def reflect(command):
    """What grpcurl does with its arguments: knows the service from reflection alone."""
    import grpc
    from google.protobuf import json_format
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    program, plaintext, data, body, address, method = command
    assert (program, plaintext, data) == ("grpcurl", "-plaintext", "-d")
    with grpc.insecure_channel(address) as channel:
        pool: Any = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service, _, name = method.partition("/")
        found = pool.FindServiceByName(service).methods_by_name[name]
        request = json_format.Parse(body, GetMessageClass(found.input_type)())
        call = channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(found.output_type).FromString,
        )
        return json_format.MessageToJson(call(request, timeout=10))


def said_by(server, model, row):
    """The prediction over V1, by a client that is not what is tested."""
    request = urllib.request.Request(
        f"http://{server.address}/v1/models/{model.replace(' ', '%20')}:predict",
        data=json.dumps({"instances": [row]}).encode(),
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["predictions"]


@pytest.mark.e2e
@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("lang", ["curl", "python", "js"])
def test_it_asks_and_prints_the_prediction(server, tmp_path, name, lang):
    printed = run(snippet(callee_of(server, name), lang), lang, tmp_path)
    if lang == "curl":
        found = json.loads(printed)["predictions"]
    else:
        found = ast.literal_eval(printed) if lang == "python" else json.loads(printed)
    assert found == said_by(server, name, ROWS[name])


@pytest.mark.e2e
@pytest.mark.parametrize("name", FIELDS)
def test_grpc_s_json_is_what_the_service_takes(server, tmp_path, name):
    told = json.loads(run(snippet(callee_of(server, name), "grpcurl"), "grpcurl", tmp_path))
    assert told["modelName"] == name
    assert len(told["outputs"]) == len(FIELDS[name])


@pytest.mark.e2e
@pytest.mark.parametrize("lang", ["python", "js"])
def test_what_is_refused_is_said(server, tmp_path, lang):
    if shutil.which(PROGRAMS[lang]) is None:
        pytest.skip(MISSING[lang])
    file = tmp_path / {"python": "ask.py", "js": "ask.mjs"}[lang]
    file.write_text(snippet(callee_of(server, "one tensor", row=[1]), lang), encoding="utf-8")
    done = subprocess.run(
        [PROGRAMS[lang], str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "instances[0]" in done.stderr


def test_a_missing_value_is_told_as_each_protocol_has_it():
    class Nowhere:
        address, grpc = "127.0.0.1:1", "127.0.0.1:2"

    row = {**ROWS["table"], "te xt": None, "x": None}
    callee = callee_of(Nowhere, "table", row=row)
    assert '"x": null' in snippet(callee, "js")
    text, number, *_ = grpc_request(callee)["inputs"]
    assert text["contents"] == {"bytes_contents": [""]}
    assert number["contents"] == {"fp32_contents": ["NaN"]}


def test_without_grpc_it_says_how_to_have_it():
    class Nowhere:
        address, grpc = "127.0.0.1:1", ""

    with pytest.raises(InputError, match="grpc_port"):
        snippet(callee_of(Nowhere, "table"), "grpcurl")
    assert set(LANGUAGES) == {"curl", "python", "js", "grpcurl"}


@pytest.mark.parametrize("kind", ["table", "tensor"])
@pytest.mark.parametrize("real", [True, False])
def test_an_example_is_a_row_that_the_model_takes(tmp_path, kind, real):
    root = make_root(tmp_path, kinds=(kind,))
    [path] = [each for each in (root / ".headgate/bundle").iterdir() if each.is_dir()]
    predictor = Predictor.open(path)
    row = example(predictor.signature, predictor.reference if real else None).row
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    batch = rows_to_batch(predictor.signature, [row])
    assert predictor.predict(batch)
    if real:
        rows = batch_to_rows(predictor.signature, predictor.reference.inputs)
        assert None not in (row.values() if kind == "table" else row)
        assert any(_same(row, each, predictor.signature) for each in rows)


def _same(row, other, signature):
    one, two = (rows_to_batch(signature, [each]) for each in (row, other))
    return all((one[name] == two[name]).all() for name in one)
