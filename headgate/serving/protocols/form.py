"""Forms of one field: what ``curl -F data=@FILE``, ``--data-urlencode`` and a client's upload send."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from headgate.errors import InputError
from headgate.serving.http import TooLargeError
from headgate.serving.protocols.tensors import shown

__all__ = ["content", "is_multipart"]

_MULTIPART = b"multipart/form-data"
_URLENCODED = b"application/x-www-form-urlencoded"
_FIELDS = ("data", "body")
_JSON_BEGINS = (b"{", b"[", b'"')
_REMEDY = "send one field, data or body, with the JSON"
_MOST_SPACE = 64
_MOST_ESCAPED = 262_144
"""Bytes, of which each third may be an escape. Undoing them holds the event loop for 40 ms then."""
# A file on disk would be written by the event loop; the body is in memory anyway.
_PARSER = {"MAX_MEMORY_FILE_SIZE": float("inf"), "UPLOAD_ERROR_ON_BAD_CTE": True}
# What is wrong with a form is told to its sender, who shall not fill the log with it.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def is_multipart(kind: bytes) -> bool:
    """Whether a content type is that of a form in parts."""
    return kind.partition(b";")[0].strip().lower() == _MULTIPART


def content(body: bytes, kind: bytes) -> bytes:
    """The content of the only field of a form, or the body where it is none.

    ``kind`` is the body's content type. JSON that is called urlencoded, as curl's ``-d`` does, is JSON.

    Raises:
        InputError: the form is broken, or has not exactly one field, ``data`` or ``body``.
        TooLargeError: it is urlencoded, and longer than such forms may be.
    """
    plain = kind.partition(b";")[0].strip().lower()
    if plain == _MULTIPART:
        return _in_parts(body, kind)
    if plain != _URLENCODED:
        return body
    begin = body[:_MOST_SPACE].lstrip()
    if begin.startswith(_JSON_BEGINS) or b"=" not in body:
        return body
    return _urlencoded(body)


def _urlencoded(body: bytes) -> bytes:
    if len(body) > _MOST_ESCAPED:
        raise TooLargeError(
            f"an urlencoded form of {len(body)} bytes",
            where="form",
            remedy=f"send at most {_MOST_ESCAPED} bytes so, or multipart/form-data, or JSON itself",
        )
    try:
        # As Latin-1 every byte is itself.
        pairs = parse_qsl(
            body.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=2
        )
    except ValueError:
        raise _not_one("more than one") from None
    if len(pairs) != 1:
        raise _not_one("more than one" if pairs else "none")
    ((name, value),) = pairs
    _check_name(name)
    return value.encode("latin-1")


def _in_parts(body: bytes, kind: bytes) -> bytes:
    boundary = parse_options_header(kind)[1].get(b"boundary")
    if not boundary:
        raise InputError(
            "it names no boundary", where="header Content-Type", remedy="name the form's boundary"
        )
    found: list[bytes] = []
    ended: list[bool] = []

    def take(read: Callable[[Any], bytes]) -> Callable[[Any], None]:
        def taken(field: Any) -> None:
            # Said at the second, lest a body of nothing but fields be read to its end.
            if found:
                raise _not_one("more than one")
            _check_name((field.field_name or b"").decode("latin-1"))
            found.append(read(field))

        return taken

    try:
        parser = FormParser(
            _MULTIPART.decode(),
            take(lambda field: field.value or b""),
            take(lambda file: file.file_object.getvalue()),
            lambda: ended.append(True),
            boundary=boundary,
            config=_PARSER,
        )
        parser.write(body)
    except FormParserError as error:
        raise _broken(f"it cannot be read: {error}") from None
    if not ended:
        raise _broken("it ends before it is complete")
    if not found:
        raise _not_one("none")
    return found[0]


def _check_name(name: str) -> None:
    if name not in _FIELDS:
        raise InputError(f"the field {shown(name)} is unknown", where="form", remedy=_REMEDY)


def _not_one(how_many: str) -> InputError:
    return InputError(f"of fields there is {how_many}", where="form", remedy=_REMEDY)


def _broken(what: str) -> InputError:
    return InputError(what[:200], where="form", remedy=_REMEDY)
