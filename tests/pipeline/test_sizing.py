"""What follows from a capacity, and how better settings are looked for; nothing is served here."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from headgate import cli, gate, pipeline, render
from headgate.config import (
    CostConfig,
    DemandConfig,
    HeadgateConfig,
    LoadProfile,
    ServerConfig,
    load_model_config,
)
from headgate.errors import ServingError
from headgate.pipeline import judging, sizing, study
from headgate.pipeline.bundle import read_rooms
from headgate.pipeline.sizing import Sizing, size
from headgate.pipeline.study import Study
from headgate.pipeline.trying import Tried, tuned_bento
from headgate.records import (
    Capacity,
    Evidence,
    Generator,
    ModelRef,
    Outcome,
    Release,
    Saturation,
    Setting,
    Side,
)
from headgate.stats import Estimate

TOML = """
name = "{name}"
[slo]
p95_ms = 50
min_rps = 40
[serving]
deadline_ms = 700
max_batch_rows = 512
"""
NOW = Setting(workers=1, threads=1)
FOUND = Capacity(
    low=100.0, high=104.0, low_held=(3, 3), high_failed=(3, 4), settled=True, why="P95 60 ms"
)
BETTER = Estimate(1.5, 1.3, 1.7, 6)
SAME = Estimate(1.0, 0.9, 1.1, 16)


def make_bento(folder: Path) -> Path:
    """What a Bento looks like, as far as settings are concerned."""
    bento = folder / "bentoml" / "bentos" / "headgate" / "abc"
    for name in ("a", "b"):
        room = bento / "src" / "models" / name
        room.mkdir(parents=True)
        (room / "model.toml").write_text(TOML.format(name=name))
        (room / "net.py").write_text("# code")
    (bento / "src" / "headgate").mkdir()
    (bento / "src" / "headgate" / "big.bin").write_text("0" * 1000)
    (bento / "src" / "service.py").write_text("service = 1")
    (bento / "bento.yaml").write_text("name: headgate")
    return bento


@pytest.fixture
def bundle(tmp_path: Path) -> Any:
    bento = make_bento(tmp_path)
    return SimpleNamespace(
        root=bento / "src",
        home=tmp_path,
        store=tmp_path / "bentoml",
        notify=[].append,
        rooms=read_rooms(bento / "src"),
        config=HeadgateConfig(
            gate=msgspec.structs.replace(
                HeadgateConfig().gate, profiles={"quick": LoadProfile(rows=5)}
            ),
            cost=CostConfig(instance_per_hour=0.36, currency="EUR", utilisation=0.5),
        ),
    )


@pytest.fixture
def release() -> Release:
    refs = tuple(ModelRef(name=name, version="1", run_id="r", digest="d") for name in ("a", "b"))
    return Release(tag="headgate:abc", digest="sha256:abc", models=refs)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Servers that are none: how they compare, and what they can take."""
    world = SimpleNamespace(
        ratio=lambda other, seed: SAME, capacity=lambda setting: FOUND, served=[], broken=set()
    )

    @contextlib.contextmanager
    def served(self: Any, setting: Setting, log: str) -> Iterator[Any]:
        if setting in world.broken:
            raise ServingError("the server did not start", where=log)
        world.served.append(setting)
        yield SimpleNamespace(setting=setting, watch=lambda: None)

    monkeypatch.setattr(Study, "served", served)
    monkeypatch.setattr(study, "asked_of", lambda *_, **__: (object(),))
    monkeypatch.setattr(sizing, "cores", lambda: 2)
    monkeypatch.setattr(
        gate, "find_capacity", lambda subject, *_, **__: world.capacity(subject.setting)
    )
    monkeypatch.setattr(
        gate, "compare", lambda now, other, *_, seed, **__: world.ratio(other.setting, seed)
    )
    return world


def faster(*better: Setting) -> Callable[[Setting, int], Estimate]:
    return lambda other, seed: BETTER if other in better else SAME


def test_what_follows_from_a_capacity(bundle: Any, release: Release, world: Any) -> None:
    found = size(bundle, release, Sizing(for_rate=500))
    assert (found.models, found.rows) == (("a", "b"), 5)
    # 100 requests/s to each of two models, of 5 rows: 1,000 rows/s, half of that in use.
    assert found.per_million is not None
    assert found.per_million.value == found.per_million.high == pytest.approx(0.2)
    assert found.per_million.low == pytest.approx(0.2 / 1.04)
    assert found.replicas is not None
    assert msgspec.structs.astuple(found.replicas) == (10, 10, 10)
    assert found.tuned is None
    assert list(bundle.home.glob("run/.*")) == []
    assert msgspec.json.decode(msgspec.json.encode(found))["capacity"]["low"] == 100.0


