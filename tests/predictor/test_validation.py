"""Bad input of every kind becomes an InputError that names place, value and remedy."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import InputError
from headgate.predictor import (
    Field,
    Signature,
    arrays_to_batch,
    columns_to_batch,
    rows_to_batch,
)

OUTPUT = (Field(name="prediction", dtype="float32"),)
TABLE = Signature(
    inputs=(
        Field(name="carrier", dtype="string", nullable=True),
        Field(name="tail", dtype="string"),
        Field(name="distance", dtype="int64"),
        Field(name="wind", dtype="float64", nullable=True),
        Field(name="hour", dtype="float32"),
        Field(name="rain", dtype="bool"),
        Field(name="level", dtype="uint8"),
        Field(name="code", dtype="int32"),
    ),
    outputs=OUTPUT,
    task="regression",
)
ROW: dict[str, Any] = {
    "carrier": "UA",
    "tail": "N1",
    "distance": 100,
    "wind": 3.5,
    "hour": 7,
    "rain": False,
    "level": 255,
    "code": -5,
}
IMAGE = Signature(
    inputs=(Field(name="image", dtype="float32", shape=(2, 3)),), outputs=OUTPUT, task="regression"
)
TWO = Signature(
    inputs=(
        Field(name="a", dtype="float32", shape=(2,)),
        Field(name="b", dtype="int64", shape=(1, 2)),
    ),
    outputs=OUTPUT,
    task="tensor",
)


def test_a_row_of_a_table_becomes_typed_columns() -> None:
    batch = rows_to_batch(TABLE, [ROW, {**ROW, "carrier": None, "wind": None}])
    assert {name: array.dtype.name for name, array in batch.items()} == {
        "carrier": "object",
        "tail": "object",
        "distance": "int64",
        "wind": "float64",
        "hour": "float32",
        "rain": "bool",
        "level": "uint8",
        "code": "int32",
    }
    assert batch["carrier"].tolist() == ["UA", None]
    assert batch["wind"][0] == 3.5
    assert math.isnan(batch["wind"][1])


def test_the_smallest_integer_is_told_from_what_json_makes_of_a_smaller_one() -> None:
    smallest = -(2**63)
    assert rows_to_batch(TABLE, [{**ROW, "distance": smallest}])["distance"][0] == smallest
    for below in (float(smallest - 1), np.nextafter(float(smallest), -math.inf)):
        with pytest.raises(InputError, match="is no int64") as caught:
            rows_to_batch(TABLE, [ROW, {**ROW, "distance": float(below)}])
        assert caught.value.where == "instances[1].distance"
        with pytest.raises(InputError, match="is no int64"):
            arrays_to_batch(
                Signature(inputs=TABLE.inputs[2:3], outputs=OUTPUT, task="regression"),
                {"distance": np.array([1.0, below])},
            )
    batch = rows_to_batch(TABLE, [{**ROW, "code": -(2.0**31)}])
    assert batch["code"][0] == -(2**31)


def test_the_strings_nan_and_none_are_strings() -> None:
    batch = rows_to_batch(TABLE, [{**ROW, "carrier": text} for text in ("nan", "None", "", None)])
    assert batch["carrier"].tolist() == ["nan", "None", "", None]


BAD_VALUES = [
    ("carrier", 5, "5 is no string", "send a string or null"),
    ("tail", None, "null is not allowed", "send a string"),
    ("tail", "\ud800", "surrogate", "UTF-8"),
    ("distance", "7", "'7' is no int64", "send an integer"),
    ("distance", 1.5, "1.5 is no int64", "send an integer"),
    ("distance", True, "True is no int64", "send an integer"),
    ("distance", None, "null is not allowed", "send an integer"),
    ("distance", 2**63, "does not fit into int64", "9223372036854775807"),
    ("distance", 10**5000, "an integer of 16610 bits", "send an integer"),
    ("distance", float("inf"), "inf is no int64", "send an integer"),
    ("level", 256, "256 does not fit into uint8", "from 0 to 255"),
    ("level", -1, "-1 does not fit into uint8", "from 0 to 255"),
    ("code", 2**31, "does not fit into int32", "2147483647"),
    ("wind", "fast", "'fast' is no float64", "send a number or null"),
    ("hour", float("nan"), "nan is not a finite number", "send a finite number"),
    ("wind", float("inf"), "inf is not a finite number", "or null"),
    ("wind", [1.0], "a list of 1 is no float64", "send a number"),
    ("wind", {"x": 1}, "an object is no float64", "send a number"),
    ("wind", 10**400, "an integer of 1329 bits does not fit", "send a number"),
    ("hour", None, "null is not allowed", "send a number"),
    ("hour", 1e39, "1e+39 does not fit into float32", "send a finite number"),
    ("wind", 1e300, "1e+300 does not fit into float32", "or null"),
    ("hour", False, "False is no float32", "send a number"),
    ("rain", 1, "1 is no bool", "true or false"),
    ("rain", "true", "'true' is no bool", "true or false"),
    ("rain", None, "null is not allowed", "true or false"),
]


@pytest.mark.parametrize(
    ("column", "value", "what", "remedy"),
    BAD_VALUES,
    ids=[f"{each[0]}-{index}" for index, each in enumerate(BAD_VALUES)],
)
def test_a_bad_value_is_named_with_its_place(column, value, what, remedy) -> None:
    with pytest.raises(InputError) as caught:
        rows_to_batch(TABLE, [ROW, ROW, {**ROW, column: value}])
    assert what in caught.value.what
    assert caught.value.where == f"instances[2].{column}"
    assert remedy in caught.value.remedy
    with pytest.raises(InputError) as caught:
        columns_to_batch(
            TABLE,
            {name: [ROW[name]] * 2 + [value if name == column else ROW[name]] for name in ROW},
        )
    assert caught.value.where == f"inputs.{column}[2]"


def test_nan_is_null_where_null_is_allowed() -> None:
    for other in (1.5, None):
        batch = rows_to_batch(TABLE, [{**ROW, "wind": math.nan}, {**ROW, "wind": other}])
        assert math.isnan(batch["wind"][0])
    batch = rows_to_batch(TABLE, [{**ROW, "carrier": math.nan}])
    assert batch["carrier"].tolist() == [None]
    with pytest.raises(InputError, match="null is not allowed"):
        rows_to_batch(TABLE, [{**ROW, "tail": math.nan}])


def test_integral_floats_are_integers() -> None:
    batch = rows_to_batch(TABLE, [{**ROW, "distance": 7.0, "level": 8.0}])
    assert batch["distance"].tolist() == [7]
    assert batch["level"].tolist() == [8]


@pytest.mark.parametrize(
    ("rows", "where", "what"),
    [
        ([], "instances", "no rows"),
        ([5], "instances[0]", "5 is no object"),
        ([ROW, None], "instances[1]", "null is no object"),
        ([[1, 2]], "instances[0]", "a list of 2 is no object"),
        ([{}], "instances[0]", "column 'carrier' is missing"),
        ([{k: v for k, v in ROW.items() if k != "wind"}], "instances[0]", "'wind' is missing"),
        ([{**ROW, "speed": 1}], "instances[0]", "column 'speed' is unknown"),
        ("text", "instances", "'text' is no list"),
        (7, "instances", "7 is no list"),
        ({"a": 1}, "instances", "an object is no list"),
    ],
)
def test_bad_rows(rows, where, what) -> None:
    with pytest.raises(InputError) as caught:
        rows_to_batch(TABLE, rows)
    assert caught.value.where == where
    assert what in caught.value.what
    assert caught.value.remedy


def test_a_missing_nullable_column_says_that_null_will_do() -> None:
    with pytest.raises(InputError, match="null is allowed"):
        rows_to_batch(TABLE, [{k: v for k, v in ROW.items() if k != "wind"}])


def test_one_tensor_takes_lists_or_objects() -> None:
    image = [[1, 2.5, 3], [4, 5, 6]]
    for rows in ([image, image], [{"image": image}, {"image": image}]):
        batch = rows_to_batch(IMAGE, rows)
        assert batch["image"].shape == (2, 2, 3)
        assert batch["image"].dtype == np.float32
        assert batch["image"][1].tolist() == image


@pytest.mark.parametrize(
    ("rows", "where", "what"),
    [
        ([[[1, 2, 3]]], "instances[0]", "1 values where 2 belong"),
        ([[[1, 2, 3], [4, 5]]], "instances[0][1]", "2 values where 3 belong"),
        ([[[1, 2, 3], 4]], "instances[0][1]", "4 is no list of 3"),
        ([[[1, 2, 3], [4, "5", 6]]], "instances[0][1][1]", "'5' is no float32"),
        ([[[1, 2, 3], [4, None, 6]]], "instances[0][1][1]", "null is not allowed"),
        ([[[1, 2, 3], [4, [5], 6]]], "instances[0][1][1]", "a list of 1 is no float32"),
        ([[[1, 2, 3], [4, 1e39, 6]]], "instances[0][1][1]", "does not fit into float32"),
        ([[[1, 2, 3], [4, 5, 6]], 7], "instances[1]", "7 is no list of 2"),
        ([[[1, 2, 3], [4, 5, 6]], {"image": []}], "instances[1]", "an object is no list"),
        ([{"image": [[1, 2, 3], [4, 5, True]]}], "instances[0].image[1][2]", "True is no"),
        ([{"picture": []}], "instances[0]", "input 'image' is missing"),
    ],
)
def test_bad_tensors(rows, where, what) -> None:
    with pytest.raises(InputError) as caught:
        rows_to_batch(IMAGE, rows)
    assert caught.value.where == where
    assert what in caught.value.what
    assert caught.value.remedy


def test_several_tensors_take_objects() -> None:
    batch = rows_to_batch(TWO, [{"a": [1, 2], "b": [[3, 4]]}] * 3)
    assert batch["a"].shape == (3, 2)
    assert batch["b"].shape == (3, 1, 2)
    batch = columns_to_batch(TWO, {"b": [[[3, 4]]], "a": [[1, 2]]})
    assert list(batch) == ["a", "b"]
    with pytest.raises(InputError, match="no object"):
        rows_to_batch(TWO, [[1, 2]])


def test_columns_must_be_of_one_length() -> None:
    columns = {name: [value] * 2 for name, value in ROW.items()}
    with pytest.raises(InputError) as caught:
        columns_to_batch(TABLE, {**columns, "hour": [1, 2, 3]})
    assert "rows where another input has 3" in caught.value.what
    with pytest.raises(InputError, match="no rows"):
        columns_to_batch(TABLE, {name: [] for name in ROW})
    with pytest.raises(InputError, match="is unknown"):
        columns_to_batch(TABLE, {**columns, "speed": [1, 2]})
    with pytest.raises(InputError) as caught:
        columns_to_batch(TABLE, {**columns, "hour": 5})
    assert caught.value.where == "inputs.hour"


def test_arrays_of_any_width_are_cast_once() -> None:
    arrays = {name: np.array([value, value]) for name, value in ROW.items()}
    arrays["carrier"] = np.array([b"UA", "D\u00e9".encode()], dtype=object)
    arrays["hour"] = np.array([[7.5], [8.0]])
    arrays["distance"] = np.array([5.0, 6.0], dtype=np.float32)
    arrays["wind"] = np.array([np.nan, 1], dtype=np.float32)
    batch = arrays_to_batch(TABLE, arrays)
    assert batch["carrier"].tolist() == ["UA", "Dé"]
    assert batch["hour"].tolist() == [7.5, 8.0]
    assert batch["hour"].dtype == np.float32
    assert batch["distance"].tolist() == [5, 6]
    assert np.isnan(batch["wind"][0])
    fitting = np.zeros((4, 2, 3), dtype=np.float32)
    assert arrays_to_batch(IMAGE, {"image": fitting})["image"].base is not None


@pytest.mark.parametrize(
    ("column", "array", "where", "what"),
    [
        ("carrier", np.array([1, 2]), "inputs.carrier", "an array of int64"),
        ("carrier", np.array([b"\xff", b"x"], dtype=object), "inputs.carrier[0]", "no UTF-8"),
        ("carrier", np.array([1, "x"], dtype=object), "inputs.carrier[0]", "1 is no string"),
        ("tail", np.array(["x", None], dtype=object), "inputs.tail[1]", "null is not allowed"),
        ("distance", np.array([1.5, 2]), "inputs.distance[0]", "1.5 is no int64"),
        ("distance", np.array([np.nan, 2]), "inputs.distance[0]", "nan is no int64"),
        ("distance", np.array([0, 2.0**63]), "inputs.distance[1]", "is no int64"),
        ("distance", np.array([0, 2**63], dtype=np.uint64), "inputs.distance[1]", "is no int64"),
        ("distance", np.array([True, False]), "inputs.distance", "an array of bool"),
        ("level", np.array([1, 256]), "inputs.level[1]", "256 is no uint8"),
        ("level", np.array([-1, 2]), "inputs.level[0]", "-1 is no uint8"),
        ("hour", np.array([1, np.inf]), "inputs.hour[1]", "inf is not a finite number"),
        ("hour", np.array([1, 1e39]), "inputs.hour[1]", "does not fit into float32"),
        ("hour", np.array([np.nan, 1]), "inputs.hour[0]", "nan is not a finite number"),
        ("hour", np.array(["1", "2"]), "inputs.hour", "an array of <U1"),
        ("hour", np.array([1j, 2]), "inputs.hour", "an array of complex128"),
        ("hour", np.zeros((2, 2)), "inputs.hour", "shape [2, 2]"),
        ("hour", np.array(1.0), "inputs.hour", "is no array"),
        ("hour", [1.0, 2.0], "inputs.hour", "a list of 2 is no array"),
        ("rain", np.array([0, 1]), "inputs.rain", "an array of int64"),
        ("hour", np.zeros(3), "inputs.carrier", "2 rows where another input has 3"),
    ],
)
def test_bad_arrays(column, array, where, what) -> None:
    arrays = {name: np.array([value, value]) for name, value in ROW.items()}
    with pytest.raises(InputError) as caught:
        arrays_to_batch(TABLE, {**arrays, column: array})
    assert caught.value.where == where
    assert what in caught.value.what


def test_a_message_never_prints_a_megabyte() -> None:
    for value in ("x" * 10**6, ["y" * 10**6], {"z": "z" * 10**6}, 10**300000):
        with pytest.raises(InputError) as caught:
            rows_to_batch(TABLE, [{**ROW, "wind": value}])
        assert len(str(caught.value)) < 400


def test_numpy_scalars_are_their_values() -> None:
    row = {
        **ROW,
        "wind": np.float32(1.5),
        "distance": np.int32(4),
        "rain": np.True_,
        "tail": np.str_("N2"),
    }
    batch = rows_to_batch(TABLE, [row])
    assert batch["wind"].tolist() == [1.5]
    assert batch["rain"].tolist() == [True]
    assert [type(value) for value in batch["tail"].tolist()] == [str]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()), max_size=5)
    | st.sampled_from(["nan", "None", "", "UA"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*ROW, "a", "b", "image", "other"]), inner, max_size=9)
    ),
    max_leaves=30,
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
NEARLY = st.lists(st.fixed_dictionaries(dict.fromkeys(ROW, VALUES | JSON)), min_size=1, max_size=3)
SIGNATURES = st.sampled_from([TABLE, IMAGE, TWO])


def _tried(convert: Any, signature: Signature, value: Any) -> Any:
    try:
        return convert(signature, value)
    except InputError as error:
        return error


def _holds(signature: Signature, batch: Any) -> None:
    """A batch in the signature's very terms, or an error that says where and what."""
    if isinstance(batch, InputError):
        assert batch.where
        assert batch.what
        return
    assert list(batch) == [field.name for field in signature.inputs]
    assert len({len(array) for array in batch.values()}) == 1
    for field in signature.inputs:
        array = batch[field.name]
        assert array.dtype == field.numpy
        assert array.shape[1:] == field.shape
        if field.dtype == "string":
            assert all(
                v is None if field.nullable and v is None else isinstance(v, str) for v in array
            )
        elif array.dtype.kind == "f":
            assert not np.isinf(array).any()
            assert field.nullable or not np.isnan(array).any()


@given(SIGNATURES, JSON | st.lists(JSON) | NEARLY)
def test_any_json_is_a_batch_or_an_input_error(signature: Signature, value: Any) -> None:
    for convert in (rows_to_batch, columns_to_batch):
        _holds(signature, _tried(convert, signature, value))


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_array_is_a_batch_or_an_input_error(data: bytes) -> None:
    for dtype in ("S3", "float16", "float32", "float64", "int8", "uint64", "bool", "complex64"):
        whole = len(data) // np.dtype(dtype).itemsize
        array = np.frombuffer(data[: whole * np.dtype(dtype).itemsize], dtype=dtype)
        for signature in (TABLE, IMAGE):
            arrays = {field.name: array for field in signature.inputs}
            _holds(signature, _tried(arrays_to_batch, signature, arrays))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_numbers_arrive_as_they_were_sent(numbers: list[float]) -> None:
    batch = rows_to_batch(IMAGE, [[numbers[:3], numbers[3:]]])
    assert batch["image"].reshape(-1).tolist() == numbers
