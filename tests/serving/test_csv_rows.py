"""CSV to a batch, and predictions to CSV."""

from __future__ import annotations

import numpy as np
import pytest
from predictor.factory import TABLE_SIGNATURE, TENSOR_SIGNATURE

from headgate.errors import InputError
from headgate.predictor import Field, Signature
from headgate.serving.http import TooLargeError
from headgate.serving.protocols.csv_rows import MISSING, csv_to_batch, rows_to_csv

MOST = 5
GAPS = Signature(
    inputs=(Field(name="x", dtype="float32", shape=(2,), nullable=True),),
    outputs=(),
    task="tensor",
)


def table(text, **options):
    body = text if isinstance(text, bytes) else text.encode()
    batch = csv_to_batch(TABLE_SIGNATURE, body, MOST, **options)
    return {name: array.tolist() for name, array in batch.items()}


ONE = {"carrier": ["UA"], "distance": [1000], "wind": [5.5]}


@pytest.mark.parametrize(
    "text",
    [
        "carrier,distance,wind\nUA,1000,5.5\n",
        "carrier,distance,wind\nUA,1000,5.5",
        "wind,gate,carrier,distance\r\n5.5,B22,UA,1000\r\n",
        '"carrier","distance","wind"\n"UA","1000","5.5"\n\n\n',
        "\ufeffcarrier,distance,wind\nUA,1000,5.5\n",
        "UA,1000,5.5\n",
        '"UA",1000.0,5.5',
        "UA,1e3, 5.5\n",
        "\n\nUA,1000,5.5\n",
    ],
)
def test_the_same_row_however_it_is_written(text):
    assert table(text) == ONE


def test_text_stays_text_and_an_empty_cell_is_null():
    text = 'carrier,distance,wind\n,1,\nna,1,\nnone,1,\n NA,1,\n"a ""b"",\nc",1,\n'
    found = table(text)
    assert found["carrier"] == [None, "na", "none", " NA", 'a "b",\nc']
    assert np.isnan(found["wind"]).all()


def test_what_pandas_takes_for_missing_is_missing():
    from pandas._libs.parsers import STR_NA_VALUES

    assert STR_NA_VALUES == MISSING


@pytest.mark.parametrize("cell", ["NA", "nan", "#N/A N/A", "-NaN", '"None"'])
def test_a_missing_value_is_null_whatever_the_column(cell):
    found = table(f"carrier,distance,wind\n{cell},1,{cell}\n")
    assert found["carrier"] == [None]
    assert np.isnan(found["wind"]).all()
    assert np.isnan(csv_to_batch(GAPS, f"{cell},{cell}\n".encode(), MOST)["x"]).all()
    with pytest.raises(InputError, match=r"csv.distance\[0\]: null is not allowed"):
        table(f"UA,{cell},1\n")


@pytest.mark.parametrize("cell", ["", "NA"])
def test_a_text_that_cannot_be_missing_is_not(cell):
    texts = Signature(inputs=(Field(name="a", dtype="string"),), outputs=(), task="tensor")
    with pytest.raises(InputError, match=r"csv.a\[0\]: '.*' is a missing value.* as JSON"):
        csv_to_batch(texts, f'"{cell}"\n'.encode(), MOST, header=False)


def test_a_cell_may_be_as_long_as_a_body():
    assert table(f"{'x' * 200_000},1,2\n")["carrier"] == ["x" * 200_000]


def test_a_name_in_the_data_is_no_header():
    assert table("carrier,1,2\nUA,3,4\n")["carrier"] == ["carrier", "UA"]
    assert table("wind,1,\n")["carrier"] == ["wind"]


def test_the_media_type_may_settle_it():
    signature = Signature(
        inputs=(Field(name="a", dtype="string"), Field(name="b", dtype="string")),
        outputs=(),
        task="tensor",
    )

    def read(text, header):
        batch = csv_to_batch(signature, text, MOST, header=header)
        return {name: array.tolist() for name, array in batch.items()}

    assert read(b"a,b\nx,y\n", None) == {"a": ["x"], "b": ["y"]}
    assert read(b"b,a\nx,y\n", True) == {"a": ["y"], "b": ["x"]}
    assert read(b"a,b\nx,y\n", False) == {"a": ["a", "x"], "b": ["b", "y"]}


def test_a_tensor_is_its_numbers_with_or_without_names():
    row = ",".join(str(n / 2) for n in range(30))
    names = ",".join(f"feature {n}" for n in range(30))
    for text in (f"{row}\n{row}\n", f"{names}\n{row}\n{row}\n"):
        batch = csv_to_batch(TENSOR_SIGNATURE, text.encode(), MOST)
        assert batch["x"].shape == (2, 30)
        assert batch["x"].dtype == np.float32
        assert batch["x"][1].tolist() == [n / 2 for n in range(30)]


