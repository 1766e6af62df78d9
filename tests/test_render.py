"""What people read: their own words are shown as they are, tags in one piece."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from headgate import render
from headgate.doctor import Finding
from headgate.pipeline import Pruned, Shipped, Status
from headgate.pipeline.live import LiveModel, LiveRelease
from headgate.records import Check, Event, EventKind, ModelRef, Outcome, Release, Verdict
from headgate.registry import ModelVersion
from headgate.rollout import Running

ODD = "[/oops] [bold]x"
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
TAG = "headgate:960133b9469c"
REF = ModelRef(name="digits", version="1", run_id="0" * 32, digest=f"sha256:{'0' * 64}")
ODD_REF = ModelRef(name=ODD, version=ODD, run_id=ODD, digest=ODD)
RELEASE = Release(tag=TAG, digest=f"sha256:{'1' * 64}", models=(REF,))
ODD_RELEASE = Release(tag=ODD, digest=ODD, models=(ODD_REF,))
CHECK = Check(name=ODD, model=ODD, outcome=Outcome.PASS, reason=ODD, samples=1)
RUNNING = Running(release=ODD, digest=ODD, pid=7, created=0.0, http=ODD, log=ODD)


def verdict(outcome: Outcome = Outcome.PASS, **fields: Any) -> Verdict:
    given = {"release": ODD, "digest": ODD, "reason": ODD, "profile": ODD, "checks": (CHECK,)}
    return Verdict(outcome=outcome, samples=1, at=NOW, **{**given, **fields})


def event(**fields: Any) -> Event:
    plain = Event(id="1", at=NOW, kind=EventKind.PROMOTED, release=RELEASE, who="ops", why="so")
    return msgspec.structs.replace(plain, **fields)


def shipped(outcome: Outcome, *, live: bool) -> Shipped:
    return Shipped(
        release=ODD_RELEASE,
        verdict=verdict(outcome),
        live=live,
        judged=True,
        changed=False,
        http=ODD,
        examples=(ODD,),
    )


STATUS = Status(
    live=LiveRelease(tag=ODD, digest=ODD, verdict=verdict()),
    running=True,
    pid=7,
    addresses={ODD: ODD},
    previous=ODD,
    models=(
        LiveModel(name=ODD, version=ODD, run_id=ODD, digest=ODD, aliases=(ODD, ODD), engine=ODD),
    ),
)
VERSION = ModelVersion(version=ODD, created=NOW, run_id=ODD, aliases=(ODD, ODD))


@pytest.mark.parametrize(
    ("human", "value", "times"),
    [
        (render.refs, [ODD_REF], 4),
        (render.versions, {ODD: [VERSION]}, 5),
        (render.built, {"tag": ODD, "new": True, "path": ODD}, 2),
        (render.verdict, verdict(), 5),
        (render.running, RUNNING, 3),
        (render.stopped, {"stopped": RUNNING}, 1),
        (render.status, STATUS, 11),
        (render.history, [event(release=msgspec.structs.replace(RELEASE, tag=ODD))], 1),
        (render.history, [event(release=msgspec.structs.replace(RELEASE, models=(ODD_REF,)))], 2),
        (render.history, [event(who=ODD)], 1),
        (render.history, [event(why=ODD)], 1),
        (render.history, [event(verdict=verdict())], 0),
        (render.pruned, Pruned(kept=(ODD,), deleted=(ODD, ODD), freed_mb=1.0), 3),
        (render.examined, [Finding(name=ODD, ok=True, detail=ODD)], 2),
        (render.examined, [Finding(name=ODD, ok=False, detail=ODD)], 2),
        (render.shipped, shipped(Outcome.FAIL, live=False), 5 + 2),
        (render.shipped, shipped(Outcome.FAIL, live=True), 5 + 2),
        (render.shipped, shipped(Outcome.PASS, live=True), 5 + 5),
    ],
)
def test_words_in_brackets_are_no_markup(
    capsys: pytest.CaptureFixture[str], human: Callable[[Any], None], value: Any, times: int
) -> None:
    human(value)
    assert capsys.readouterr().out.count("[/oops]") == times


def test_tags_stay_whole_in_the_history(capsys: pytest.CaptureFixture[str]) -> None:
    models = tuple(msgspec.structs.replace(REF, name=f"a-longer-name-{n}") for n in range(4))
    release = msgspec.structs.replace(RELEASE, models=models)
    gated = verdict(Outcome.INCONCLUSIVE)
    render.history([event(release=release, who="somebody", why="because " * 20, verdict=gated)])
    out = capsys.readouterr().out
    for whole in (TAG, "2026-03-01 12:00:00", "inconclusive", "promoted"):
        assert whole in out
    assert max(map(len, out.splitlines())) <= 120


def test_what_was_live_stays_live_whatever_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    render.shipped(shipped(Outcome.FAIL, live=True))
    out = capsys.readouterr().out
    assert "goes on" in out
    assert "no traffic" not in out


def test_an_earlier_verdict_says_when_it_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    now = shipped(Outcome.PASS, live=True)
    render.shipped(msgspec.structs.replace(now, judged=False))
    assert "measured 2026-03-01 12:00 UTC, not now" in capsys.readouterr().out
    render.shipped(now)
    assert "measured" not in capsys.readouterr().out
    render.status(STATUS)
    assert "(2026-03-01 12:00 UTC)" in capsys.readouterr().out


def test_the_next_step_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    release = msgspec.structs.replace(
        RELEASE, models=(msgspec.structs.replace(REF, name="my digits"),)
    )
    done = msgspec.structs.replace(shipped(Outcome.PASS, live=True), release=release)
    render.shipped(msgspec.structs.replace(done, examples=("my digits",)))
    out = capsys.readouterr().out
    assert "/v1/models/my%20digits:predict " in out
    assert "-d '@examples/my digits.json'" in out
    render.shipped(done)
    out = capsys.readouterr().out
    assert "/v1/models/my%20digits\n" in out
    assert "examples" not in out
