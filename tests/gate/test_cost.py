"""What predictions cost: exact figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config import CostConfig, DemandConfig
from headgate.gate import cost_check, cost_per_million, replicas
from headgate.records import Check, Evidence, Generator, Outcome, Samples, Saturation, Side

PRICE = CostConfig(instance_per_hour=0.36, currency="EUR", utilisation=0.5)
"""0.0001 EUR a second: 200 rows/s at half their use make 100, so a million cost 1 EUR."""


def evidence(
    rps: npt.ArrayLike | None, *, rows: tuple[int, ...] = (1,), most: float = 1e5
) -> Evidence:
    none = np.zeros(0)
    samples = tuple(
        Samples(
            model=f"m{index}",
            release="r:1",
            block=np.zeros(4, dtype=np.int64),
            intended_s=none,
            sent_s=none,
            latency_s=none,
            ok=none.astype(bool),
            matched=none.astype(bool),
            rows=np.full(4, each),
            duration_s=1.0,
        )
        for index, each in enumerate(rows)
    )
    blocks = None if rps is None else np.asarray(rps, dtype=float)
    side = Side(
        release="r:1",
        samples=samples,
        saturation=None if blocks is None else Saturation(block=np.arange(len(blocks)), rps=blocks),
    )
    return Evidence(candidate=side, generator=Generator(cpu=0.5, most_rps=most))


def checked(
    rps: npt.ArrayLike | None, limit: float = 1.0, cost: CostConfig = PRICE, **how: Any
) -> Check:
    demands = {"a": DemandConfig(max_cost_per_million=limit), "b": DemandConfig()}
    check = cost_check(evidence(rps, **how), cost, demands)
    assert check is not None
    assert (check.name, check.model) == ("cost", "")
    return check


def test_arithmetic() -> None:
    assert cost_per_million(PRICE, 200) == pytest.approx(1.0)
    assert cost_per_million(CostConfig(instance_per_hour=3.6, utilisation=1), 1000) == 1.0
    assert cost_per_million(PRICE, 0) == math.inf
    assert replicas(300, 100, 0.6) == 5
    assert replicas(301, 100, 0.6) == 6
    assert replicas(6, 10, 0.6) == 1
    assert replicas(0.1, 1000, 1) == 1
    with pytest.raises(ValueError, match="no number of machines"):
        replicas(1, 0, 0.6)


@given(rate=st.floats(0.01, 1e6), capacity=st.floats(0.1, 1e5), utilisation=st.floats(0.05, 1))
def test_machines_are_enough_and_none_too_many(
    rate: float, capacity: float, utilisation: float
) -> None:
    count = replicas(rate, capacity, utilisation)
    assert count * capacity * utilisation >= rate * (1 - 1e-9)
    assert count == 1 or (count - 1) * capacity * utilisation < rate


def test_cheap_enough() -> None:
    check = checked([399, 400, 401, 400, 399, 401])
    assert check.outcome is Outcome.PASS
    assert check.observed == pytest.approx(0.5)
    assert check.interval is not None
    assert check.interval[0] < 0.5 < check.interval[1] < 0.51
    assert (check.unit, check.limit, check.samples) == ("EUR per 1M", 1.0, 6)
    assert "A million predictions cost 0.5 EUR at 50% utilisation" in check.reason
    assert "up to 1 may be" in check.reason


def test_too_dear() -> None:
    check = checked([99, 100, 101, 100, 99, 101])
    assert check.outcome is Outcome.FAIL
    assert check.observed == pytest.approx(2.0)


def test_too_near_to_tell() -> None:
    check = checked([150, 250, 180, 220])
    assert check.outcome is Outcome.INCONCLUSIVE
    assert check.reason.endswith("too near to tell: measure longer.")


def test_rows_count_and_models_share() -> None:
    """20 requests/s, half of them of 1 row and half of 19: 200 rows/s."""
    check = checked([20, 20.1, 19.9] * 4, rows=(1, 19))
    assert check.observed == pytest.approx(1.0)


def test_the_tightest_limit_holds() -> None:
    demands = {
        "a": DemandConfig(max_cost_per_million=3),
        "b": DemandConfig(max_cost_per_million=0.4),
    }
    check = cost_check(evidence([399, 400, 401]), PRICE, demands)
    assert check is not None
    assert check.limit == 0.4
    assert check.outcome is Outcome.FAIL


def test_a_generator_at_its_limit_makes_nothing_too_dear() -> None:
    check = checked([99, 100, 101, 100, 99, 101], most=110)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "it may be less: the load generator asks for no more" in check.reason
    assert checked([399, 400, 401, 400], most=410).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("rps", "cost", "remedy"),
    [
        ([400, 401, 399], CostConfig(), "set instance_per_hour under [cost] in headgate.toml"),
        (None, PRICE, "set saturate_s in a steady profile"),
        ([], PRICE, "set saturate_s in a steady profile"),
        ([400], PRICE, "measure longer"),
        ([0, 0, 0], PRICE, "cost inf EUR"),
        ([math.nan, 400, 401], PRICE, ""),
    ],
)
def test_what_is_not_known_never_passes(
    rps: npt.ArrayLike | None, cost: CostConfig, remedy: str
) -> None:
    check = checked(rps, cost=cost)
    assert check.outcome is not Outcome.PASS
    # Only what more blocks may decide says that there were any: the gate then goes on.
    assert check.samples == (len(rps) if rps and cost is PRICE else 0)  # type: ignore[arg-type]
    assert remedy in check.reason
    assert check.observed is None


def test_without_a_limit_nothing_is_asked() -> None:
    assert cost_check(evidence([400, 401]), PRICE, {"a": DemandConfig()}) is None
