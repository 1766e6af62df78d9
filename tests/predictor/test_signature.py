"""A signature says what it can say, and nothing else."""

from __future__ import annotations

import msgspec
import pytest

from headgate.predictor import Field, Signature

COLUMN = Field(name="wind", dtype="float64", nullable=True)
TENSOR = Field(name="image", dtype="float32", shape=(8, 8))
OUT = Field(name="prediction", dtype="float32")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
def test_nothing_but_strings_and_floats_is_nullable(dtype) -> None:
    with pytest.raises(ValueError, match="cannot be nullable"):
        Field(name="a", dtype=dtype, nullable=True)


def test_a_shape_has_no_empty_or_open_size() -> None:
    for size in (0, -1):
        with pytest.raises(ValueError, match="below 1"):
            Field(name="a", dtype="float32", shape=(2, size))


def test_a_table_has_columns_only() -> None:
    assert Signature(inputs=(COLUMN, COLUMN), outputs=(OUT,), task="regression").is_table
    mixed = Signature(inputs=(COLUMN, TENSOR), outputs=(OUT,), task="regression")
    assert not mixed.is_table
    assert mixed.input_names == {"wind", "image"}


def test_it_survives_json_and_refuses_what_is_wrong() -> None:
    signature = Signature(
        inputs=(COLUMN, TENSOR), outputs=(OUT,), task="classification", classes=("a", "b")
    )
    assert signature.is_table is False
    raw = msgspec.json.encode(signature)
    assert msgspec.json.decode(raw, type=Signature) == signature
    for broken in (raw.replace(b"float64", b"float65"), raw.replace(b'"task"', b'"tusk"')):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(broken, type=Signature)
    with pytest.raises(msgspec.ValidationError, match="cannot be nullable"):
        msgspec.json.decode(raw.replace(b"float64", b"int64"), type=Signature)
