"""NumPy's files to a batch and back."""

from __future__ import annotations

import io
import pickle
import re
import struct

import numpy as np
import pytest
from predictor.factory import TABLE_SIGNATURE, TENSOR_SIGNATURE

from headgate.errors import InputError
from headgate.predictor import Field, Signature
from headgate.serving.http import TooLargeError
from headgate.serving.protocols.npy import array_to_npy, npy_to_batch

MOST = 5
X = np.arange(60, dtype=np.float32).reshape(2, 30)
NUMBERS = Signature(
    inputs=(
        Field(name="whole", dtype="int64"),
        Field(name="real", dtype="float32", nullable=True),
    ),
    outputs=(),
    task="tensor",
)


def file(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def headed(header, data=b""):
    """A file whose header is this text."""
    raw = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + data


@pytest.mark.parametrize(
    "array",
    [X, X.astype("f8"), X.astype(">f4"), X.astype(">i2"), np.asfortranarray(X), X.astype("u1")],
    ids=lambda array: f"{array.dtype.str}{'F' if array.flags.f_contiguous else 'C'}",
)
def test_rows_of_a_tensor_arrive_however_they_lie(array):
    batch = npy_to_batch(TENSOR_SIGNATURE, file(array), MOST)
    assert batch["x"].dtype == np.float32
    assert batch["x"].tolist() == X.tolist()
    one = npy_to_batch(TENSOR_SIGNATURE, file(X[0]), MOST)
    assert one["x"].tolist() == X[:1].tolist()


def test_columns_of_a_table_arrive_in_their_order():
    batch = npy_to_batch(NUMBERS, file(np.array([[1, 0.5], [2, np.nan]])), MOST)
    assert batch["whole"].tolist() == [1, 2]
    assert batch["real"][0] == 0.5
    assert np.isnan(batch["real"][1])
    assert npy_to_batch(NUMBERS, file(np.array([3, 4])), MOST)["whole"].tolist() == [3]


class Bomb:
    opened = False

    def __reduce__(self):
        return (setattr, (Bomb, "opened", True))


ONE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 30), }"
BAD = {
    "nothing": (b"", "no array of NumPy: it does not begin as one"),
    "half a magic number": (file(X)[:7], "no array of NumPy: it does not begin as one"),
    "something else": (b"PK\x03\x04" + bytes(100), "no array of NumPy: it does not begin as one"),
    "half a header": (file(X)[:20], "no array of NumPy: it ends in its header"),
    "an unheard-of version": (
        b"\x93NUMPY\x09\x00" + bytes(100),
        "no array of NumPy: version 9.0 of its format is unknown",
    ),
    "no header": (headed("1 + 1"), "its header does not say descr, fortran_order and shape"),
    "a call": (headed("__import__('os').getcwd()"), "no array of NumPy"),
    "a deep header": (headed("(" * 9000), "no array of NumPy"),
    "an open string": (headed("{'descr"), "no array of NumPy"),
    "a long header": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(100), "no array"),
    "a type that is none": (headed(ONE.replace("<f4", "<f5")), "no array of NumPy"),
    "cut off": (file(X)[:-1], r"239 bytes for float32 of shape \[2, 30\]"),
    "too long": (file(X) + b"x", r"241 bytes for float32 of shape \[2, 30\]"),
    "petabytes": (headed(ONE.replace("1,", "10**15,")), "no array of NumPy"),
    "exabytes": (headed(ONE.replace("1,", f"{10**18},")), "0 bytes for float32 of shape"),
    "fewer than none": (headed(ONE.replace("1,", "-1,")), "an array of 2 dimensions"),
    "many dimensions": (headed(ONE.replace("(1, 30)", "(" + "1," * 60 + ")")), "60 dimensions"),
    "a number": (file(np.float32(1)), r"an array of shape \[\]"),
    "another shape": (file(X[:, 1:]), r"an array of shape \[2, 29\]"),
    "another order": (file(X.T), r"an array of shape \[30, 2\]"),
    "no rows": (file(X[:0]), "no rows"),
    "text": (file(np.array([["a"] * 30])), "an array of <U1"),
    "times": (file(np.zeros((1, 30), "M8[s]")), "an array of datetime64"),
    "complex numbers": (file(X.astype("c8")), "an array of complex64"),
    "records": (file(np.zeros(3, "f4,f4")), "send an array of numbers"),
    "booleans": (file(X > 1), "an array of bool"),
    "NaN": (file(np.full((1, 30), np.nan)), r"body.x\[0\]\[0\]: nan is not a finite number"),
    "infinity in 16 bits": (file(np.full((1, 30), np.inf, "f2")), "inf is not a finite number"),
    "more than float32 holds": (file(np.full((1, 30), 1e300)), "does not fit into float32"),
    "objects": (file(np.array([[Bomb()] * 30]), allow_pickle=True), "an array of object"),
    "a pickle": (pickle.dumps(Bomb()), "no array of NumPy"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    body, what = BAD[case]
    with pytest.raises(InputError, match=what) as caught:
        npy_to_batch(TENSOR_SIGNATURE, body, MOST)
    assert caught.value.remedy
    assert len(str(caught.value)) < 400
    assert not re.search("ast[.]|object at|0x", str(caught.value))
    assert not Bomb.opened


def test_too_many_rows_are_too_many():
    with pytest.raises(TooLargeError, match="6 rows"):
        npy_to_batch(TENSOR_SIGNATURE, file(np.zeros((6, 30))), MOST)


def test_a_table_of_text_has_no_array():
    with pytest.raises(InputError, match="carrier: an array of float64"):
        npy_to_batch(TABLE_SIGNATURE, file(np.zeros((1, 3))), MOST)


def test_several_tensors_have_none_either():
    two = (Field(name="a", dtype="float32", shape=(2,)), Field(name="b", dtype="float32"))
    both = Signature(inputs=two, outputs=(), task="tensor")
    with pytest.raises(InputError, match="one array for several tensors"):
        npy_to_batch(both, file(np.zeros((1, 3))), MOST)


@pytest.mark.parametrize(
    "array",
    [np.array([1, 2]), X, np.array(["late", "on time ✈"], dtype=object)],
    ids=["i", "f", "s"],
)
def test_outputs_are_files(array):
    read = np.load(io.BytesIO(array_to_npy(array)), allow_pickle=False)
    assert read.tolist() == array.tolist()
    assert read.shape == array.shape