def test_at_least_so_much_costs_at_most_so_much(
    bundle: Any, release: Release, world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    limited = Capacity(
        low=100.0, high=None, low_held=(3, 3), settled=True, limited="it used 97% of its core"
    )
    world.capacity = lambda setting: limited
    found = size(bundle, release, Sizing(for_rate=501, rows=1))
    assert found.replicas is not None
    assert msgspec.structs.astuple(found.replicas) == (11, 1, 11)
    render.sized(found)
    assert capsys.readouterr().out.splitlines() == [
        (
            "headgate:abc: holds at least 100 requests/s to each of 2 models at once "
            "(rows in a request: 1)"
        ),
        "  100/s held in 3 of 3 steps: 200 requests/s and 200 rows/s in all",
        "  generator-limited: it used 97% of its core; --generators shares the load",
        "cost      at most 1 EUR per 1M predictions, at 50% utilisation",
        "machines  at most 11 for 501 requests/s to each, at 50% utilisation",
    ]


def test_nothing_holds(
    bundle: Any, release: Release, world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    world.capacity = lambda setting: Capacity(
        low=None, high=2.0, high_failed=(3, 3), settled=True, why="a: P95 90 ms, over 50 ms"
    )
    found = size(bundle, release, Sizing(for_rate=500))
    assert found.per_million is None
    assert found.replicas is None
    render.sized(found)
    assert capsys.readouterr().out.splitlines() == [
        (
            "headgate:abc: fails even at 2 requests/s to each of 2 models at once "
            "(rows in a request: 5)"
        ),
        "  2/s failed in 3 of 3: a: P95 90 ms, over 50 ms",
    ]


def test_without_a_price_it_says_how_to_set_one(
    bundle: Any, release: Release, world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle.config = msgspec.structs.replace(bundle.config, cost=CostConfig())
    world.capacity = lambda setting: msgspec.structs.replace(FOUND, settled=False)
    render.sized(size(bundle, release, Sizing()))
    printed = capsys.readouterr().out
    assert "cost      unknown: set instance_per_hour under [cost] in headgate.toml" in printed
    assert "the time ended before that was settled: --budget gives more" in printed
    assert "  104/s failed in 3 of 4: P95 60 ms" in printed


def test_better_settings_are_measured_anew(
    bundle: Any, release: Release, world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = Setting(workers=2, threads=1, max_batch_rows=16)
    again = Estimate(1.2, 1.1, 1.3, 10)

    def ratio(other: Setting, seed: int) -> Estimate:
        if seed:
            return again
        return BETTER if other in (wanted, Setting(workers=2, threads=1)) else SAME

    world.ratio = ratio
    found = size(bundle, release, Sizing(tune=True)).tuned
    assert found is not None
    assert found.best == wanted
    assert found.gain is not None
    assert (found.gain.times, found.gain.low, found.gain.high) == (1.2, 1.1, 1.3)
    assert found.capacity == FOUND
    assert found.lines == {
        "headgate.toml": ("[server]", "workers = 2"),
        "models/a/model.toml": ("[serving]", "max_batch_rows = 16"),
        "models/b/model.toml": ("[serving]", "max_batch_rows = 16"),
    }
    render.sized(size(bundle, release, Sizing(tune=True)))
    printed = capsys.readouterr().out
    assert "1.20 times as much (1.10 to 1.30) as workers 1, threads 1" in printed
    assert "  models/b/model.toml\n    [serving]\n    max_batch_rows = 16\n" in printed


@pytest.mark.parametrize(
    ("capacity", "code"),
    [
        (FOUND, 0),
        (Capacity(low=5.0, high=None, low_held=(1, 1)), 0),
        (Capacity(low=None, high=2.0, high_failed=(3, 3), settled=True), 1),
        (Capacity(low=None, high=90.0, high_failed=(2, 2)), 3),
        (Capacity(low=None, high=None, limited="it was late", settled=True), 3),
    ],
)
def test_exit_codes(
    capacity: Capacity,
    code: int,
    *,
    bundle: Any,
    release: Release,
    world: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle.exclusive = lambda **_: contextlib.nullcontext()
    asked: list[str | None] = []
    monkeypatch.setattr(cli, "_bundle", lambda: bundle)
    monkeypatch.setattr(pipeline, "find", lambda _, tag: (asked.append(tag), release)[1])
    monkeypatch.setattr(sys, "argv", ["headgate", "capacity", "abc", "--rows", "3", "--json"])
    world.capacity = lambda setting: capacity
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code or 0) == code
    assert asked == ["abc"]
    printed = json.loads(capsys.readouterr().out)
    assert (printed["rows"], printed["capacity"]["low"]) == (3, capacity.low)


@pytest.mark.parametrize("why", ["tie", "luck", "broken", "slower"])
def test_the_present_settings_are_kept(
    why: str, bundle: Any, release: Release, world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    two = Setting(workers=2, threads=1)
    if why == "luck":  # better once, and not when it is measured anew
        world.ratio = lambda other, seed: BETTER if other == two and not seed else SAME
    elif why == "broken":
        world.broken = {two}
    elif why == "slower":  # more answers at saturation, and yet fewer within the promise
        world.ratio = faster(two)
        slow = msgspec.structs.replace(FOUND, low=50.0, high=52.0)
        world.capacity = lambda setting: slow if setting == two else FOUND
    sized = size(bundle, release, Sizing(tune=True))
    assert sized.tuned is not None
    assert (sized.tuned.best, sized.tuned.gain, sized.tuned.capacity) == (NOW, None, None)
    assert sized.tuned.lines == {}
    said = [str(each) for each in sized.tuned.tried if each.setting == two]
    if why == "broken":
        assert said == ["not possible: capacity-other: the server did not start"]
    render.sized(sized)
    words = "settings  nothing is better than workers 1, threads 1, beyond the noise"
    assert words in capsys.readouterr().out
    assert json.loads(msgspec.json.encode(sized))["tuned"]["tried"]


def test_no_time_no_comparison(bundle: Any, release: Release, world: Any) -> None:
    found = size(bundle, release, Sizing(tune=True, budget_s=1e-9)).tuned
    assert found is not None
    assert found.tried == ()


def test_a_server_is_ended_whatever_happens(
    bundle: Any, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    server = SimpleNamespace(
        wait_ready=lambda timeout: None,
        stop=told.append,
        address="x:1",
        alive=True,
        load_time_s=0.1,
    )

    def launch(bento: Path, *_: Any, server: ServerConfig, **__: Any) -> Any:
        told.append((server.workers, server.threads))
        return launched

    launched = server
    bundle.launch = launch
    monkeypatch.setattr(study, "asked_of", lambda *_, **__: (object(),))

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gate, "find_capacity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        size(bundle, release, Sizing())
    assert told == [(1, 1), bundle.config.server.drain_s]
    assert list((bundle.home / "run").iterdir()) == []


def test_another_setting_travels_in_a_copy_that_vanishes(tmp_path: Path) -> None:
    bento = make_bento(tmp_path)
    before = {path: path.read_bytes() for path in bento.rglob("*") if path.is_file()}
    folder = tmp_path / "run"
    folder.mkdir()
    setting = Setting(workers=1, threads=1, parallel_calls=2, max_batch_rows=16)
    with tuned_bento(bento, folder, setting) as made:
        assert made != bento
        for name in ("a", "b"):
            room = made / "src" / "models" / name
            config = load_model_config(room / "model.toml")
            assert (config.serving.parallel_calls, config.serving.max_batch_rows) == (2, 16)
            assert (config.name, config.serving.deadline_ms) == (name, 700)
            assert (room / "net.py").read_text() == "# code"
        assert (made / "src" / "headgate").is_symlink()
        assert (made / "bento.yaml").read_text() == "name: headgate"
        assert not (made / "src" / "service.py").is_symlink()
    assert list(folder.iterdir()) == []
    assert {path: path.read_bytes() for path in bento.rglob("*") if path.is_file()} == before


def test_what_the_models_say_already_takes_no_copy(tmp_path: Path) -> None:
    bento = make_bento(tmp_path)
    with tuned_bento(bento, tmp_path, Setting(workers=2, threads=2)) as made:
        assert made == bento


@pytest.mark.parametrize(
    ("profiles", "saturated", "asked"),
    [
        (("quick",), False, True),  # nobody measures it, and that is told
        (("quick", "full"), False, False),  # left to the other one
        (("quick", "full"), True, True),
        (("spiky", "quick"), False, True),  # a spike measures none, whatever it says
    ],
)
def test_which_profile_the_gate_asks_for_the_cost(
    profiles: tuple[str, ...], saturated: bool, asked: bool, bundle: Any
) -> None:
    known = {
        "quick": LoadProfile(),
        "full": LoadProfile(saturate_s=1),
        "spiky": LoadProfile(shape="spike", saturate_s=1),
    }
    gated = msgspec.structs.replace(bundle.config.gate, profiles=known)
    bundle.config = msgspec.structs.replace(bundle.config, gate=gated)
    judge = object.__new__(judging._Gate)
    judge.bundle, judge.profiles = bundle, profiles
    judge.demands = {"a": DemandConfig(max_cost_per_million=1)}
    blocks = Saturation(block=np.arange(6), rps=np.full(6, 400.0)) if saturated else None
    side = Side(release="r", samples=(), saturation=blocks)
    checks = judge._cost(Evidence(candidate=side, generator=Generator(cpu=0.1)))
    assert [check.name for check in checks] == (["cost"] if asked else [])
    if asked:
        assert checks[0].outcome is (Outcome.PASS if saturated else Outcome.INCONCLUSIVE)


def test_a_comparison_in_words() -> None:
    tried = Tried(setting=Setting(workers=2, threads=1), beside=NOW, times=1.5, low=1.3, high=1.7)
    assert str(tried) == "no time to compare them"
    pairs = msgspec.structs.replace(tried, pairs=6)
    assert str(pairs) == "better: 1.50 times (1.30 to 1.70)"
    worse = msgspec.structs.replace(pairs, low=0.9, high=None)
    assert str(worse) == "no better: 1.50 times (0.90 upwards)"
