"""Values and rows that are not what the model takes: each is refused with its place, what it is
and what would be right, and a good request beside it notices nothing."""

from __future__ import annotations

import pytest
from serving.asgi import serving_app
from serving.refusals import (
    LONG,
    OIP,
    ROW,
    TYPED,
    TYPED_X,
    V1,
    V1_X,
    X,
    refused,
    short,
    strict_root,
    tensors,
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(strict_root(tmp_path_factory.mktemp("bad"))) as asked:
        yield asked


BAD_VALUES = [
    ("carrier", 5, "5 is no string", "send a string or null"),
    ("carrier", True, "True is no string", "send a string or null"),
    ("carrier", ["UA"], "a list of 1 is no string", "send a string or null"),
    ("carrier", {"code": "UA"}, "an object is no string", "send a string or null"),
    ("distance", "1000", "'1000' is no int64", "send an integer from -9223372036854775808"),
    ("distance", "nan", "'nan' is no int64", "send an integer"),
    ("distance", "None", "'None' is no int64", "send an integer"),
    ("distance", "", "'' is no int64", "send an integer"),
    ("distance", 1.5, "1.5 is no int64", "send an integer"),
    ("distance", True, "True is no int64", "send an integer"),
    ("distance", None, "null is not allowed", "send an integer"),
    ("distance", 2**63, "9223372036854775808 does not fit into int64", "to 9223372036854775807"),
    ("distance", 10**30, "does not fit into int64", "send an integer"),
    ("wind", "5.5", "'5.5' is no float64", "send a number or null"),
    ("wind", "nan", "'nan' is no float64", "send a number or null"),
    ("wind", "None", "'None' is no float64", "send a number or null"),
    ("wind", "Infinity", "'Infinity' is no float64", "send a number or null"),
    ("wind", False, "False is no float64", "send a number or null"),
    ("wind", [], "a list of 0 is no float64", "send a number or null"),
    ("wind", 1e39, "1e+39 does not fit into float32", "send a finite number or null"),
    ("wind", -1e300, "-1e+300 does not fit into float32", "send a finite number or null"),
    ("wind", LONG, "is no float64", "send a number or null"),
    ("wind", "mètre ✈", "'mètre ✈' is no float64", "send a number or null"),
]


@pytest.mark.parametrize("path", [V1, TYPED])
@pytest.mark.parametrize("case", BAD_VALUES, ids=short)
def test_a_value_of_a_row(asked, path, case):
    column, value, what, remedy = case
    rows = [ROW, {**ROW, column: value}, ROW]
    where, error, right = refused(asked, path, json={"instances": rows})
    assert where == f"instances[1].{column}"
    assert what in error
    assert remedy in right


@pytest.mark.parametrize(("column", "value", "what", "remedy"), BAD_VALUES, ids=short)
def test_a_value_of_a_tensor(asked, column, value, what, remedy):
    columns = {"carrier": ["UA"] * 3, "distance": [1] * 3, "wind": [1.5] * 3}
    columns[column][1] = value
    where, error, right = refused(asked, OIP, json={"inputs": tensors(**columns)})
    assert where == f"inputs[{list(columns).index(column)}].data[1]"
    assert what in error
    assert remedy in right


BAD_ROWS = [
    (
        {"carrier": "UA", "distance": 1},
        "column 'wind' is missing",
        "send a float64; null is allowed",
    ),
    ({"carrier": "UA", "wind": 1}, "column 'distance' is missing", "send a int64"),
    ({}, "column 'carrier' is missing", "send a string; null is allowed"),
    ({**ROW, "gate": 1}, "column 'gate' is unknown", "known: carrier, distance, wind"),
    ({**ROW, "météo ✈": 1}, "column 'météo ✈' is unknown", "leave it out"),
    ({**ROW, LONG: 1}, "is unknown", "leave it out"),
    ({**ROW, "Wind": 1}, "column 'Wind' is unknown", "leave it out"),
    (["UA", 1000, 5.5], "a list of 3 is no object", "with: carrier, distance, wind"),
    (None, "null is no object", "with: carrier, distance, wind"),
    ("UA", "'UA' is no object", "with: carrier, distance, wind"),
    (7, "7 is no object", "with: carrier, distance, wind"),
]


@pytest.mark.parametrize("path", [V1, TYPED])
@pytest.mark.parametrize(("row", "what", "remedy"), BAD_ROWS, ids=short)
def test_a_row(asked, path, row, what, remedy):
    where, error, right = refused(asked, path, json={"instances": [ROW, ROW, row]})
    assert where == "instances[2]"
    assert what in error
    assert remedy in right


@pytest.mark.parametrize("path", [V1_X, TYPED_X])
@pytest.mark.parametrize(
    ("row", "where", "what"),
    [
        (X[1:], "instances[1]", "29 values where 30 belong"),
        ([*X, 1], "instances[1]", "31 values where 30 belong"),
        ([], "instances[1]", "0 values where 30 belong"),
        ([X], "instances[1]", "1 values where 30 belong"),
        (0.5, "instances[1]", "0.5 is no list of 30"),
        (None, "instances[1]", "null is no list of 30"),
        ([*X[:7], None, *X[8:]], "instances[1][7]", "null is not allowed"),
        ([*X[:7], "nan", *X[8:]], "instances[1][7]", "'nan' is no float32"),
        ([*X[:7], [1], *X[8:]], "instances[1][7]", "a list of 1 is no float32"),
        ([*X[:7], 1e39, *X[8:]], "instances[1][7]", "1e+39 does not fit into float32"),
        ({"x": X}, "instances[1]", "an object is no list of 30"),
    ],
)
def test_a_row_of_a_tensor(asked, path, row, where, what):
    assert refused(asked, path, json={"instances": [X, row]})[:2] == (where, what)
