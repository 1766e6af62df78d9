"""How many rows go together, and where a call is best made."""

from __future__ import annotations

import pytest

from headgate.serving.cost import CallCost
from headgate.serving.outlook import Interference, Outlook


def outlook(fixed_s, per_row_s, *, target_s=0.05):
    cost = CallCost()
    cost.known, cost.fixed_s, cost.per_row_s = True, fixed_s, per_row_s
    return Outlook(cost, max_rows=1024, target_s=target_s, slots=1)


@pytest.mark.parametrize(
    ("fixed_s", "per_row_s", "rows"),
    [
        (0.0, 1e-6, 1024),  # as many as may
        (5e-3, 1e-4, 200),  # what half of the target has room for
        (0.0, 1e-3, 64),  # a few always go together
        (24e-3, 3e-6, 1024),  # half of the target has room for 333
        (30e-3, 3e-6, 1024),  # and for none: fewer would make no call shorter than it
        (30e-3, 1e-4, 300),  # the rows take as long as all the rest of a call
    ],
)
def test_so_many_rows_go_together(fixed_s, per_row_s, rows):
    assert outlook(fixed_s, per_row_s).most_rows() == pytest.approx(rows, abs=1)


def test_what_a_thread_stretches_costs_no_more_by_itself():
    interference = Interference()
    assert interference.in_thread(0.011, 0.010, 0.012) == 0.011
    assert interference.in_thread(0.5, 0.010, 0.010) == pytest.approx(0.011)
    assert interference.in_thread(0.5, 0.030, 0.010) == pytest.approx(0.033)
    assert interference.is_worse(0.010, loaded=False)
    assert interference.in_thread(0.5, 0.0, 0.010) == 0.5
    assert interference.in_thread(0.5, 0.010, 0.0) == 0.5


def test_a_call_that_waits_for_threads_of_its_own_is_learned_in_the_end():
    interference = Interference()
    cost = 0.01
    for _ in range(50):
        cost = interference.in_thread(0.1, 0.001, cost)
    assert cost == pytest.approx(0.1)


def test_a_thread_is_tried_again_when_nobody_waits():
    interference = Interference()
    interference.in_thread(0.03, 0.01, 0.01)
    for _ in range(1000):
        interference.on_loop(failed=False, loaded=True)
    assert interference.is_worse(0.010, loaded=True)
    for _ in range(200):
        interference.on_loop(failed=False, loaded=False)
    assert not interference.is_worse(0.010, loaded=False)
