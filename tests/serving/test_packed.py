"""Compressed bodies: what comes out of them, how much at most, and what is said of broken ones."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from headgate.errors import InputError
from headgate.serving.http import CODINGS, TooLargeError
from headgate.serving.packed import unpacked

LIMIT = 100_000
TEXT = b'{"instances": [[0.5, 1.5]]}' * 100


def bare(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACK = [
    (b"gzip", gzip.compress),
    (b"GZIP", gzip.compress),
    (b"x-gzip", gzip.compress),
    (b"deflate", zlib.compress),
    (b"Deflate", bare),
    (b"identity", bytes),
]


def test_every_coding_is_tried():
    assert {encoding.lower() for encoding, _ in PACK} == CODINGS


@pytest.mark.parametrize(("encoding", "pack"), PACK)
@pytest.mark.parametrize("plain", [b"", b"{", TEXT, b"x" * LIMIT], ids=len)
def test_what_went_in_comes_out(encoding, pack, plain):
    assert unpacked(pack(plain), encoding, LIMIT) == plain


@pytest.mark.parametrize(("encoding", "pack"), PACK[:-1])
def test_a_bomb_stops_at_the_limit(encoding, pack):
    bomb = pack(bytes(50 * LIMIT))
    assert len(bomb) < LIMIT
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match=f"more than {LIMIT} bytes, unpacked") as caught:
            unpacked(bomb, encoding, LIMIT)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 5 * LIMIT
    assert not caught.value.unread
    assert caught.value.remedy == f"send at most {LIMIT} bytes, or raise server.max_body_mb"


def test_a_limit_that_is_no_setting_is_not_called_one():
    with pytest.raises(TooLargeError) as caught:
        unpacked(gzip.compress(bytes(11)), b"gzip", 10, fixed=True)
    assert caught.value.remedy == "send at most 10 bytes"


@pytest.mark.parametrize(("encoding", "pack"), PACK[:-1])
@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda _: b"", "ends before it is complete"),
        (lambda body: body[:-1], "ends before it is complete"),
        (lambda body: body + b"xy", "2 bytes follow the end"),
        (lambda body: body * 2, "bytes follow the end"),
        (lambda _: b"\xff" * 40, "cannot be unpacked"),
    ],
)
def test_a_broken_one_names_the_header(encoding, pack, spoil, what):
    with pytest.raises(InputError, match=what) as caught:
        unpacked(spoil(pack(TEXT)), encoding, LIMIT)
    assert caught.value.where == "header Content-Encoding"
    assert f"with {encoding.decode().lower()}" in caught.value.remedy


@pytest.mark.parametrize(("encoding", "pack"), [PACK[0], PACK[3]])
def test_a_checksum_that_is_wrong_is_noticed(encoding, pack):
    body = bytearray(pack(TEXT))
    body[-5 if encoding == b"gzip" else -1] ^= 1
    with pytest.raises(InputError, match="incorrect data check"):
        unpacked(bytes(body), encoding, LIMIT)
