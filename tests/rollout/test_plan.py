from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from headgate.errors import InputError, RolloutError, VerdictRequiredError
from headgate.records import Event, EventKind, Outcome, Release, RolloutState, Verdict
from headgate.rollout import (
    is_valid,
    passing_verdict,
    replay,
    rollback_target,
)

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def release(name: str) -> Release:
    return Release(tag=f"headgate:{name}", digest=f"sha256:{name}", models=())


def verdict(name: str, outcome: Outcome = Outcome.PASS, at: dt.datetime = NOW) -> Verdict:
    return Verdict(
        release=f"headgate:{name}",
        digest=f"sha256:{name}",
        outcome=outcome,
        reason="because",
        samples=400,
        profile="quick",
        at=at,
    )


def event(kind: EventKind, name: str, said: Verdict | None = None) -> Event:
    return Event(
        id=name, at=NOW, kind=kind, release=release(name), who="ops", why="test", verdict=said
    )


def promoted(name: str) -> Event:
    return event(EventKind.PROMOTED, name)


def rolled_back(name: str) -> Event:
    return event(EventKind.ROLLED_BACK, name)


def lives(events: list[Event]) -> tuple[str | None, str | None]:
    state = replay(events)
    return (
        state.live.tag if state.live else None,
        state.previous.tag if state.previous else None,
    )


def test_no_history_is_no_release() -> None:
    assert lives([]) == (None, None)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([promoted("a")], ("headgate:a", None)),
        ([promoted("a"), promoted("b")], ("headgate:b", "headgate:a")),
        ([promoted("a"), promoted("a")], ("headgate:a", None)),
        ([promoted("a"), promoted("b"), rolled_back("a")], ("headgate:a", None)),
        (
            [promoted("a"), promoted("b"), promoted("c"), rolled_back("b")],
            ("headgate:b", "headgate:a"),
        ),
        (
            [promoted("a"), promoted("b"), promoted("c"), rolled_back("a")],
            ("headgate:a", None),
        ),
        (
            [promoted("a"), promoted("b"), rolled_back("a"), promoted("b")],
            ("headgate:b", "headgate:a"),
        ),
        # Back to one that had been unwound: it was live once, so it may be again.
        (
            [promoted("a"), promoted("b"), rolled_back("a"), rolled_back("b")],
            ("headgate:b", "headgate:a"),
        ),
        ([event(EventKind.GATED, "a")], (None, None)),
    ],
)
def test_replay(events: list[Event], expected: tuple[str | None, str | None]) -> None:
    assert lives(events) == expected


def test_replay_keeps_the_last_verdict_of_each_digest() -> None:
    state = replay(
        [
            event(EventKind.GATED, "a", verdict("a", Outcome.FAIL)),
            event(EventKind.GATED, "a", verdict("a")),
            event(EventKind.GATED, "b", verdict("a", Outcome.INCONCLUSIVE)),
        ]
    )
    assert {key: value.outcome for key, value in state.verdicts.items()} == {
        "sha256:a": Outcome.PASS
    }


def test_a_passing_verdict_promotes() -> None:
    state = RolloutState(verdicts={"sha256:a": verdict("a")})
    assert passing_verdict(state, release("a"), now=NOW, max_age=DAY) == verdict("a")


@pytest.mark.parametrize(
    ("verdicts", "says"),
    [
        ({}, "no gate has judged it"),
        ({"sha256:b": verdict("b")}, "no gate has judged it"),
        ({"sha256:a": verdict("a", Outcome.FAIL)}, "fail: because"),
        ({"sha256:a": verdict("a", Outcome.INCONCLUSIVE)}, "inconclusive: because"),
        ({"sha256:a": verdict("a", at=NOW - 2 * DAY)}, "older than 24 h"),
    ],
)
def test_nothing_else_promotes(verdicts: dict[str, Verdict], says: str) -> None:
    state = RolloutState(verdicts=verdicts)
    with pytest.raises(VerdictRequiredError, match=says) as caught:
        passing_verdict(state, release("a"), now=NOW, max_age=DAY)
    assert "headgate gate headgate:a" in str(caught.value)


def test_validity_ends_with_age() -> None:
    assert is_valid(verdict("a"), now=NOW + DAY, max_age=DAY)
    assert not is_valid(verdict("a"), now=NOW + 1.1 * DAY, max_age=DAY)


def test_a_verdict_of_other_profiles_than_demanded_promotes_nothing() -> None:
    found = msgspec.structs.replace(verdict("a"), profile="quick, spike")
    state = RolloutState(verdicts={"sha256:a": found})
    for demanded in ((), ("spike",), ("spike", "quick")):
        assert is_valid(found, now=NOW, max_age=DAY, profiles=demanded)
        assert (
            passing_verdict(state, release("a"), now=NOW, max_age=DAY, profiles=demanded) == found
        )
    for demanded in (("soak",), ("quick", "soak"), ("spik",)):
        assert not is_valid(found, now=NOW, max_age=DAY, profiles=demanded)
        with pytest.raises(VerdictRequiredError, match=f"{demanded[-1]} too"):
            passing_verdict(state, release("a"), now=NOW, max_age=DAY, profiles=demanded)


def test_a_fail_is_undone_only_under_the_profiles_that_found_it() -> None:
    def judged(outcome: Outcome, profile: str) -> Event:
        found = msgspec.structs.replace(verdict("a", outcome), profile=profile)
        return event(EventKind.GATED, "a", found)

    fail, passed = judged(Outcome.FAIL, "full"), judged(Outcome.PASS, "quick")
    assert replay([fail, passed]).verdicts["sha256:a"].outcome is Outcome.FAIL
    assert replay([passed, fail]).verdicts["sha256:a"].outcome is Outcome.FAIL
    again = judged(Outcome.PASS, "quick, full")
    assert replay([fail, again]).verdicts["sha256:a"].outcome is Outcome.PASS
    open_still = judged(Outcome.INCONCLUSIVE, "full")
    assert replay([open_still, passed]).verdicts["sha256:a"].outcome is Outcome.PASS


def test_rollback_needs_somewhere_to_go() -> None:
    with pytest.raises(RolloutError, match="nothing is live"):
        rollback_target(RolloutState())
    with pytest.raises(RolloutError, match="no earlier release"):
        rollback_target(RolloutState(live=release("a")))
    state = RolloutState(live=release("b"), previous=release("a"))
    assert rollback_target(state) == release("a")


def test_only_what_was_live_is_gone_back_to() -> None:
    state = RolloutState(live=release("beta"), previous=release("alpha"))
    events = [
        promoted("alpha"),
        promoted("alps"),
        promoted("beta"),
        event(EventKind.GATED, "gamma", verdict("gamma")),
    ]
    for tag in ("headgate:alpha", "alpha", "alph"):
        assert rollback_target(state, events, tag) == release("alpha")
    for tag in ("headgate:gamma", "delta", "", "headgate:"):
        with pytest.raises(InputError, match="never live") as caught:
            rollback_target(state, events, tag)
        assert caught.value.where
    with pytest.raises(InputError, match="fits several: headgate:alpha, headgate:alps"):
        rollback_target(state, events, "al")
