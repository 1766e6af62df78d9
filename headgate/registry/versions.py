"""Model versions: found, digested, downloaded, aliased."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.errors import ArtifactError, RegistryError, UnknownModelError
from headgate.records import ModelRef, Record
from headgate.registry.lock import DIGEST

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["REFERENCE", "Fetched", "ModelVersion", "Versions"]

REFERENCE = "headgate-reference"
"""Where in a run's artifacts :func:`headgate.log_reference` puts the reference."""
_DIGEST = "headgate.digest"


class ModelVersion(Record, frozen=True):
    """One registered version, as `headgate models` lists it."""

    version: str
    created: dt.datetime
    run_id: str
    aliases: tuple[str, ...]


class Fetched(Record, frozen=True):
    """A registered version's files on this machine, checked against its digest."""

    model: Path
    """The MLflow model: the folder with ``MLmodel``."""
    reference: Path
    """What :func:`headgate.log_reference` logged in its run."""


class Versions:
    """The part of the registry that knows models; wraps an MLflow client."""

    def __init__(self, client: MlflowClient, scratch: Path) -> None:
        """``scratch`` is a folder on the same disk as what is fetched."""
        self._client = client
        self._scratch = scratch

    def all(self, name: str) -> list[ModelVersion]:
        """All versions of ``name``, oldest first; none where it is not registered."""
        if not self._is_registered(name):
            return []
        # A search does not tell aliases; the registered model does.
        aliases: dict[str, list[str]] = {}
        for alias, version in self._client.get_registered_model(name).aliases.items():
            aliases.setdefault(str(version), []).append(alias)
        return [
            ModelVersion(
                version=str(found.version),
                created=dt.datetime.fromtimestamp(found.creation_timestamp / 1000, dt.UTC),
                run_id=found.run_id or "",
                aliases=tuple(sorted(aliases.get(str(found.version), ()))),
            )
            for found in self._search(name)
        ]

    def latest(self, name: str) -> ModelRef | None:
        """The version with the highest number; None where there is none."""
        found = self._search(name) if self._is_registered(name) else []
        return self._ref(found[-1]) if found else None

    def get(self, name: str, version: str) -> ModelRef:
        """That version.

        Raises:
            UnknownModelError: there is none; says which there are.
        """
        known = self._search(name) if self._is_registered(name) else []
        for found in known:
            if str(found.version) == version:
                return self._ref(found)
        numbers = ", ".join(str(found.version) for found in known)
        raise UnknownModelError(
            f"the registry holds no version {version}",
            where=name,
            remedy=f"registered: {numbers or 'no version'}",
        )

    def fetch(self, ref: ModelRef, into: Path) -> Fetched:
        """Download ``ref`` to ``into``, unless it lies there already, and check its digest.

        The registry is asked for the version in either case: a download tells neither the
        version nor the run that were pinned.

        Raises:
            ArtifactError: what is registered is not what was pinned, or ``into`` holds what
                is no download.
            RegistryError: its run logged no reference.
            UnknownModelError: the registry does not hold it.
        """
        if not re.fullmatch(DIGEST, ref.digest):
            raise ArtifactError(
                f"digest {ref.digest[:80]!r} is no sha256",
                where=f"{ref.name} version {ref.version}",
                remedy=f"pin it anew: `headgate lock {ref.name}@{ref.version}`",
            )
        entry = self._entry(ref)
        if into.is_dir() and _digest(into) != ref.digest:
            _clear(into)
        if not into.is_dir():
            fresh = self._download(entry)
            try:
                found = _digest(fresh)
                if found != ref.digest:
                    raise ArtifactError(
                        f"its files digest to {found}, but models.lock pins {ref.digest}",
                        where=f"{ref.name} version {ref.version}",
                        remedy="they were altered after they were pinned; find out by whom, "
                        f"then `headgate lock {ref.name}@{ref.version}` accepts them",
                    )
                into.parent.mkdir(parents=True, exist_ok=True)
                fresh.rename(into)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        if not (into / "reference").is_dir():
            raise RegistryError(
                "its run logged no reference, so nothing can be held against the model as trained",
                where=f"{ref.name} version {ref.version}",
                remedy="call `headgate.log_reference(model, X, y)` in the run that registers it",
            )
        return Fetched(model=into / "model", reference=into / "reference")

    def _is_registered(self, name: str) -> bool:
        quoted = name.replace("'", "''")
        return bool(self._client.search_registered_models(f"name = '{quoted}'"))

    def _search(self, name: str) -> list[Any]:
        quoted = name.replace("'", "''")
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_model_versions(
                f"name = '{quoted}'", max_results=1000, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda entry: int(entry.version))

    def _entry(self, ref: ModelRef) -> Any:
        known = self._search(ref.name) if self._is_registered(ref.name) else []
        runs = {str(entry.version): entry.run_id or "" for entry in known}
        for entry in known:
            if str(entry.version) == ref.version and (entry.run_id or "") == ref.run_id:
                return entry
        raise UnknownModelError(
            f"the registry holds no version {ref.version} of {ref.name}"
            if ref.version not in runs
            else f"models.lock pins version {ref.version} of run {ref.run_id or 'none'}, "
            f"but the registry's is of run {runs[ref.version] or 'none'}",
            where=ref.name,
            remedy="set MLFLOW_TRACKING_URI to the registry that it was pinned from, "
            f"or pin what is here: `headgate lock {ref.name}`",
        )

    def _ref(self, entry: Any) -> ModelRef:
        # Hashed once: a version's files do not change, and where they do, `fetch` says so.
        digest = entry.tags.get(_DIGEST)
        if digest is None:
            fresh = self._download(entry)
            try:
                digest = _digest(fresh)
            finally:
                shutil.rmtree(fresh)
            self._client.set_model_version_tag(entry.name, str(entry.version), _DIGEST, digest)
        return ModelRef(
            name=entry.name, version=str(entry.version), run_id=entry.run_id or "", digest=digest
        )

    def _download(self, entry: Any) -> Path:
        """Download model and reference into a new folder, which the caller removes."""
        import mlflow.artifacts

        fresh = self._scratch / f"{entry.name}-{entry.version}-{secrets.token_hex(4)}"
        landing = fresh / "landing"
        landing.mkdir(parents=True)
        uri = self._client.get_model_version_download_uri(entry.name, str(entry.version))
        # It lands in the folder or in one below, depending on the kind of URI.
        landed = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(landing))
        Path(landed).rename(fresh / "model")
        shutil.rmtree(landing, ignore_errors=True)
        if entry.run_id and self._client.list_artifacts(entry.run_id, REFERENCE):
            self._client.download_artifacts(entry.run_id, REFERENCE, str(fresh))
            (fresh / REFERENCE).rename(fresh / "reference")
        return fresh


def _clear(into: Path) -> None:
    """Delete a download that was altered, and nothing that `fetch` did not make."""
    inside = {path.name for path in into.iterdir()}
    if into.is_symlink() or not inside <= {"model", "reference"}:
        raise ArtifactError(
            "is no download of a model version, so it is not replaced",
            where=str(into),
            remedy="move it away",
        )
    shutil.rmtree(into)


def _digest(folder: Path) -> str:
    """``sha256:`` over the sorted relative paths and contents of all files below ``folder``."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        total.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"
