"""What a person may set: ``headgate.toml`` for the bundle, ``model.toml`` for one model.

Both are strict: an unknown key, a wrong type or a value out of range is an error
that names the file and the key. Both are frozen once read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from headgate.errors import ConfigError

__all__ = [
    "GateConfig",
    "HeadgateConfig",
    "LoadProfile",
    "ModelConfig",
    "PackagingConfig",
    "ResourcesConfig",
    "RolloutConfig",
    "ServerConfig",
    "ServingConfig",
    "SloConfig",
    "StoreConfig",
    "find_root",
    "home",
    "load_config",
    "load_model_config",
]

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings."""


class ServerConfig(_Strict, frozen=True):
    """``[server]``: the process that serves."""

    host: str = "127.0.0.1"
    """Address to listen on. The image sets 0.0.0.0; nothing else should."""
    port: Port = 3000
    """HTTP port; ``HEADGATE_PORT`` and ``--port`` override it."""
    workers: Count = 1
    """Worker processes. Each holds every CPU model."""
    threads: Count = 1
    """Threads the numerical libraries of one worker may use."""
    max_body_mb: Positive = 16
    """Largest request body, in MiB; larger ones get 413."""
    ready_timeout_s: Positive = 60
    """How long a release may take to become ready before it counts as failed."""
    drain_s: Positive = 20
    """After SIGTERM, how long requests in flight may take."""
    parity_every_s: Positive = 60
    """How often each worker replays some of its reference rows, seconds."""


class LoadProfile(_Strict, frozen=True):
    """``[gate.profiles.NAME]``: one way to load a release."""

    rate: Positive = 50
    """Requests per second offered to each model, open loop."""
    duration_s: Positive = 5
    """Seconds measured for each model."""
    warmup_s: Annotated[float, Meta(ge=0)] = 2
    """Seconds of the same load before that, thrown away."""
    min_requests: Count = 200
    """Fewer answered requests than this for a model are no evidence: inconclusive."""
    rows: Count = 1
    """Rows in a request."""


class GateConfig(_Strict, frozen=True):
    """``[gate]``: what a release must show before it gets traffic."""

    profile: str = "quick"
    """The profile used when none is named."""
    profiles: dict[str, LoadProfile] = {}
    max_generator_lateness_ms: Positive = 20
    """A run whose generator sent its own P95 request later than this proves nothing."""
    max_verdict_age_h: Positive = 168
    """A verdict older than this, in hours, no longer promotes."""


class RolloutConfig(_Strict, frozen=True):
    """``[rollout]``: how traffic moves."""

    watch_s: Annotated[float, Meta(ge=0)] = 3
    """How long a newly promoted release must stay ready before the promotion stands."""


class StoreConfig(_Strict, frozen=True):
    """``[store]``: what stays on disk."""

    keep_releases: Count = 5
    """Releases that `headgate prune` keeps beside the live and the previous one."""


class HeadgateConfig(_Strict, frozen=True):
    """``headgate.toml``."""

    server: ServerConfig = ServerConfig()
    gate: GateConfig = GateConfig()
    rollout: RolloutConfig = RolloutConfig()
    store: StoreConfig = StoreConfig()


class SloConfig(_Strict, frozen=True):
    """``[slo]`` of a model: what its users were promised, and the gate demands."""

    p95_ms: Positive
    """95th percentile of latency, milliseconds."""
    min_rps: Positive
    """Requests per second it must sustain."""
    max_error_rate: Fraction = 0.001
    """Share of requests that may fail."""
    max_load_s: Positive = 10
    """Seconds from starting the release to ready."""


class ResourcesConfig(_Strict, frozen=True):
    """``[resources]`` of a model."""

    gpu: Annotated[int, Meta(ge=0)] = 0
    """GPUs it wants; 0 serves it in the entry service. Without a GPU it runs on CPU."""


class ServingConfig(_Strict, frozen=True):
    """``[serving]`` of a model."""

    deadline_ms: Positive = 1000
    """Deadline of a request that names none, milliseconds."""
    max_batch_rows: Count = 256
    """Rows in one call of the engine."""
    max_queue_rows: Count = 4096
    """Rows waiting; more are refused at once."""
    max_request_rows: Count = 10_000
    """Rows in one request; more get 413."""


class PackagingConfig(_Strict, frozen=True):
    """``[packaging]`` of a model: how the registered version becomes a predictor."""

    engine: Literal["auto", "onnx", "native"] = "auto"
    """``auto`` takes the fastest engine that passes parity."""
    tolerance: Positive = 1e-5
    """Largest difference of a probability or value from the model as trained."""
    reference_rows: Annotated[int, Meta(ge=0)] = 256
    """Reference rows that travel with the predictor; 0 for private data."""
    module: str = ""
    """Served natively: the file in the model's room that defines its own classes."""


class ModelConfig(_Strict, frozen=True):
    """``models/<name>/model.toml``."""

    name: str
    """The registered name."""
    slo: SloConfig
    description: str = ""
    resources: ResourcesConfig = ResourcesConfig()
    serving: ServingConfig = ServingConfig()
    packaging: PackagingConfig = PackagingConfig()


T = TypeVar("T", bound=_Strict)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise ConfigError(
            "no such file", where=str(path), remedy="run the command in a Headgate bundle"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            str(error), where=str(path), remedy=f"the settings are documented in {__name__}"
        ) from None


def load_config(root: Path) -> HeadgateConfig:
    """Read ``headgate.toml`` under ``root``; raises :class:`ConfigError`."""
    config = _read(root / "headgate.toml", HeadgateConfig)
    if port := os.environ.get("HEADGATE_PORT"):
        if not port.isdigit() or not 1 <= int(port) <= 65535:
            raise ConfigError(
                f"{port!r} is no port", where="HEADGATE_PORT", remedy="give 1 to 65535"
            )
        config = msgspec.structs.replace(
            config, server=msgspec.structs.replace(config.server, port=int(port))
        )
    if config.gate.profile not in config.gate.profiles:
        known = ", ".join(sorted(config.gate.profiles)) or "none"
        raise ConfigError(
            f"profile {config.gate.profile!r} is not defined",
            where=f"{root / 'headgate.toml'}: gate.profile",
            remedy=f"choose one of: {known}",
        )
    return config


def load_model_config(path: Path) -> ModelConfig:
    """Read one ``model.toml``; raises :class:`ConfigError`."""
    return _read(path, ModelConfig)


def find_root(start: Path | None = None) -> Path:
    """The nearest folder upwards from ``start`` (default: here) that has a ``headgate.toml``."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "headgate.toml").is_file():
            return folder
    raise ConfigError(
        "no headgate.toml here or above",
        where=str(here),
        remedy="change into a Headgate bundle or pass --root",
    )


def home(root: Path) -> Path:
    """Where this bundle keeps its state: ``HEADGATE_HOME``, by default ``<root>/.headgate``."""
    return Path(os.environ.get("HEADGATE_HOME") or root / ".headgate").resolve()
