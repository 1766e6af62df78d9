from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headgate.stats.student import normal_quantile, t_cdf, t_quantile


@pytest.mark.parametrize(
    ("p", "freedom", "expected"),
    [
        # Any table of Student's t.
        (0.975, 1, 12.7062),
        (0.975, 10, 2.2281),
        (0.995, 30, 2.7500),
        (0.05, 4, -2.1318),
        (0.5, 7, 0.0),
    ],
)
def test_textbook_values(p: float, freedom: float, expected: float) -> None:
    assert t_quantile(p, freedom) == pytest.approx(expected, abs=5e-5)


@given(st.floats(-50, 50), st.floats(0.5, 2_000))
def test_cdf_agrees_with_scipy(t: float, freedom: float) -> None:
    assert t_cdf(t, freedom) == pytest.approx(stats.t(freedom).cdf(t), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("freedom", [1, 2.3, 5, 30, 1_000])
@pytest.mark.parametrize("p", [1e-6, 0.0003, 0.01, 0.4, 0.6, 0.99, 0.9999])
def test_quantile_agrees_with_scipy(p: float, freedom: float) -> None:
    assert t_quantile(p, freedom) == pytest.approx(stats.t(freedom).ppf(p), rel=1e-6)


def test_no_chance_is_infinitely_far() -> None:
    assert t_quantile(0, 5) == -math.inf
    assert t_quantile(1, 5) == math.inf
    assert t_cdf(-math.inf, 5) == 0
    assert t_cdf(math.inf, 5) == 1
    assert normal_quantile(0) == -math.inf
    assert normal_quantile(1) == math.inf
    assert normal_quantile(0.975) == pytest.approx(1.959964)


@pytest.mark.parametrize(
    ("p", "freedom"), [(0.5, 0), (0.5, -1), (1.5, 3), (-0.1, 3), (math.nan, 3)]
)
def test_what_has_no_quantile(p: float, freedom: float) -> None:
    with pytest.raises(ValueError, match="no Student quantile"):
        t_quantile(p, freedom)
