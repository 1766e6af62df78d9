"""When two sets of predictions are equal."""

from __future__ import annotations

import numpy as np
import pytest

from headgate.predictor import difference
from headgate.predictor.parity import spread


def test_labels_must_be_equal_and_numbers_within_the_tolerance() -> None:
    expected = {
        "label": np.array(["a", "b", "c", "d"], dtype=object),
        "probabilities": np.array([[0.5, 0.5]] * 4, dtype=np.float32),
    }
    outputs = {
        "label": np.array(["a", "x", "c", "d"], dtype=object),
        "probabilities": np.array(
            [[0.5, 0.5], [0.5, 0.5], [0.5, 0.52], [0.500001, 0.5]], dtype=np.float32
        ),
    }
    found = difference(outputs, expected, 1e-5)
    assert found.ok.tolist() == [True, False, False, True]
    assert found.largest == pytest.approx([0, 0, 0.02, 1e-6], abs=1e-7)


def test_large_numbers_differ_relatively() -> None:
    expected = {"prediction": np.array([1e6, 1e6, 0.1])}
    outputs = {"prediction": np.array([1e6 + 1, 1e6 + 100, 0.1 + 2e-5])}
    assert difference(outputs, expected, 1e-5).ok.tolist() == [True, False, False]


def test_nan_and_infinity_equal_only_themselves() -> None:
    special = [np.nan, np.inf, -np.inf, 1.0]
    expected = {"prediction": np.repeat(special, 4)}
    outputs = {"prediction": np.tile(special, 4)}
    found = difference(outputs, expected, 0.1)
    assert found.ok.reshape(4, 4).tolist() == np.eye(4, dtype=bool).tolist()
    assert np.isinf(found.largest[~found.ok]).all()


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"prediction": np.zeros((3, 1))},
        {"prediction": np.zeros(2)},
        {"prediction": np.array(["0", "0", "0"])},
    ],
)
def test_what_is_missing_or_of_another_shape_or_type_differs(outputs) -> None:
    found = difference(outputs, {"prediction": np.zeros(3)}, 1.0)
    assert not found.ok.any()
    assert np.isinf(found.largest).all()


def test_integer_outputs_must_be_equal() -> None:
    expected = {"cluster": np.array([[1, 2], [3, 4]])}
    found = difference({"cluster": np.array([[1, 2], [3, 5]])}, expected, 9.0)
    assert found.ok.tolist() == [True, False]


def test_spread_takes_the_ends_and_no_row_twice() -> None:
    assert spread(3, 10).tolist() == [0, 1, 2]
    rows = spread(1000, 64)
    assert len(set(rows.tolist())) == 64
    assert (rows[0], rows[-1]) == (0, 999)
    assert spread(5, 0).tolist() == []
    assert spread(5, 1).tolist() == [0]
