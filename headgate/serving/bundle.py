"""What is packaged, as serving finds it: ``.headgate/bundle`` and the settings beside it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from headgate.config import (
    ModelConfig,
    ServerConfig,
    load_config,
    load_model_config,
)
from headgate.errors import ArtifactError, ConfigError, ServingError
from headgate.predictor import Manifest, read_manifest
from headgate.records import ModelRef, Record

__all__ = ["Bundle", "PackagedModel", "open_bundle"]

FORMAT = 1
_TAKEN = {
    "app",
    "bundle",
    "described",
    "health",
    "healthz",
    "invocations",
    "livez",
    "metrics",
    "models",
    "ping",
    "predictions",
    "readyz",
    "v1",
    "v2",
    "version",
    "worker",
    "ws",
}
"""What would hide a path that every Bento has, or what the service keeps under that name."""
_FOLDER = Path(".headgate", "bundle")


class _Entry(Record, frozen=True):
    name: str
    path: str


class _Index(Record, frozen=True):
    """``bundle.json``."""

    format: int
    models: tuple[_Entry, ...]


class PackagedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One packaged model and the limits set for it."""

    path: Path
    manifest: Manifest
    config: ModelConfig

    @property
    def ref(self) -> ModelRef:
        """The registered version it was packaged from."""
        return self.manifest.ref

    @property
    def name(self) -> str:
        """The registered name."""
        return self.manifest.ref.name

    @property
    def method(self) -> str:
        """Its name as a Python identifier: what its typed endpoint is called."""
        name = re.sub(r"\W", "_", self.name, flags=re.ASCII)
        usable = name and name[0].isalpha() and name not in _TAKEN
        return name if usable else f"model_{name}"

    @property
    def wants_gpu(self) -> bool:
        """Whether it is a BentoML service of its own."""
        return self.config.resources.gpu > 0


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """All packaged models, in the order of ``models.lock``."""

    root: Path
    server: ServerConfig
    models: tuple[PackagedModel, ...]

    @property
    def threads(self) -> int:
        """Threads one call of an engine may use: as the launcher says, else as configured."""
        value = os.environ.get("HEADGATE_THREADS", str(self.server.threads))
        if not value.isdecimal() or int(value) < 1:
            raise ConfigError(
                f"{value!r} is no number of threads",
                where="HEADGATE_THREADS",
                remedy="give 1 or more, or leave it unset",
            )
        return int(value)

    @property
    def labels(self) -> dict[str, str]:
        """What a Bento says about the models it carries."""
        labels = {"headgate.models": ",".join(model.name for model in self.models)}
        for model in self.models:
            prefix = f"headgate.model.{model.name}"
            labels[f"{prefix}.version"] = model.ref.version
            labels[f"{prefix}.run_id"] = model.ref.run_id
            labels[f"{prefix}.digest"] = model.ref.digest
        return labels


def open_bundle(root: Path) -> Bundle:
    """Read the index, the manifests and the settings under ``root``; opens no model.

    Raises:
        ServingError: nothing is packaged yet.
        ArtifactError: a packaged model is incomplete, or two of them cannot be told apart.
        ConfigError: a setting is wrong, or a packaged model has none.
    """
    folder = root / _FOLDER
    try:
        index = msgspec.json.decode((folder / "bundle.json").read_bytes(), type=_Index)
    except FileNotFoundError:
        raise ServingError("nothing is packaged yet: run `make ship`") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _broken(folder, str(error)) from None
    if index.format != FORMAT:
        raise _broken(folder, f"format {index.format}, not {FORMAT}")
    rooms = _rooms(root)
    models = tuple(_model(folder, entry, rooms) for entry in index.models)
    if not models:
        raise ServingError("no model is packaged: put one into models.lock and run `make ship`")
    by_method: dict[str, str] = {}
    for model in models:
        other = by_method.get(model.method)
        by_method[model.method] = model.name
        if other == model.name:
            raise _broken(folder, f"it lists {model.name!r} twice")
        if other is not None:
            raise ConfigError(
                f"{model.name!r} and {other!r} would both be served as /{model.method}",
                where=str(folder / "bundle.json"),
                remedy="register one of them under another name",
            )
    return Bundle(root=root, server=load_config(root).server, models=models)


def _model(folder: Path, entry: _Entry, rooms: dict[str, ModelConfig]) -> PackagedModel:
    path = folder / entry.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _broken(folder, f"{entry.path!r} leads out of it")
    manifest = read_manifest(path)
    if manifest.ref.name != entry.name:
        raise _broken(path, f"it holds {manifest.ref.name!r}, not {entry.name!r}")
    if entry.name not in rooms:
        raise ConfigError(
            "a packaged model has no model.toml of its name",
            where=entry.name,
            remedy="restore its folder under models/, or lock and ship again",
        )
    return PackagedModel(path=path, manifest=manifest, config=rooms[entry.name])


def _rooms(root: Path) -> dict[str, ModelConfig]:
    rooms = {}
    for file in sorted((root / "models").glob("*/model.toml")):
        config = load_model_config(file)
        if config.name in rooms:
            raise ConfigError(
                f"name {config.name!r} is taken by another folder",
                where=str(file),
                remedy="give each model's folder its own registered name",
            )
        rooms[config.name] = config
    return rooms


def _broken(where: Path, what: str) -> ArtifactError:
    return ArtifactError(what, where=str(where), remedy="build again with `headgate build`")
