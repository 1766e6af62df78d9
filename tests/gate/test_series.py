from __future__ import annotations

import math

import numpy as np
import pytest
from gate.evidence import samples

from headgate.gate.report.series import blocks, distribution, over_time, thinned


def test_the_distribution_passes_through_the_quantiles_and_ends_with_the_answered() -> None:
    latency_ms = np.append(np.arange(1.0, 981.0), [math.inf] * 20)
    x, share = distribution(latency_ms)
    assert len(x) <= 300
    assert (np.diff(x) > 0).all()
    assert np.interp(0.5, share, x) == pytest.approx(500, rel=0.01)
    assert np.interp(0.95, share, x) == pytest.approx(950, rel=0.01)
    assert (x[-1], share[-1]) == (980.0, 980 / 1001)


def test_no_answer_has_no_distribution() -> None:
    x, share = distribution(np.array([math.inf]))
    assert (len(x), len(share)) == (0, 0)


def test_blocks_are_pooled_where_there_are_too_many() -> None:
    found = blocks(samples(rounds=900, each=4, failed=3))
    assert (len(found.round), found.each) == (300, 3)
    assert found.round.tolist() == list(range(0, 900, 3))
    assert found.failed.tolist() == [3] + [0] * 299
    assert found.p95_ms[0] == math.inf
    assert np.isfinite(found.p95_ms[1:]).all()


def test_over_time_leaves_out_what_has_no_time() -> None:
    seen = samples(rounds=10, each=60)
    seen.intended_s[5] = math.nan
    found = over_time(seen)
    assert len(found.at_s) == len(found.p95_ms) <= 29
    assert (found.p50_ms <= found.p95_ms).all()
    seen.intended_s[:] = math.nan
    assert len(over_time(seen).at_s) == 0


@pytest.mark.parametrize(("count", "points"), [(3, 3), (300, 300), (301, 151), (1_000, 250)])
def test_thinned(count: int, points: int) -> None:
    block, value = thinned(np.arange(count), np.arange(count, dtype=float))
    assert len(block) == len(value) == points
    assert block[0] == 0
    assert value[0] == pytest.approx((math.ceil(count / 300) - 1) / 2)
    assert value[-1] <= count - 1
