"""Bodies that are no JSON, too large, of another kind or not what the protocol asks for."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import zlib

import pytest
from serving.asgi import serving_app
from serving.refusals import (
    GOOD,
    INVOCATIONS,
    MAX_BYTES,
    MAX_ROWS,
    OIP,
    ROW,
    TYPED,
    V1,
    refused,
    short,
    strict_root,
    tensors,
)

from headgate.serving import http

DEEP = 3_000
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(strict_root(tmp_path_factory.mktemp("bad"))) as asked:
        yield asked


TAKE = 'send {"instances": [row, …]}'
SEND_JSON = "send valid JSON in UTF-8; null, not NaN, is missing"
BAD_BODIES = {
    "a list": ("[]", "body", "the body is no object", TAKE),
    "a string": ('"instances"', "body", "the body is no object", TAKE),
    "null": ("null", "body", "the body is no object", TAKE),
    "a number": ("7", "body", "the body is no object", TAKE),
    "an empty object": ("{}", "body", "instances is missing", TAKE),
    "another key": ('{"rows": []}', "body", "instances is missing", TAKE),
    "one key more": ('{"instances": [], "ünits": 1}', "body", "'ünits' is unknown", TAKE),
    "no rows": ('{"instances": []}', "instances", "no rows", "send at least one"),
    "no list": ('{"instances": {"wind": 1}}', "instances", "an object is no list", "send a list"),
    "text": ('{"instances": "UA"}', "instances", "'UA' is no list", "send a list"),
    "null for a list": ('{"instances": null}', "instances", "null is no list", "send a list"),
    "a number for a list": ('{"instances": 1}', "instances", "1 is no list", "send a list"),
}


@pytest.mark.parametrize("path", [V1, TYPED])
@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_body(asked, path, body):
    content, where, what, remedy = BAD_BODIES[body]
    found = refused(asked, path, content=content)
    assert found[:2] == (where, what)
    assert remedy in found[2]


INVALID = {
    "nothing": b"",
    "half of it": b'{"instances": [{"carrier": "UA", ',
    "something after it": b'{"instances": []} x',
    "NaN": b'{"instances": [{"carrier": "UA", "distance": 1, "wind": NaN}]}',
    "Infinity": b'{"instances": [{"carrier": "UA", "distance": 1, "wind": Infinity}]}',
    "-Infinity": b'{"instances": [{"carrier": "UA", "distance": 1, "wind": -Infinity}]}',
    "a number beyond a double": b'{"instances": [{"carrier": "UA", "distance": 1, "wind": 1e999}]}',
    "no UTF-8": b'{"instances": [{"carrier": "\xff", "distance": 1, "wind": 1}]}',
    "UTF-16": '{"instances": []}'.encode("utf-16"),
    "half of a pair": rb'{"instances": [{"carrier": "\ud800", "distance": 1, "wind": 1}]}',
    "a comment": b'{"instances": [] /* none */}',
    "Python": b"{'instances': [None]}",
    "a line break in text": b'{"instances": "\n"}',
    "a form": b"instances=1&x=2",
    "deep lists": b"[" * DEEP,
    "deep lists, closed": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"instances":' * DEEP + b"1" + b"}" * DEEP,
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("body", INVALID)
def test_no_json(asked, path, body):
    where, what, remedy = refused(asked, path, content=INVALID[body])
    assert (where, remedy) == ("body", SEND_JSON)
    assert what.startswith("invalid JSON: ") or (what == "the body is empty" and not INVALID[body])


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("depth", [100, 300, 900, 1020])
def test_values_as_deep_as_json_allows(asked, path, depth):
    deep = "[" * depth + "]" * depth
    for body in (
        f'{{"instances": {deep}}}',
        f'{{"instances": [{{"wind": {deep}, "distance": 1, "carrier": null}}]}}',
        f'{{"inputs": {deep}, "id": {deep}}}',
        GOOD[OIP][:-1] + f', "id": {deep}}}',
        GOOD[OIP][:-1] + f', "outputs": {deep}}}',
        GOOD[OIP][:-1] + f', "outputs": [{{"name": {deep}}}]}}',
        f'{{"inputs": [{{"name": {deep}}}]}}',
        f'{{"inputs": [{{"name": "wind", "datatype": {deep}}}]}}',
        f'{{"inputs": [{{"name": "wind", "datatype": "FP64", "shape": {deep}, "data": [1]}}]}}',
        f'{{"inputs": [{{"name": "wind", "datatype": "FP64", "shape": [1], "data": {deep}}}]}}',
        f'{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1, 30], "data": {deep}}}]}}',
    ):
        refused(asked, path, content=body)


@pytest.mark.parametrize("path", [V1, TYPED, OIP])
@pytest.mark.parametrize("digits", [20, 400, 6000])
def test_huge_integers(asked, path, digits):
    body = GOOD[path].replace("1000", "9" * digits)
    where, _, remedy = refused(asked, path, content=body)
    assert where == "body" or "distance" in where or "inputs[1].data[0]" in where
    assert "send" in remedy


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize(
    "kind",
    [
        "text/html",
        "text/csv; charset=utf-8",
        "application/octet-stream",
        "application/xml",
        "multipart/mixed; boundary=x",
        "application/jsonl",
        "json",
        "\u00e9" * 200,
    ],
    ids=short,
)
def test_another_content_type(asked, path, kind):
    request = {"content": GOOD[path], "headers": {"content-type": kind.encode("latin-1")}}
    if kind == "application/octet-stream" and path.startswith("/v2"):
        # So do some of Triton's clients call JSON.
        assert asked.post(path, **request).status_code == 200
        return
    where, what, remedy = refused(asked, path, 415, **request)
    assert where == "header Content-Type"
    assert kind[:20] in what
    assert remedy == "send application/json"


@pytest.mark.parametrize("path", GOOD)
def test_a_pickled_body_is_refused_and_never_opened(asked, path, tmp_path):
    mark = tmp_path / "opened"

    class Bomb:
        def __reduce__(self):
            return (mark.touch, ())

    kind = {"content-type": "application/vnd.bentoml+pickle"}
    where, _, _ = refused(asked, path, 415, content=pickle.dumps(Bomb()), headers=kind)
    assert where == "header Content-Type"
    assert not mark.exists()


@pytest.mark.parametrize("path", GOOD)
def test_json_that_is_called_text(asked, path):
    """`fetch` of browsers and of node, which are told no type."""
    kind = {"content-type": "text/plain;charset=UTF-8"}
    answer = asked.post(path, content=GOOD[path], headers=kind)
    assert answer.status_code == 200, answer.text
    assert answer.content == asked.post(path, content=GOOD[path]).content


@pytest.mark.parametrize("path", [*GOOD, INVOCATIONS])
@pytest.mark.parametrize("encoding", PACK)
def test_a_compressed_body(asked, path, encoding):
    plain = GOOD[V1 if path == INVOCATIONS else path].encode()
    kind = {"content-type": "application/json"}
    expected = asked.post(path, content=plain, headers=kind)
    assert expected.status_code == 200
    headers = {**kind, "content-encoding": encoding}
    answer = asked.post(path, content=PACK[encoding](plain), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.content == expected.content


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("encoding", PACK)
def test_a_compressed_body_that_is_broken(asked, path, encoding):
    whole = PACK[encoding](GOOD[path].encode())
    for body in (b"", b"\xff" * 40, whole[:-5], whole + b"x"):
        request = {"content": body, "headers": {"content-encoding": encoding}}
        where, _, remedy = refused(asked, path, 400, **request)
        assert where == "header Content-Encoding"
        assert f"compress the whole body with {encoding}" in remedy


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("encoding", PACK)
def test_a_compressed_body_that_is_too_large_unpacked(asked, path, encoding):
    body = PACK[encoding](b" " * MAX_BYTES + b"1")
    assert len(body) < 1000
    request = {"content": body, "headers": {"content-encoding": encoding}}
    where, what, remedy = refused(asked, path, 413, **request)
    assert where == "body"
    assert what == f"the body has more than {MAX_BYTES} bytes, unpacked"
    assert remedy == f"send at most {MAX_BYTES} bytes, or raise server.max_body_mb"


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("encoding", ["deflate, gzip", "br", "zstd", "IDENTITY, gzip"])
def test_a_body_compressed_in_another_way(asked, path, encoding):
    body = gzip.compress(GOOD[path].encode())
    request = {"content": body, "headers": {"content-encoding": encoding}}
    where, what, remedy = refused(asked, path, 415, **request)
    assert where == "header Content-Encoding"
    assert repr(encoding) in what
    assert remedy == "send gzip, deflate or the body as it is"


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize(
    "value", ["soon", "", "0", "-5", "nan", "inf", "-inf", "1 s", "9" * 400], ids=short
)
def test_a_deadline_that_is_none(asked, path, value):
    request = {"content": GOOD[path], "headers": {"x-headgate-deadline-ms": value}}
    where, what, remedy = refused(asked, path, **request)
    assert where == "header X-Headgate-Deadline-Ms"
    assert repr(value[:60]) in what
    assert remedy == "send milliseconds, a number above 0"


@pytest.mark.parametrize("path", GOOD)
def test_a_deadline_however_far(asked, path):
    for value in ("1e300", "1e9", "60000"):
        headers = {"x-headgate-deadline-ms": value}
        assert asked.post(path, content=GOOD[path], headers=headers).status_code == 200


@pytest.mark.parametrize("path", [V1, TYPED, OIP])
def test_too_many_rows(asked, path):
    rows = MAX_ROWS + 1
    body = (
        {"inputs": tensors(carrier=["UA"] * rows, distance=[1] * rows, wind=[1] * rows)}
        if path == OIP
        else {"instances": [ROW] * rows}
    )
    found = refused(asked, path, 413, json=body)
    assert found == ("body", f"{rows} rows", f"send at most {MAX_ROWS} rows at a time")
    # The body was read, so the connection can be kept.
    assert "connection" not in asked.post(path, json=body).headers


@pytest.mark.parametrize("path", GOOD)
def test_too_many_bytes(asked, path):
    where, what, remedy = refused(asked, path, 413, content=b"x" * (MAX_BYTES + 1))
    assert (where, what) == ("body", f"the body has {MAX_BYTES + 1} bytes")
    assert remedy == f"send at most {MAX_BYTES} bytes, or raise server.max_body_mb"


@pytest.mark.parametrize("path", GOOD)
def test_too_many_bytes_in_chunks_are_cut_off(asked, path, monkeypatch):
    monkeypatch.setattr(http, "_DISCARD_BYTES", 4 * MAX_BYTES)
    taken = []

    async def endless():
        while True:
            taken.append(1000)
            yield b" " * 1000
            await asyncio.sleep(0)

    where, what, _ = refused(asked, path, 413, content=endless())
    assert (where, what) == ("body", f"the body has more than {MAX_BYTES} bytes")
    assert sum(taken) < 6 * MAX_BYTES


@pytest.mark.parametrize("path", GOOD)
def test_a_body_in_chunks_is_as_good_as_in_one_piece(asked, path):
    async def chunks():
        for byte in GOOD[path].encode():
            yield bytes([byte])

    whole = asked.post(path, content=GOOD[path])
    assert asked.post(path, content=chunks()).json() == whole.json()
