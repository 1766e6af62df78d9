"""Compressed bodies of requests, as their ``Content-Encoding`` has them."""

from __future__ import annotations

import zlib

from headgate.errors import InputError
from headgate.serving.http import too_large

__all__ = ["unpacked"]

_GZIP, _ZLIB, _BARE = 31, 15, -15
"""What zlib calls these formats."""
_MARK = 8
"""How zlib's format begins, in the low half of its first byte: https://www.rfc-editor.org/rfc/rfc1950"""


def unpacked(body: bytes, encoding: bytes, limit: int, *, fixed: bool = False) -> bytes:
    """The body that was compressed as ``encoding``, one of :data:`headgate.serving.http.CODINGS`.

    No more than ``limit`` bytes and one come out, whatever went in. It is done on the event loop,
    which it holds for some 4 ms a MiB that comes out, 60 ms for 16 MiB: less than it takes to parse
    them as JSON.

    Args:
        body: as it came.
        encoding: the value of the header, in any case.
        limit: bytes that may come out.
        fixed: whether ``limit`` is not ``server.max_body_mb``.

    Raises:
        TooLargeError: more than ``limit`` bytes would come out.
        InputError: it is broken, cut short, or goes on after its end.
    """
    coding = encoding.lower()
    if coding == b"identity":
        return body
    kind = _GZIP
    if coding == b"deflate":
        # Some send it without zlib's header, which browsers and proxies understand too.
        kind = _ZLIB if body and body[0] & 15 == _MARK else _BARE
    inflater = zlib.decompressobj(kind)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise _broken(f"the body cannot be unpacked: {error}", coding) from None
    if len(plain) > limit:
        raise too_large(limit, f"more than {limit} bytes, unpacked", fixed=fixed)
    if not inflater.eof:
        raise _broken("the body ends before it is complete", coding)
    if inflater.unused_data:
        raise _broken(f"{len(inflater.unused_data)} bytes follow the end of the body", coding)
    return plain


def _broken(what: str, coding: bytes) -> InputError:
    return InputError(
        what,
        where="header Content-Encoding",
        remedy=f"compress the whole body with {coding.decode()}, once, or leave the header out",
    )
