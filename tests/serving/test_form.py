"""Forms of one field, as curl and the clients of TorchServe send them."""

from __future__ import annotations

import base64

import pytest

from headgate.errors import InputError
from headgate.serving.http import TooLargeError
from headgate.serving.protocols.form import content, is_multipart

MULTIPART = b"multipart/form-data; boundary=xyz"
URLENCODED = b"application/x-www-form-urlencoded"
JSON = b'{"a": "1+1=2 & \xc3\xa9"}'


def part(data, head=b'Content-Disposition: form-data; name="data"'):
    return b"--xyz\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


END = b"--xyz--\r\n"
FILE = b'content-disposition: form-data; name="data"; filename="row.json"\r\ncontent-type: '


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="data"',
        b'Content-Disposition: form-data; name="body"',
        b"content-disposition: form-data; name=data",
        FILE + b"application/json",
        FILE + b"application/octet-stream",
    ],
)
@pytest.mark.parametrize("data", [JSON, b"", b"\r\n--xy", b"[" + b" " * 3_000_000 + b"1]"], ids=len)
def test_the_only_part_is_the_body(head, data):
    assert content(part(data, head) + END, MULTIPART) == data


def test_a_part_may_say_how_it_is_written():
    head = FILE + b"application/json\r\nContent-Transfer-Encoding: "
    assert content(part(base64.b64encode(JSON), head + b"base64") + END, MULTIPART) == JSON
    with pytest.raises(InputError, match="Unknown Content-Transfer-Encoding"):
        content(part(JSON, head + b"x-rot13") + END, MULTIPART)
    with pytest.raises(InputError, match="it cannot be read"):
        content(part(b"!!!!!", head + b"base64") + END, MULTIPART)


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        (b"data=%7B%22a%22%3A+%221%2B1%3D2+%26+%C3%A9%22%7D", JSON),
        (b"body=%5b1%5d&", b"[1]"),
        (b'data={"a":1}', b'{"a":1}'),
        (b"data=", b""),
        (b"data=%FF\xfe", b"\xff\xfe"),
    ],
)
def test_the_only_field_is_the_body(body, plain):
    assert content(body, URLENCODED) == plain
    assert content(body, b"Application/X-WWW-Form-URLEncoded; charset=utf-8") == plain


@pytest.mark.parametrize("body", [b"", JSON, b' \n["a=b"]', b'"a=b"', b"7", b"x" * 100])
def test_what_is_no_form_is_left_alone(body):
    assert content(body, URLENCODED) is body
    assert content(body, b"text/plain") is body


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (part(b"1") + part(b"2") + END, "more than one"),
        (part(b"1") * 50_000 + END, "more than one"),
        (END, "there is none"),
        (part(b"1", b'Content-Disposition: form-data; name="image"') + END, "'image' is unknown"),
        (part(b"1", b"Content-Disposition: form-data") + END, "Field name not found"),
        (part(b"1", b"a: b") + END, "Field name not found"),
        (part(b"1"), "ends before it is complete"),
        (part(b"1") + b"--xyz", "ends before it is complete"),
        (b"", "ends before it is complete"),
        (JSON, "boundary"),
        (b"--abc\r\n\r\n", "boundary"),
        (part(b"1", b"a: b\r\n" * 1000 + b"c: d") + END, "eader"),
        (part(b"1", b"a: " + b"b" * 100_000) + END, "eader"),
    ],
    ids=lambda value: value if isinstance(value, str) else len(value),
)
def test_parts_that_are_wrong(body, what):
    with pytest.raises(InputError, match=what) as caught:
        content(body, MULTIPART)
    assert caught.value.where == "form"
    assert caught.value.remedy == "send one field, data or body, with the JSON"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"data=1&data=2", "more than one"),
        (b"data=1&body=2", "more than one"),
        (b"data=1&" * 30_000, "more than one"),
        (b"=", "'' is unknown"),
        (b"image=1", "'image' is unknown"),
        (b"x" * 10_000 + b"=1", f"'{'x' * 60}' is unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else len(value),
)
def test_fields_that_are_wrong(body, what):
    with pytest.raises(InputError, match=what) as caught:
        content(body, URLENCODED)
    assert caught.value.where == "form"


def test_a_long_urlencoded_form_is_not_undone():
    """Escapes are dear; JSON that is only called a form has none."""
    most = b"data=" + b"%31" * ((262_144 - 5) // 3)
    assert set(content(most, URLENCODED)) == set(b"1")
    with pytest.raises(TooLargeError, match="an urlencoded form of 262145 bytes") as caught:
        content(most.ljust(262_145, b"1"), URLENCODED)
    assert "or multipart/form-data, or JSON itself" in caught.value.remedy
    long = b'["' + b"=" * 300_000 + b'"]'
    assert content(long, URLENCODED) is long


@pytest.mark.parametrize("kind", [b"multipart/form-data", b"multipart/form-data; boundary="])
def test_a_form_without_a_boundary(kind):
    with pytest.raises(InputError, match="no boundary") as caught:
        content(part(b"1") + END, kind)
    assert caught.value.where == "header Content-Type"


def test_a_boundary_that_is_too_long():
    with pytest.raises(InputError, match="Boundary length"):
        content(part(b"1") + END, b"multipart/form-data; boundary=" + b"x" * 10_000)


def test_whatever_is_spoilt_is_a_bad_request_or_none():
    whole = part(JSON, FILE + b"application/json") + END
    refused = 0
    for place in range(len(whole)):
        for byte in (b"", b"\0", b"\r", b"\n", b"-", b"\xff", b":", b'"'):
            try:
                found = content(whole[:place] + byte + whole[place + 1 :], MULTIPART)
            except InputError:
                refused += 1
            else:
                assert len(found) <= len(JSON) + 1
    assert refused > len(whole)


def test_what_is_wrong_with_a_form_is_not_logged(caplog):
    for body in (b"x", END + b"more", part(JSON, FILE + b"a/b\r\ncontent-transfer-encoding: z")):
        with pytest.raises(InputError):
            content(body, MULTIPART)
    assert not caplog.records


@pytest.mark.parametrize(
    ("kind", "is_one"),
    [
        (b"multipart/form-data", True),
        (b" Multipart/Form-Data ;boundary=x", True),
        (b"multipart/mixed; boundary=x", False),
        (b"multipart/form-data-x", False),
        (b"", False),
    ],
)
def test_a_form_in_parts_is_told_by_its_type(kind, is_one):
    assert is_multipart(kind) is is_one
