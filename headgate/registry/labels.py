"""What MLflow's pages show of versions: aliases and tags.

They repeat what the history holds. Where one cannot be set, the event that it repeats stands
nevertheless, so nothing here raises: what went wrong comes back in a line each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headgate.errors import RegistryError, RegistryUnreachableError
from headgate.records import ModelRef, Outcome, Release
from headgate.registry.connection import translated

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["CHALLENGER", "CHAMPION", "Labels"]

CHAMPION = "champion"
CHALLENGER = "challenger"
_RELEASE = "headgate.release"
_VERDICT = "headgate.verdict"

Step = tuple[str, Callable[[], object]]


class Labels:
    """The part of the registry that decorates; wraps an MLflow client."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client = client
        self._uri = uri

    def judge(self, models: Sequence[ModelRef], outcome: Outcome, release: str) -> tuple[str, ...]:
        """Show on each version's page what the gate said; returns what could not be.

        A version that is live goes on showing what its live release was judged, and one that
        passed goes on showing that: another release may have failed by another model.
        """
        return self._take([self._judgement(ref, outcome, release) for ref in models])

    def follow(
        self, live: Release | None, candidate: Release | None, outcome: Outcome | None
    ) -> tuple[str, ...]:
        """Point the aliases at the versions of these releases; returns what could not be.

        ``outcome`` is what the gate said last of the live release, if it judged it at all.
        """
        steps: list[Step] = []
        for alias, release in ((CHAMPION, live), (CHALLENGER, candidate)):
            for ref in release.models if release else ():
                steps.append(self._point(ref, alias))
                if alias == CHAMPION and release is not None:
                    steps.append(self._tag(ref, _RELEASE, release.tag))
                    if outcome is not None:
                        steps.append(self._tag(ref, _VERDICT, _said(outcome, release.tag)))
        if candidate is None:
            steps += [self._drop(ref, CHALLENGER) for ref in (live.models if live else ())]
        return self._take(steps)

    def _judgement(self, ref: ModelRef, outcome: Outcome, release: str) -> Step:
        def judge() -> None:
            tags = self._client.get_model_version(ref.name, ref.version).tags
            aliases = self._client.get_registered_model(ref.name).aliases
            if str(aliases.get(CHAMPION)) == ref.version:
                kept = tags.get(_RELEASE, release) != release
            else:
                shown = tags.get(_VERDICT, "")
                passed = shown.startswith(_said(Outcome.PASS, ""))
                kept = passed and outcome is not Outcome.PASS
                kept = kept and shown != _said(Outcome.PASS, release)
            if not kept:
                set_tag()

        label, set_tag = self._tag(ref, _VERDICT, _said(outcome, release))
        return label, judge

    def _point(self, ref: ModelRef, alias: str) -> Step:
        return (
            f"alias {alias} of {ref.name} version {ref.version}",
            lambda: self._client.set_registered_model_alias(ref.name, alias, ref.version),
        )

    def _tag(self, ref: ModelRef, tag: str, value: str) -> Step:
        return (
            f"tag {tag} of {ref.name} version {ref.version}",
            lambda: self._client.set_model_version_tag(ref.name, ref.version, tag, value),
        )

    def _drop(self, ref: ModelRef, alias: str) -> Step:
        def drop() -> None:
            if alias in self._client.get_registered_model(ref.name).aliases:
                self._client.delete_registered_model_alias(ref.name, alias)

        return f"alias {alias} of {ref.name}", drop

    def _take(self, steps: Sequence[Step]) -> tuple[str, ...]:
        failed = []
        for label, step in steps:
            try:
                with translated(self._uri):
                    step()
            except (RegistryError, OSError) as error:
                what = error.what if isinstance(error, RegistryError) else error
                failed.append(f"{label} is not set: {what}")
                if isinstance(error, RegistryUnreachableError):
                    break  # each of the others would wait as long
        return tuple(failed)


def _said(outcome: Outcome, release: str) -> str:
    return f"{outcome.value} in {release}"
