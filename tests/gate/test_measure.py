"""Real Locust against real servers, a few seconds each."""

from __future__ import annotations

import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate.loads import PROFILE, REFERENCE, asked, leaves_nothing, measured, subject, write
from gate.makers import outcomes
from gate.server import Server, predict, serving

from headgate.config import LoadProfile
from headgate.errors import GateError, InputError, ServingError
from headgate.gate.measure import measure
from headgate.gate.schedule import LEAST_ROUNDS, peak
from headgate.records import Evidence, Outcome, Samples

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
MODULE = sys.modules[measure.__module__]
"""The package has the function under the name of the module."""
CLOCK_S = 0.01
"""By how much a timer may ring early."""


@dataclass
class Told:
    """What a whole run has told, and what the server saw of it."""

    server: Server
    evidence: list[Evidence]
    beside: Server | None = None
    said: list[str] = field(default_factory=list)
    watched: int = 0

    @property
    def last(self) -> Evidence:
        return self.evidence[-1]

    @property
    def samples(self) -> Samples:
        return self.last.candidate.samples[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One release, looked at more than once; in surroundings that are no business of the gate's."""
    folder = tmp_path_factory.mktemp("alone")
    for path in (folder / "locust.conf", folder / "home" / ".locust.conf"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("users = 9\nrun-time = 1\nweb-host = nowhere\n")
    real, hours = time.time, itertools.cycle((0, 7200, -7200))
    memory = itertools.chain([100.0, 300.0], itertools.repeat(200.0))
    profile = LoadProfile(
        rate=1, duration_s=0.8, block_s=0.4, budget_s=4, warmup_s=0.2, min_requests=20
    )
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        told = Told(server, [])

        def watch() -> float:
            told.watched += 1
            return next(memory)

        patch.setenv("LOCUST_HOST", "http://127.0.0.1:1")
        patch.setenv("LOCUST_USERS", "7")
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("LOCUST_RUN_TIME", "1")
        patch.chdir(folder)
        patch.setattr(MODULE, "_SAY_EVERY_S", 0.0)
        patch.setattr(time, "time", lambda: real() + next(hours))
        whom = subject(server, load_time_s=1.5, watch=watch, headers=(("x-key", "sesame"),))
        told.evidence = measured(
            whom, Path("made", "on the way"), profile, progress=told.said.append
        )
    return told


def test_everything_that_was_sent_is_told(alone: Told) -> None:
    samples = alone.samples
    assert alone.server.paths == {"/v1/models/m:predict"}
    rounds = samples.block[-1] + 1
    assert len(samples.ok) == 50 * rounds
    assert len(alone.server.seen) == 50 * rounds + 25  # the warm-up is sent, and thrown away
    assert samples.ok.all()
    assert samples.matched.all()
    assert samples.errors == {}
    assert (samples.model, samples.release, alone.last.candidate.release) == ("m", "r:1", "r:1")
    assert samples.rows.tolist() == [1] * len(samples.ok)
    assert ("x-key", "sesame") in alone.server.headers
    assert alone.last.champion is None
    assert alone.last.peak is None
    assert alone.last.candidate.saturation is None
    assert alone.last.candidate.load_time_s == 1.5


def test_rounds_are_numbered_and_follow_each_other(alone: Told) -> None:
    samples = alone.samples
    rounds = int(samples.block[-1]) + 1
    assert samples.block.tolist() == np.repeat(np.arange(rounds), 50).tolist()
    assert samples.duration_s == pytest.approx(0.4 * rounds)
    assert (np.diff(samples.intended_s) >= 0).all()
    for number in range(rounds):
        mine = samples.intended_s[samples.block == number]
        assert mine.max() - mine.min() < 0.4
    starts = [samples.intended_s[samples.block == number].min() for number in range(rounds)]
    assert (np.diff(starts) > 0.2).all()
    # Poisson: every round has moments of its own.
    first, second = (samples.intended_s[samples.block == number] for number in (0, 1))
    assert not np.allclose(first - first[0], second - second[0])


def test_times_are_those_of_one_clock_that_does_not_jump(alone: Told) -> None:
    samples = alone.samples
    assert (samples.sent_s >= samples.intended_s - CLOCK_S).all()
    assert (samples.latency_s > samples.sent_s - samples.intended_s).all()
    assert 0 <= samples.intended_s.min() < samples.intended_s.max() < 60
    assert samples.latency_s.max() < 60


def test_each_evidence_holds_all_before_it(alone: Told) -> None:
    for one, other in itertools.pairwise(alone.evidence):
        mine, theirs = one.candidate.samples[0], other.candidate.samples[0]
        assert len(theirs.ok) > len(mine.ok)
        for name in ("block", "intended_s", "sent_s", "latency_s", "ok", "matched"):
            known = getattr(theirs, name)[: len(mine.ok)]
            assert known.tolist() == getattr(mine, name).tolist()
        assert other.looks[: len(one.looks)] == one.looks


def test_looks_are_shares_of_the_budget(alone: Told) -> None:
    assert [len(each.looks) for each in alone.evidence] == list(range(1, len(alone.evidence) + 1))
    looks = alone.last.looks
    rounds = [each.candidate.samples[0].block[-1] + 1 for each in alone.evidence]
    assert rounds[0] == 2  # what the profile asks for at least
    assert 0 < looks[0] <= looks[-1] <= 1
    for count, share in zip(rounds, looks, strict=True):
        assert share == pytest.approx(looks[0] * count / rounds[0])


def test_the_generator_tells_what_it_is_capable_of(alone: Told) -> None:
    generator = alone.last.generator
    assert 0 < generator.cpu < 1
    assert generator.p95_s is not None
    assert 0 < generator.p95_s < 10
    assert generator.most_rps is None


def test_every_row_is_asked_for_and_scored(alone: Told) -> None:
    wind = REFERENCE.inputs["wind"]
    asked_for = [row["wind"] for (row,) in alone.server.rows]
    assert set(asked_for) == {None if np.isnan(each) else each for each in wind}
    assert REFERENCE.labels is not None
    (quality,) = alone.last.quality
    right = REFERENCE.outputs["label"] == REFERENCE.labels
    assert quality.candidate.tolist() == right.astype(float).tolist()
    assert quality.metric == "accuracy"
    assert quality.champion is None


def test_it_is_watched_after_each_block(alone: Told) -> None:
    rounds = alone.samples.block[-1] + 1
    assert alone.watched == 1 + rounds
    assert alone.last.candidate.memory_mb == 300


def test_progress_is_told(alone: Told) -> None:
    assert alone.said
    assert all(line.startswith("  at most ") for line in alone.said)
    assert all(line.endswith(" s left") for line in alone.said)


def test_it_passes(alone: Told) -> None:
    judged = outcomes(alone.last, profile=PROFILE)
    assert judged["error_rate"] is not FAIL
    assert judged["parity"] is PASS


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A release of two models beside a champion of one, sent by two generators."""

    def champions(rows: list[dict[str, Any]]) -> tuple[int, bytes]:
        said = [predict(row) for row in rows]
        for each in said:
            each["label"] = "on time" if each["label"] == "late" else "late"
        return 200, json.dumps({"predictions": said, "release": "r:0"}).encode()

    profile = LoadProfile(
        duration_s=1.2,
        block_s=0.2,
        warmup_s=0.2,
        saturate_s=0.2,
        connections=6,
        compare=True,
        generators=2,
    )
    with serving(delay_s=0.02, at_once=2) as server, serving(answer=champions) as other:
        told = Told(server, [], other)
        told.evidence = measured(
            subject(server, asked("m", rate=30), asked("n", rate=20, rows=3)),
            tmp_path_factory.mktemp("beside"),
            profile,
            subject(other, asked("m", rate=30, release="r:0", own=False), release="r:0"),
        )
    return told


def test_both_sides_are_loaded_alike(beside: Told) -> None:
    assert beside.last.champion is not None
    m, n = beside.last.candidate.samples
    (theirs,) = beside.last.champion.samples
    assert (m.model, n.model, theirs.model) == ("m", "n", "m")
    assert (m.release, theirs.release) == ("r:1", "r:0")
    rounds = np.arange(LEAST_ROUNDS)
    assert m.block.tolist() == theirs.block.tolist() == np.repeat(rounds, 6).tolist()
    assert n.block.tolist() == np.repeat(rounds, 4).tolist()
    assert n.rows.tolist() == [3] * len(n.block)
    assert m.duration_s == n.duration_s == theirs.duration_s == pytest.approx(1.2)
    for samples in (m, n, theirs):
        assert samples.ok.all()
        assert samples.matched.all()
        assert samples.errors == {}
    assert beside.last.candidate.paired
    assert beside.last.champion.paired
    # The champion knows nothing of the second model.
    assert beside.beside is not None
    assert beside.beside.paths == {"/v1/models/m:predict"}
    assert beside.server.paths == {"/v1/models/m:predict", "/v1/models/n:predict"}
    known = {ask.body for ask in asked("m").asks}
    assert set(beside.beside.bodies) <= known
    # Nor is it asked for in closed loop: the release would be slower for having one more.
    assert len([rows for rows in beside.server.rows if len(rows) == 3]) == len(n.block) + 4


def test_blocks_of_a_round_are_neighbours_and_in_random_order(beside: Told) -> None:
    assert beside.last.champion is not None
    mine = beside.last.candidate.samples[0]
    (theirs,) = beside.last.champion.samples
    first, ends = [], [-1.0]
    for number in range(LEAST_ROUNDS):
        spans = []
        for samples in (mine, theirs):
            at_s = samples.intended_s[samples.block == number]
            spans.append((at_s.min(), at_s.max()))
        early, late = sorted(spans)
        assert early[1] < late[0]
        assert ends[-1] < early[0]
        ends.append(late[1])
        first.append(spans[0] < spans[1])
    assert set(first) == {True, False}


def test_every_request_is_sent_by_one_of_the_generators(beside: Told) -> None:
    for server, side, warm in (
        (beside.server, beside.last.candidate, 6 + 4),
        (beside.beside, beside.last.champion, 6),
    ):
        assert server is not None
        assert side is not None
        assert side.saturation is not None
        told = sum(len(samples.ok) for samples in side.samples)
        told += side.saturation.answered + side.saturation.failed
        assert len(server.seen) == told + warm
        for samples in side.samples:
            assert (np.diff(samples.intended_s) >= 0).all()


def test_saturation_is_what_the_server_can_do(beside: Told) -> None:
    """Two places and 20 ms an answer: no more than 2 x (1 + 180 / 20) in the 180 ms that count, and
    one on each of six connections that a busy machine has kept from before.
    """
    saturation = beside.last.candidate.saturation
    assert saturation is not None
    assert saturation.block.tolist() == list(range(LEAST_ROUNDS))
    assert saturation.rps.sum() > 0
    assert (saturation.rps <= (2 * (1 + 0.18 / 0.02) + 6) / 0.18).all()
    assert saturation.answered >= saturation.rps.sum() * 0.18 - 1e-6
    assert (saturation.wrong, saturation.failed, saturation.errors) == (0, 0, {})
    assert beside.last.champion is not None
    assert beside.last.champion.saturation is not None
    assert beside.last.champion.saturation.block.tolist() == list(range(LEAST_ROUNDS))
    generator = beside.last.generator
    assert generator.most_rps is not None
    assert generator.most_rps > 0
    assert generator.p95_s is not None
    assert np.isfinite(generator.p95_s)
    assert 0 < generator.cpu < 1


def test_quality_of_the_rows_that_both_predicted(beside: Told) -> None:
    m, n = beside.last.quality
    assert (m.model, n.model) == ("m", "n")
    assert m.champion is not None
    assert n.champion is None
    # The champion says the contrary of each.
    assert (m.candidate + m.champion == 1).all()
    assert 0 < m.candidate.mean() < 1
    assert 30 <= len(m.candidate) <= len(REFERENCE.outputs["label"])


def test_one_look_where_there_is_no_budget_for_more(beside: Told) -> None:
    assert [each.looks for each in beside.evidence] == [(1.0,)]


SLEEPY = """
import gevent
from headgate.gate.generator import PlannedLoad as Punctual
class PlannedLoad(Punctual):
    def send(self, place):
        gevent.sleep(0.25)
        super().send(place)
del Punctual
"""


def test_a_late_generator_gives_itself_away(tmp_path: Path) -> None:
    locustfile = write(tmp_path, SLEEPY)
    with serving() as server:
        (evidence,) = measured(subject(server), tmp_path / "run", locustfile=locustfile)
    (samples,) = evidence.candidate.samples
    assert samples.ok.all()
    assert (samples.sent_s - samples.intended_s >= 0.25 - CLOCK_S).all()
    assert (samples.latency_s >= 0.25 - CLOCK_S).all()
    assert evidence.generator.p95_s is not None
    assert evidence.generator.p95_s >= 0.25 - CLOCK_S
    judged = outcomes(evidence, profile=PROFILE)
    assert judged["p95"] is judged["throughput"] is INCONCLUSIVE
    assert judged["parity"] is PASS


def test_a_spike_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one long block; the champion, here where nobody listens, is not asked."""
    monkeypatch.setattr(MODULE, "_LOOK_AFTER_S", 0.0)
    profile = LoadProfile(
        shape="spike", duration_s=1.6, block_s=0.2, peak=4, warmup_s=0, compare=True
    )
    memory: list[float] = []

    def watch() -> float:
        memory.append(100.0 + len(memory))
        return memory[-1]

    with serving() as server:
        whom = subject(server, asked(rate=50), watch=watch)
        nobody = subject("http://127.0.0.1:1")
        (evidence,) = measured(whom, tmp_path, profile, nobody)
    (samples,) = evidence.candidate.samples
    assert evidence.champion is None
    assert evidence.looks == (1.0,)
    assert evidence.peak == peak(profile)
    begin, end = evidence.peak or (0, 0)
    during = (samples.intended_s >= begin) & (samples.intended_s < end)
    assert during.sum() == 4 * 50 * 0.4
    assert (samples.intended_s < begin).sum() == 50 * 0.35 * 1.6
    assert (samples.intended_s >= end).sum() == 50 * 0.4 * 1.6
    assert samples.block.tolist() == (samples.intended_s // 0.2).astype(int).tolist()
    assert samples.block[-1] == 7
    assert samples.duration_s == 1.6
    assert samples.ok.all()
    assert len(server.seen) == len(samples.ok)
    assert len(memory) >= 4
    assert evidence.candidate.memory_mb == memory[-1]


def test_a_release_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    with serving(dies_after=10) as server:

        def watch() -> None:
            if server.ended.is_set():
                raise ServingError("it ended under load", where="r:1")

        profile = LoadProfile(duration_s=120, block_s=0.4, warmup_s=0)
        with pytest.raises(ServingError, match="r:1: it ended under load"):
            measured(subject(server, watch=watch), tmp_path, profile)
    assert len(server.seen) < 60


def test_nor_is_the_end_of_a_long_block_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_LOOK_AFTER_S", 0.0)
    began_s = time.monotonic()
    with serving() as server:

        def watch() -> None:
            if len(server.seen) > 5:
                raise ServingError("it ended under load")

        profile = LoadProfile(shape="soak", duration_s=250, warmup_s=0)
        with pytest.raises(ServingError, match="it ended under load"):
            measured(subject(server, watch=watch), tmp_path, profile)
    assert time.monotonic() - began_s < 200


def test_who_has_seen_enough_ends_it(tmp_path: Path) -> None:
    """Here that the server is slow."""
    profile = LoadProfile(
        duration_s=0.8, block_s=0.8, budget_s=250, warmup_s=0, min_requests=20, rate=125
    )
    with serving(delay_s=0.3) as server, leaves_nothing(tmp_path):
        seen = measure(subject(server), None, profile, workdir=tmp_path, progress=lambda _: None)
        evidence = next(seen)
        assert outcomes(evidence, profile=profile, lateness_ms=1e6)["p95"] is FAIL
        assert list(tmp_path.iterdir())
        seen.close()
        assert list(seen) == []
    assert len(server.seen) == 100


@pytest.mark.parametrize(
    ("url", "error"), [("http://127.0.0.1:1", ServingError), ("localhost:3000", InputError)]
)
def test_nothing_is_begun_where_nobody_is(url: str, error: type[Exception], tmp_path: Path) -> None:
    with serving() as server:
        for one, other in ((url, server.url), (server.url, url)):
            profile = LoadProfile(compare=True)
            with pytest.raises(error):
                measured(subject(one), tmp_path / "run", profile, subject(other, release="r:0"))
    assert server.seen == []
    assert not (tmp_path / "run").exists()


def test_a_crash_of_the_generator_is_no_evidence(tmp_path: Path) -> None:
    locustfile = write(tmp_path, 'raise RuntimeError("no wheel on the cart")')
    with serving() as server, pytest.raises(GateError, match="no wheel on the cart"):
        measured(subject(server), tmp_path / "run", locustfile=locustfile)
