"""Release → evidence → verdict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from headgate import packaging
from headgate.errors import GateError, HeadgateError, ServingError
from headgate.pipeline.bundle import Bundle, read_rooms
from headgate.pipeline.subjects import asked_of, started, subject
from headgate.records import Check, EventKind, Evidence, Outcome, Release, Verdict

if TYPE_CHECKING:
    from headgate.config import LoadProfile
    from headgate.gate import Subject, Trial

__all__ = ["demanded", "gate"]

_ALONE = "Judged absolutely only: "


def gate(bundle: Bundle, release: Release, profile: str | None = None) -> Verdict:
    """Load the release's Bento, judge it, and append the verdict to the history.

    Under ``profile``; None stands for all that its models demand, else for the one of ``[gate]``.
    """
    from headgate import gate as room

    profiles = (profile,) if profile else demanded(bundle, release) or (bundle.profile(None),)
    bundle.registry.events()  # an unreachable registry is found before the load, not after
    found = _Gate(bundle, release, profiles)
    for name in profiles:
        found.run(name, prefix=f"{name}/" if len(profiles) > 1 else "")
    at = dt.datetime.now(dt.UTC)
    verdict = room.conclude(release, found.checks, ", ".join(profiles), at, note=found.note)
    reports = room.reports(verdict, found.shown.evidence, found.shown.course)
    folder = bundle.home / "reports" / f"{release.tag.replace(':', '-')}-{at:%Y%m%dT%H%M%SZ}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in reports.items():
        (folder / name).write_bytes(content)
    bundle.append(EventKind.GATED, release, verdict.reason, verdict, reports)
    state = bundle.state()
    live = state.live
    if verdict.outcome is Outcome.PASS and (live is None or live.digest != release.digest):
        bundle.follow_aliases(live, release, state.verdicts.get(live.digest) if live else None)
    return verdict


def demanded(bundle: Bundle, release: Release) -> tuple[str, ...]:
    """The load profiles that the release's models demand.

    Raises InputError for one that is not defined.
    """
    rooms = read_rooms(packaging.bento_path(bundle.store, release.tag) / "src")
    names = [name for ref in release.models for name in rooms[ref.name].config.gate.profiles]
    return tuple(bundle.profile(name) for name in dict.fromkeys(names))


class _Gate:
    """One release before the gate: what was found under one profile after the other."""

    def __init__(self, bundle: Bundle, release: Release, profiles: Sequence[str]) -> None:
        from headgate.gate import Trial

        self.bundle = bundle
        self.release = release
        self.profiles = profiles
        rooms = read_rooms(packaging.bento_path(bundle.store, release.tag) / "src")
        self.slos = {ref.name: rooms[ref.name].config.slo for ref in release.models}
        self.demands = {ref.name: rooms[ref.name].config.gate for ref in release.models}
        self.checks: list[Check] = []
        self.note = ""
        self.shown = Trial()
        """What the report shows: the trial that compared, else the first."""

    def run(self, name: str, prefix: str) -> None:
        """Judge under one profile; the checks are named with ``prefix``."""
        from headgate import gate as room

        profile = self.bundle.config.gate.profiles[name]
        trial = room.Trial()
        try:
            self._try(name, profile, trial)
        except ServingError as error:
            reason = f"The release did not serve: {error}"
            trial.checks = (_about_all("serving", Outcome.FAIL, reason),)
        except GateError as error:
            trial.checks = (room.not_measured(error),)
        replace = msgspec.structs.replace
        self.checks += [replace(check, name=prefix + check.name) for check in trial.checks]
        if self.shown.evidence is None or (trial.evidence and trial.evidence.champion):
            self.shown = trial

    def _try(self, name: str, profile: LoadProfile, trial: Trial) -> None:
        """Load until every check is decided or the budget is spent."""
        from headgate import gate as room

        config = self.bundle.config.gate
        with ExitStack() as stack:
            candidate, champion = self._subjects(profile, stack)
            beside = f" beside {champion.release}" if champion else ""
            shown = f"{name}, {_length(profile)}"
            self.bundle.notify(f"loading {', '.join(self.slos)}{beside} ({shown})")
            seen = room.measure(
                candidate,
                champion,
                profile,
                workdir=self.bundle.home / "run",
                locustfile=self.bundle.root / "load_tests" / "locustfile.py",
                listen=config.listen,
                progress=self.bundle.notify,
                saturates=trial.saturates,
            )
            trial.follow(
                seen,
                lambda evidence: (
                    *room.judge(
                        evidence,
                        self.slos,
                        self.demands,
                        profile,
                        max_generator_lateness_ms=config.max_generator_lateness_ms,
                    ),
                    # What no measurement can decide is told once, and prolongs nothing.
                    *(check for check in self._cost(evidence) if check.samples),
                ),
            )
        if trial.evidence is not None:
            trial.checks += tuple(each for each in self._cost(trial.evidence) if not each.samples)

    def _cost(self, evidence: Evidence) -> tuple[Check, ...]:
        """What predictions cost; left to another of the profiles where only that measures it."""
        from headgate import gate as room

        config = self.bundle.config
        others = (config.gate.profiles[name] for name in self.profiles)
        saturated = any(each.saturate_s > 0 and each.shape == "steady" for each in others)
        if saturated and evidence.candidate.saturation is None:
            return ()
        check = room.cost_check(evidence, config.cost, self.demands)
        return (check,) if check else ()

    def _subjects(self, profile: LoadProfile, stack: ExitStack) -> tuple[Subject, Subject | None]:
        """The release, and what is live where the profile compares; both served while it lasts."""
        limit_s = min(slo.max_load_s for slo in self.slos.values())
        rates = {name: max(profile.rate, slo.min_rps) for name, slo in self.slos.items()}
        self.bundle.notify(f"starting {self.release.tag} for the gate")
        server = stack.enter_context(started(self.bundle, self.release, "gate", limit_s))
        asked = asked_of(self.bundle, self.release, rates, profile.rows)
        candidate = subject(self.release, server, asked)
        if not profile.compare or profile.shape != "steady":
            return candidate, None
        champion, why = self._champion()
        if champion is None:
            self.note = _ALONE + why
            return candidate, None
        asked = asked_of(self.bundle, champion, rates, profile.rows, beside=candidate.asked)
        if not asked:
            self.note = f"{_ALONE}{champion.tag}, which is live, serves none of these models."
            return candidate, None
        self.bundle.notify(f"starting {champion.tag}, which is live, beside it")
        try:
            server = stack.enter_context(started(self.bundle, champion, "gate-champion"))
        except ServingError as error:
            # That is nothing against the candidate.
            raise GateError(f"the champion did not serve: {error}", where=champion.tag) from None
        return candidate, subject(champion, server, asked, champion=True)

    def _champion(self) -> tuple[Release | None, str]:
        """What is live, or why nothing can be compared with."""
        live = self.bundle.state().live
        if live is None:
            return None, "nothing is live yet to compare with."
        if live.digest == self.release.digest:
            return None, "it is what is live."
        try:
            found = packaging.read_release(packaging.bento_path(self.bundle.store, live.tag))
        except (HeadgateError, OSError):
            found = None
        if found is None or found.digest != live.digest:
            return None, f"{live.tag}, which is live, is not on this machine as it was built."
        return live, ""


def _length(profile: LoadProfile) -> str:
    whole_s = profile.warmup_s + profile.duration_s
    if profile.budget_s > whole_s:
        return f"{whole_s:g} to {profile.budget_s:g} s"
    return f"{whole_s:g} s"


def _about_all(name: str, outcome: Outcome, reason: str) -> Check:
    return Check(name=name, model="", outcome=outcome, reason=reason, samples=0)
