"""The history: one MLflow run for each event, in an experiment of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from headgate.errors import RegistryError
from headgate.records import Event

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["EXPERIMENT", "Events"]

EXPERIMENT = "headgate-releases"
_EVENT = "headgate.event"
_LIMIT = 8000
"""Characters that MLflow takes as the value of a run's tag."""
_PAGE = 1000


class Events:
    """The part of the registry that remembers; wraps an MLflow client."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def append(self, event: Event, attachments: Mapping[str, bytes]) -> None:
        """Append ``event``. The tag that holds it is set last: without it there is no event.

        The attachments become the run's artifacts, the verdict's numbers its metrics.
        """
        text = _encode(event)
        run = self._client.create_run(
            self._experiment(create=True),
            run_name=f"{event.kind.replace('_', ' ')} {event.release.tag}",
            tags={
                "headgate.kind": event.kind.value,
                "headgate.release": event.release.tag,
                "headgate.digest": event.release.digest,
                "headgate.verdict": event.verdict.outcome.value if event.verdict else "",
                "headgate.why": event.why[:_LIMIT],
                "mlflow.user": event.who,
                "mlflow.source.name": "headgate",
                "mlflow.note.content": event.why[:_LIMIT],
            },
        ).info.run_id
        for name, content in attachments.items():
            self._client.log_text(run, content.decode(), name)
        for check in event.verdict.checks if event.verdict else ():
            if check.observed is not None:
                self._client.log_metric(
                    run, f"{check.model or 'release'}/{check.name}", check.observed
                )
        self._client.set_tag(run, _EVENT, text)
        self._client.set_terminated(run)

    def all(self) -> list[Event]:
        """All events, oldest first."""
        experiment = self._experiment(create=False)
        if experiment is None:
            return []
        found: list[Event] = []
        token = None
        while True:
            page = self._client.search_runs([experiment], max_results=_PAGE, page_token=token)
            found += [
                _decode(run.data.tags[_EVENT], run.info.run_id)
                for run in page
                if _EVENT in run.data.tags
            ]
            token = page.token
            if not token:
                return sorted(found, key=lambda event: event.id)

    def _experiment(self, *, create: bool) -> str | None:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None and create:
            try:
                return str(self._client.create_experiment(EXPERIMENT))
            except MlflowException:  # somebody else has just created it
                found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            return None
        if found.lifecycle_stage != "active":
            raise RegistryError(
                "the experiment that holds the history was deleted",
                where=EXPERIMENT,
                remedy=f"`mlflow experiments restore -x {found.experiment_id}` brings it back",
            )
        return str(found.experiment_id)


def _encode(event: Event) -> str:
    """The event as JSON; the checks of a long verdict stay in its attachment alone."""
    text = msgspec.json.encode(event).decode()
    if len(text) > _LIMIT and event.verdict is not None:
        short = msgspec.structs.replace(event.verdict, checks=())
        text = msgspec.json.encode(msgspec.structs.replace(event, verdict=short)).decode()
    return text


def _decode(text: str, run_id: str) -> Event:
    try:
        return msgspec.json.decode(text, type=Event)
    except msgspec.DecodeError as error:
        raise RegistryError(
            f"the event in run {run_id} cannot be read: {error}",
            where=EXPERIMENT,
            remedy="it was edited, or written by a newer Headgate: update this one",
        ) from None
