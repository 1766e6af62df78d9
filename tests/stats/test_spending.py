from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.stats import nominal_level
from headgate.stats.spending import (
    boundary,
    like_obrien_fleming,
    like_pocock,
    power_family,
)


def even(looks: int) -> list[float]:
    return [(look + 1) / looks for look in range(looks)]


def test_one_look_spends_all() -> None:
    assert nominal_level([1.0], 0.025) == pytest.approx(0.025)
    assert boundary([1.0], 0.025) == pytest.approx(1.959964)


@pytest.mark.parametrize(
    ("spend", "expected"),
    [
        # Five even looks, two-sided 5 %, as the program gives them of D. M. Reboussin, D. L. DeMets,
        # K. Kim and K. K. G. Lan, Controlled Clinical Trials 21 (2000), 190-207.
        (like_obrien_fleming, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        (like_pocock, [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_published_boundaries(spend: object, expected: list[float]) -> None:
    found = [boundary(even(5)[: look + 1], 0.025, spend) for look in range(5)]  # type: ignore[arg-type]
    assert found == pytest.approx(expected, abs=3e-4)


@pytest.mark.parametrize(
    ("looks", "constant", "shape"),
    [
        # C. Jennison and B. W. Turnbull, "Group Sequential Methods" (2000), tables 2.1 and 2.3:
        # Pocock's boundary is level, O'Brien and Fleming's falls with the root of the time.
        (5, 2.413, 0.0),
        (10, 2.555, 0.0),
        (5, 2.040, 0.5),
        (10, 2.087, 0.5),
    ],
)
def test_classical_designs_are_found_again(looks: int, constant: float, shape: float) -> None:
    """What a classical design spends at each look gives back its boundary."""
    times = even(looks)
    random = np.random.default_rng(1)
    steps = random.normal(0, math.sqrt(1 / looks), (400_000, looks))
    z = np.cumsum(steps, axis=1) / np.sqrt(times)
    limit = constant * np.array(times) ** -shape
    crossed = np.maximum.accumulate(z > limit, axis=1).mean(axis=0)
    spent = dict(zip(times, crossed, strict=True))

    def spend(time: float) -> float:
        return float(spent[time] / crossed[-1])

    for look in range(1, looks + 1):
        if spent[times[look - 1]] * 400_000 > 500:  # few crossings say little
            found = boundary(times[:look], float(crossed[-1]), spend)
            assert found == pytest.approx(limit[look - 1], abs=0.05)
    assert crossed[-1] == pytest.approx(0.025, abs=0.0012)


@pytest.mark.parametrize("rho", [1.0, 3.0])
@pytest.mark.parametrize("alpha", [0.005, 0.025])
def test_holds_the_chance_over_all_looks(rho: float, alpha: float) -> None:
    """Many looks, unevenly spaced, the first late: crossed as often as allowed."""
    rounds = [6, 7, 8, 9, 11, 12, 15, 20, 26, 27, 28, 37, 43]
    times = [each / 43 for each in rounds]
    spend = power_family(rho)
    limits = [boundary(times[: look + 1], alpha, spend) for look in range(len(times))]
    random = np.random.default_rng(2)
    steps = np.sqrt(np.diff([0.0, *times]))
    runs = 200_000
    z = np.cumsum(random.normal(0, 1, (runs, len(times))) * steps, axis=1) / np.sqrt(times)
    crossed = (z > limits).any(axis=1).mean()
    assert abs(crossed - alpha) < 4 * math.sqrt(alpha / runs)


def test_looks_of_later_change_nothing_of_now() -> None:
    assert nominal_level([0.2, 0.4], 0.025) == nominal_level([0.2, 0.4], 0.025)
    later = [nominal_level([0.2, 0.4, 1.0][:look], 0.025) for look in (1, 2, 3)]
    assert later[0] < 0.025
    assert sum(later) > 0.025  # looks resemble each other, so the sum may be more


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=8, unique=True).map(sorted))
def test_a_level_is_a_chance_and_no_more_than_allowed(looks: list[float]) -> None:
    level = nominal_level(looks, 0.025)
    assert 0 <= level <= 0.025 + 1e-6


@pytest.mark.parametrize("looks", [[0.5, 0.5], [0.5, 0.4], [1.0, 1.0], [1.0, 1.7], [0.5, 0.50004]])
def test_a_look_that_brings_nothing_new_may_not_decide(looks: list[float]) -> None:
    assert nominal_level(looks, 0.025) == 0


def test_a_look_before_anything_was_seen() -> None:
    assert nominal_level([0.0], 0.025) == 0
    assert nominal_level([0.0, 1.0], 0.025) == pytest.approx(0.025, abs=1e-4)


def test_looks_close_to_each_other() -> None:
    """What is not spent at one of them is there later."""
    assert nominal_level([0.5, 0.50001], 0.025) == 0
    found = nominal_level([0.5, 0.50001, 1.0], 0.025)
    assert found == pytest.approx(nominal_level([0.5, 1.0], 0.025))
    close = nominal_level([0.5, 0.5001, 0.5002, 1.0], 0.025)
    assert close == pytest.approx(nominal_level([0.5, 0.5002, 1.0], 0.025), rel=0.003)


@pytest.mark.parametrize(("looks", "alpha"), [([], 0.025), ([1.0], 0.0), ([1.0], 0.5), ([1.0], 2)])
def test_what_has_no_boundary(looks: list[float], alpha: float) -> None:
    with pytest.raises(ValueError, match="no boundary"):
        nominal_level(looks, alpha)
