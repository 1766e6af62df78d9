from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headgate.gate.plan import Plan, Run, arrivals, read_plan, read_run, write_plan, write_run


@pytest.mark.parametrize(
    ("rate", "duration_s", "count"),
    # 0.07 * 100 is 7.000000000000001.
    [(50, 10, 500), (0.1, 30, 3), (0.07, 100, 7), (3, 0.5, 2), (100, 0, 0)],
)
def test_offers_the_rate_and_never_less(rate: float, duration_s: float, count: int) -> None:
    assert len(arrivals(rate, duration_s, 0)) == count


@given(st.floats(0.5, 500), st.floats(0.01, 5), st.integers(0, 2**32))
def test_rises_within_the_duration(rate: float, duration_s: float, seed: int) -> None:
    times = arrivals(rate, duration_s, seed)
    assert len(times) >= rate * duration_s - 1e-9
    assert (np.diff(times) >= 0).all()
    assert (times >= 0).all()
    assert (times < duration_s).all()


def test_is_a_poisson_process() -> None:
    times = arrivals(200, 20, 3)
    gaps = np.diff(times)
    assert stats.kstest(gaps, stats.expon(scale=1 / 200).cdf).pvalue > 0.001
    # Counts in intervals vary as much as they are large; regular arrivals would not vary.
    counts, _ = np.histogram(times, bins=200, range=(0, 20))
    assert 0.6 < counts.var() / counts.mean() < 1.5


def test_the_seed_draws_it() -> None:
    assert (arrivals(50, 2, 1) == arrivals(50, 2, 1)).all()
    assert (arrivals(50, 2, 1) != arrivals(50, 2, 2)).any()


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    plan = Plan(path="/x", bodies=(b"{}", b"\x00\xff"), order=(0, 1, 1), at_s=(0.0, 0.1, 1 / 3))
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan


def test_a_run_comes_back_as_it_was_and_in_one_piece(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_run(tmp_path)
    run = Run(
        sent_s=(0.0, math.inf),
        done_s=(0.1, math.inf),
        status=(200, 0),
        answer=(0, 1),
        answers=(b"\xff\x00", b"no answer in time"),
        cpu=0.5,
    )
    write_run(tmp_path, run)
    assert read_run(tmp_path) == run
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(msgspec.DecodeError):
        read_run(tmp_path)
