"""Code that asks a model, in the languages of its clients: made for pasting.

Each sends one row that the model takes, and prints its prediction. None needs a library: Python has
urllib, node and browsers have fetch; curl and grpcurl are programs.
"""

from __future__ import annotations

import base64
import json
import shlex
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from headgate.errors import InputError

if TYPE_CHECKING:
    from headgate.pipeline.calling import Callee
    from headgate.predictor import Field

__all__ = ["LANGUAGES", "Language", "grpc_request", "snippet"]

Language = Literal["curl", "python", "js", "grpcurl"]
LANGUAGES: tuple[Language, ...] = ("curl", "python", "js", "grpcurl")

_CURL = """\
curl -sS {url} -H 'content-type: application/json' -d {body}
"""
_PYTHON = """\
import json
import urllib.error
import urllib.request

rows = json.loads({rows})
request = urllib.request.Request(
    {url},
    data=json.dumps({{"instances": rows}}).encode(),
    headers={{"content-type": "application/json"}},
)
try:
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(json.load(answer)["predictions"])
except urllib.error.HTTPError as error:
    raise SystemExit(error.read().decode()) from None
"""
_JS = """\
// An ES module: node FILE.mjs, or <script type="module"> in a page of the same origin.
const rows = {rows};
const answer = await fetch({url}, {{
  method: "POST",
  headers: {{"content-type": "application/json"}},
  body: JSON.stringify({{instances: rows}}),
}});
const told = await answer.json();
if (!answer.ok) throw new Error(`${{told.where}}: ${{told.error}} (${{told.remedy}})`);
console.log(JSON.stringify(told.predictions));
"""
_GRPCURL = """\
grpcurl -plaintext -d {body} {address} inference.GRPCInferenceService/ModelInfer
"""
_TYPES = {
    "bool": ("BOOL", "bool_contents"),
    "uint8": ("UINT8", "uint_contents"),
    "int32": ("INT32", "int_contents"),
    "int64": ("INT64", "int64_contents"),
    "float32": ("FP32", "fp32_contents"),
    "float64": ("FP64", "fp64_contents"),
    "string": ("BYTES", "bytes_contents"),
}


def snippet(callee: Callee, language: Language) -> str:
    """What to paste.

    Raises:
        InputError: gRPC is asked for and not served.
    """
    url = f"http://{callee.http}/v1/models/{quote(callee.model)}:predict"
    rows = json.dumps([callee.row], ensure_ascii=False)
    if language == "curl":
        return _CURL.format(url=shlex.quote(url), body=shlex.quote(f'{{"instances": {rows}}}'))
    if language == "python":
        return _PYTHON.format(url=json.dumps(url), rows=_python(rows))
    if language == "js":
        return _JS.format(url=json.dumps(url), rows=rows)
    if not callee.grpc:
        raise InputError(
            "this release is served without gRPC",
            where=callee.release,
            remedy="set grpc_port in headgate.toml to another number than 0",
        )
    body = shlex.quote(json.dumps(grpc_request(callee), ensure_ascii=False))
    return _GRPCURL.format(body=body, address=shlex.quote(callee.grpc))


def grpc_request(callee: Callee) -> dict[str, Any]:
    """A ``ModelInferRequest`` in the JSON of protocol buffers, in which bytes are base64."""
    fields = callee.signature.inputs
    row = callee.row if type(callee.row) is dict else {fields[0].name: callee.row}
    return {
        "model_name": callee.model,
        "inputs": [_tensor(field, row[field.name]) for field in fields],
    }


def _tensor(field: Field, value: Any) -> dict[str, Any]:
    datatype, contents = _TYPES[field.dtype]
    values = [value]
    for _ in field.shape:
        values = list(chain.from_iterable(values))
    return {
        "name": field.name,
        "datatype": datatype,
        "shape": [1, *field.shape],
        "contents": {contents: [_typed(field, each) for each in values]},
    }


def _typed(field: Field, value: Any) -> Any:
    if field.dtype == "string":
        # Bytes have no null; the row to show was chosen to have none, where there is one.
        return base64.b64encode((value or "").encode()).decode()
    return "NaN" if value is None else value


def _python(text: str) -> str:
    """A literal that is readable where it can be: JSON has no apostrophes of its own."""
    return f"'{text}'" if "'" not in text and "\\" not in text else repr(text)
