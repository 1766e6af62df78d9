"""The registry as the rest of Headgate sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.config import home
from headgate.records import Event, ModelRef, Outcome, Release
from headgate.registry.connection import connect, environment, masked, translated
from headgate.registry.events import Events
from headgate.registry.labels import Labels
from headgate.registry.versions import Fetched, ModelVersion, Versions

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["Registry"]


class Registry:
    """MLflow, holding models, aliases and the history.

    Every method raises RegistryUnreachableError where nobody answers, and RegistryError
    where the answer is a refusal.
    """

    def __init__(self, client: MlflowClient, uri: str, scratch: Path) -> None:
        self._uri = uri
        self._versions = Versions(client, scratch)
        self._events = Events(client)
        self._labels = Labels(client, uri)
        self._environment: dict[str, str] = {}

    @classmethod
    def open(cls, root: Path) -> Registry:
        """The registry at ``MLFLOW_TRACKING_URI``, else the one embedded in the bundle."""
        client, uri = connect(root)
        registry = cls(client, uri, home(root) / "cache" / "downloads")
        registry._environment = environment(root)
        return registry

    @property
    def uri(self) -> str:
        """Its address, fit to be shown."""
        return masked(self._uri)

    def environment(self) -> dict[str, str]:
        """What a training script needs in its environment to use it."""
        return dict(self._environment)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, oldest first."""
        with translated(self._uri):
            return self._versions.all(name)

    def latest(self, name: str) -> ModelRef | None:
        """The newest version of a model, if there is any."""
        with translated(self._uri):
            return self._versions.latest(name)

    def get(self, name: str, version: str) -> ModelRef:
        """One version; raises UnknownModelError."""
        with translated(self._uri):
            return self._versions.get(name, version)

    def fetch(self, ref: ModelRef, into: Path) -> Fetched:
        """Download a version and check its digest; raises ArtifactError, UnknownModelError."""
        with translated(self._uri):
            return self._versions.fetch(ref, into)

    def append(self, event: Event, attachments: Mapping[str, bytes]) -> tuple[str, ...]:
        """Append an event to the history; call it before switching anything.

        Returns a line for each tag that could not be set on a version; the event stands.
        """
        with translated(self._uri):
            self._events.append(event, attachments)
        if event.verdict is None:
            return ()
        return self._labels.judge(event.release.models, event.verdict.outcome, event.release.tag)

    def events(self) -> list[Event]:
        """The history, oldest first."""
        with translated(self._uri):
            return self._events.all()

    def follow_aliases(
        self, live: Release | None, candidate: Release | None, outcome: Outcome | None = None
    ) -> tuple[str, ...]:
        """Point ``champion`` and ``challenger`` at what these releases serve.

        ``outcome`` is what the gate said last of ``live``; the versions' tags show it. Returns a
        line for each alias or tag that could not be set; none of them raises.
        """
        return self._labels.follow(live, candidate, outcome)
