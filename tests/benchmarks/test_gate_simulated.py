"""The drawn machine, and the runs judged on it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import gate_simulated
from benchmarks.harness.gate_machine import SAME, Change, Machine, Server
from benchmarks.harness.gate_runs import PROFILE, simulate
from headgate.stats import quantile


def server(change: Change = SAME, *, seed: int = 1, shared: bool = False) -> Server:
    machine = Machine(np.random.default_rng(seed), 120, shared=shared)
    return Server(machine, median_s=0.02, spread=0.2, change=change)


def test_a_shared_machine_is_slower_now_and_then():
    random = np.random.default_rng(2)
    alone, beside = (
        Machine(np.random.default_rng(3), 1_000, shared=shared) for shared in (False, True)
    )
    moments = random.uniform(0, 1_000, 10_000)
    assert not alone.at(moments)[1].any()
    level, busy = beside.at(moments)
    assert 0.1 < busy.mean() < 0.6
    assert 0.1 < level[busy].mean() - level[~busy].mean() < 0.5


def test_a_change_is_what_it_says():
    def seen(change):
        return server(change).asked(np.random.default_rng(4), 0, 500, 100)

    plain, slower = seen(SAME), seen(Change(slower=1.25))
    ratio = quantile(slower.latency_s, 0.95) / quantile(plain.latency_s, 0.95)
    assert ratio == pytest.approx(1.25, rel=0.03)
    assert plain.ok.all()
    assert plain.right.all()
    failing = seen(Change(errors=0.01))
    assert 1 - failing.ok.mean() == pytest.approx(0.01, rel=0.2)
    assert np.isinf(failing.latency_s[~failing.ok]).all()
    wrong = seen(Change(wrong=0.01))
    assert 1 - wrong.right.mean() == pytest.approx(0.01, rel=0.2)
    pausing = seen(Change(pauses=1.0))
    assert (pausing.latency_s > 0.15).sum() > (plain.latency_s > 0.15).sum() + 10


def test_who_is_slower_answers_less_at_saturation():
    random = np.random.default_rng(5)
    rps, wrong = server().saturated(random, 10, 1, 16)
    assert 200 < rps < 800
    assert wrong == 0
    assert server(Change(slower=2)).saturated(random, 10, 1, 16)[0] == pytest.approx(
        rps / 2, rel=0.1
    )
    assert server(Change(wrong=0.5)).saturated(random, 10, 1, 16)[1] > 50


@pytest.mark.parametrize(
    ("change", "outcome", "decisive"),
    [
        (Change(slower=0.85), "pass", ()),
        (Change(slower=1.5), "fail", ("p95_ratio",)),
        (Change(errors=0.05), "fail", ("error_rate",)),
        (Change(wrong=0.01), "fail", ("parity",)),
    ],
)
def test_what_is_clear_is_found(change, outcome, decisive):
    ended = simulate(change, 7)
    assert ended.outcome == outcome
    assert set(decisive) <= set(ended.decisive)
    assert ended.rounds >= 6
    assert ended.seconds <= PROFILE.budget_s


def test_the_same_seed_is_the_same_run():
    change = Change(slower=1.3)
    assert simulate(change, 8) == simulate(change, 8)
    assert simulate(change, 8) != simulate(change, 9)


def test_results_are_written(tmp_path, capsys):
    code = gate_simulated.main(["--quick", "--processes", "1", "--out", str(tmp_path)])
    told = json.loads((tmp_path / "gate_simulated.json").read_text())
    assert told["scenarios"].keys() == gate_simulated.SCENARIOS.keys()
    page = (tmp_path / "gate_simulated.md").read_text()
    assert page in capsys.readouterr().out
    for name, found in told["scenarios"].items():
        assert found["runs"] == sum(each["runs"] for each in found["outcomes"].values()) > 0
        assert f"| {name} | {found['runs']} |" in page
    missed = [name for name, found in told["scenarios"].items() if found["reached"] is False]
    assert code == (1 if missed else 0)
    errors = told["scenarios"]["1 % errors"]
    assert errors["outcomes"]["fail"]["share"] == 1
    assert errors["fixed_passes"] == 0
    wrong = told["scenarios"]["1 wrong in 1,000"]
    assert wrong["outcomes"]["fail"]["share"] > wrong["fixed_passes"] - 1


def test_time_that_is_up_ends_it(tmp_path, capsys):
    gate_simulated.main(["--quick", "--minutes", "0", "--processes", "1", "--out", str(tmp_path)])
    assert "time is up: fewer runs than planned" in capsys.readouterr().err