def test_a_tensor_of_several_dimensions_is_flat():
    cube = Signature(
        inputs=(Field(name="x", dtype="int32", shape=(2, 1, 3)),), outputs=(), task="tensor"
    )
    batch = csv_to_batch(cube, b"1,2,3,4,5,6\n7,8,9,10,11,12", MOST)
    assert batch["x"].tolist() == [[[[1, 2, 3]], [[4, 5, 6]]], [[[7, 8, 9]], [[10, 11, 12]]]]


def test_a_row_of_nothing_but_nulls_is_a_row():
    assert np.isnan(csv_to_batch(GAPS, b",\n1,2\n", MOST)["x"][0]).all()


def test_booleans_have_two_names_in_any_case():
    flags = Signature(inputs=(Field(name="on", dtype="bool"),), outputs=(), task="tensor")
    batch = csv_to_batch(flags, b"on\nTrue\nfalse\nTRUE\n", MOST)
    assert batch["on"].tolist() == [True, False, True]
    with pytest.raises(InputError, match="'1' is no bool"):
        csv_to_batch(flags, b"1\n", MOST)


BAD = {
    "nothing": ("", "no rows"),
    "nothing but lines": ("\n\n", "no rows"),
    "a header alone": ("carrier,distance,wind\n", "no rows"),
    "a column short": ("carrier,distance\nUA,1\n", "column 'wind' is missing"),
    "a column twice": ("carrier,distance,wind,wind\nUA,1,2,3\n", "column 'wind' is there twice"),
    "a ragged row": ("carrier,distance,wind\nUA,1,2\nUA,1\n", r"csv\[1\]: 2 cells where 3 belong"),
    "too wide": ("UA,1,2,3\n", r"csv\[0\]: 4 cells where 3 belong"),
    "no number": ("UA,far,2\n", r"csv.distance\[0\]: 'far' is no int64"),
    "a number of Python's": ("UA,1_000,2\n", r"csv.distance\[0\]: '1_000' is no int64"),
    "a number of elsewhere": ("UA,\u0661,2\n", r"csv.distance\[0\]: '\u0661' is no int64"),
    "a broken integer": ("UA,1.5,2\n", r"csv.distance\[0\]: 1.5 is no int64"),
    "null for an integer": ("UA,,2\n", r"csv.distance\[0\]: null is not allowed"),
    "nan for an integer": ("UA,nan,2\n", r"csv.distance\[0\]: null is not allowed"),
    "infinity": ("UA,1,inf\n", r"csv.wind\[0\]: inf is not a finite number"),
    "a huge integer": (f"UA,{'9' * 3000},2\n", r"csv.distance\[0\]"),
    "a huger one": (f"UA,{'9' * 5000},2\n", r"csv.distance\[0\]"),
    "an open quote": ('"UA,1,2\n', "no CSV: unexpected end of data"),
    "a quote amid": ('"U"A,1,2\n', "no CSV: .* in line 1"),
    "a long cell": (f"UA,{'x' * 200_000},2\n", r"csv.distance\[0\]: 'xxxxx*' is no int64"),
    "NaN in no way of CSV": ("UA,1,NAN\n", r"csv.wind\[0\]: 'NAN' is no float64"),
    "no UTF-8": (b"UA\xff,1,2\n", "no UTF-8: invalid start byte at byte 2"),
    "zeros": (bytes(100), "1 cells where 3 belong"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    text, what = BAD[case]
    with pytest.raises(InputError, match=what) as caught:
        table(text)
    assert caught.value.remedy
    assert len(str(caught.value)) < 500


def test_it_is_read_no_further_than_the_rows_that_may_be():
    assert len(table("UA,1,2\n" * MOST)["wind"]) == MOST
    with pytest.raises(TooLargeError, match="more than 5 rows"):
        table("UA,1,2\n" * MOST + "UA,far,2\n" + "\xff" * 100)
    with pytest.raises(InputError, match="more than 5 empty lines"):
        table("UA,1,2\n" + "\n" * 1000)


def test_several_tensors_have_no_csv():
    two = Field(name="a", dtype="float32", shape=(2,))
    both = Signature(inputs=(two, Field(name="b", dtype="float32")), outputs=(), task="tensor")
    with pytest.raises(InputError, match="which cells belong to which"):
        csv_to_batch(both, b"1,2,3\n", MOST)


def test_predictions_are_lines():
    assert rows_to_csv(["on time", 'a "b",\nc', None]) == b'on time\n"a ""b"",\nc"\n""\n'
    assert rows_to_csv([1, 0.1]) == b"1\n0.1\n"
    assert rows_to_csv([{"a": [1, [2, 3]], "b": "x"}]) == b"1,2,3,x\n"
