"""What the history adds up to, and what it allows. Pure functions over records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable

from headgate.errors import InputError, RolloutError, VerdictRequiredError
from headgate.records import Event, EventKind, Outcome, Release, RolloutState, Verdict

__all__ = ["is_valid", "passing_verdict", "replay", "rollback_target"]


def replay(events: Iterable[Event]) -> RolloutState:
    """Rebuild the state from the events, oldest first.

    Promotions stack up and rollbacks unwind the stack, so that a second rollback goes back
    further instead of returning to the release that was just left.
    """
    stack: list[Release] = []
    verdicts: dict[str, Verdict] = {}
    for event in events:
        release = event.release
        if event.kind is EventKind.GATED:
            if event.verdict is not None and event.verdict.digest == release.digest:
                verdicts[release.digest] = _last(verdicts.get(release.digest), event.verdict)
            continue
        earlier = [held.digest for held in stack]
        if event.kind is EventKind.ROLLED_BACK and release.digest in earlier:
            del stack[earlier.index(release.digest) + 1 :]
        elif not stack or stack[-1].digest != release.digest:
            stack.append(release)
    return RolloutState(
        live=stack[-1] if stack else None,
        previous=stack[-2] if len(stack) > 1 else None,
        verdicts=verdicts,
    )


def _last(before: Verdict | None, verdict: Verdict) -> Verdict:
    """The verdict that holds: a fail is undone only under the load profiles that found it."""
    if (
        before is not None
        and before.outcome is Outcome.FAIL
        and verdict.outcome is not Outcome.FAIL
        and _not_tried(verdict, before.profile.split(", "))
    ):
        return before
    return verdict


def is_valid(
    verdict: Verdict,
    *,
    now: dt.datetime,
    max_age: dt.timedelta,
    profiles: Collection[str] = (),
) -> bool:
    """Whether the verdict still lets its release have traffic, and was reached under ``profiles``."""
    return (
        verdict.outcome is Outcome.PASS
        and now - verdict.at <= max_age
        and not _not_tried(verdict, profiles)
    )


def passing_verdict(
    state: RolloutState,
    release: Release,
    *,
    now: dt.datetime,
    max_age: dt.timedelta,
    profiles: Collection[str] = (),
) -> Verdict:
    """The verdict that lets ``release`` have traffic.

    Raises:
        VerdictRequiredError: there is none for this digest, it did not pass, it is older than
            ``max_age``, or was not reached under all of ``profiles``.
    """
    verdict = state.verdicts.get(release.digest)
    remedy = f"run `headgate gate {release.tag}`"
    if verdict is None:
        raise VerdictRequiredError("no gate has judged it", where=release.tag, remedy=remedy)
    if verdict.outcome is not Outcome.PASS:
        raise VerdictRequiredError(
            f"its last verdict is {verdict.outcome}: {verdict.reason}",
            where=release.tag,
            remedy=f"mend what the report shows, then {remedy}",
        )
    if missing := _not_tried(verdict, profiles):
        raise VerdictRequiredError(
            f"its verdict is of the load profile {verdict.profile}, and its models demand "
            f"{', '.join(missing)} too",
            where=release.tag,
            remedy=remedy,
        )
    if not is_valid(verdict, now=now, max_age=max_age):
        hours = max_age.total_seconds() / 3600
        raise VerdictRequiredError(
            f"its verdict of {verdict.at:%Y-%m-%d %H:%M} UTC is older than {hours:g} h",
            where=release.tag,
            remedy=remedy,
        )
    return verdict


def _not_tried(verdict: Verdict, profiles: Collection[str]) -> list[str]:
    tried = verdict.profile.split(", ")
    return [name for name in profiles if name not in tried]


def rollback_target(
    state: RolloutState, events: Iterable[Event] = (), tag: str | None = None
) -> Release:
    """The release to go back to: the one before, or ``tag`` (or what begins so), once live.

    Raises:
        RolloutError: nothing is live, or nothing was live before it.
        InputError: ``tag`` never was, or fits several.
    """
    if state.live is None:
        raise RolloutError("nothing is live", remedy="run `headgate ship`")
    remedy = "`headgate history` shows what was live"
    if tag is None:
        if state.previous is None:
            raise RolloutError(
                "there is no earlier release to go back to", where=state.live.tag, remedy=remedy
            )
        return state.previous
    lived = {each.release.tag: each.release for each in events if each.kind is not EventKind.GATED}
    version = tag.rpartition(":")[2]
    fitting = [name for name in lived if name.rpartition(":")[2] == version] or [
        name for name in lived if version and name.rpartition(":")[2].startswith(version)
    ]
    if len(fitting) != 1:
        problem = f"fits several: {', '.join(fitting)}" if fitting else "it was never live"
        raise InputError(problem, where=tag or "''", remedy=remedy)
    return lived[fitting[0]]
