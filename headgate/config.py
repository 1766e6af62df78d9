"""What a person may set: ``headgate.toml`` for the bundle, ``model.toml`` for one model.

Both are strict: an unknown key, a wrong type or a value out of range is an error
that names the file and the key. Both are frozen once read.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta

from headgate.errors import ConfigError

__all__ = [
    "MODEL_NAME",
    "CostConfig",
    "DemandConfig",
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
Origin = Annotated[
    str,
    Meta(
        pattern=r"\A(\*|https?://[^/\s?#A-Z]+)\Z",
        description="expected scheme://host or scheme://host:port in lower case, or *",
    ),
]
MODEL_NAME = r"[^\W_][\w .-]{0,99}"
"""What a registered name may be: it becomes part of paths and of addresses."""
ModelName = Annotated[
    str,
    Meta(
        pattern=rf"\A{MODEL_NAME}\Z",
        description="expected at most 100 letters, digits, spaces, dots, dashes and underscores, "
        "a letter or digit first",
    ),
]
_HERE = "headgate/config.py"


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings."""


class ServerConfig(_Strict, frozen=True):
    """``[server]``: the process that serves."""

    host: str = "127.0.0.1"
    """Address to listen on. The image sets 0.0.0.0; nothing else should."""
    port: Port = 3000
    """HTTP port; ``HEADGATE_PORT`` and ``--port`` override it."""
    grpc_port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    """gRPC port; absent, the one after ``port``, and so 3001. 0 serves no gRPC.
    ``HEADGATE_GRPC_PORT`` and ``--grpc-port`` override it."""
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
    allowed_origins: tuple[Origin, ...] = ()
    """Web pages that may open a WebSocket here, by origin (``https://shop.example``), beside those
    that this server's own name leads to; ``*`` for all. Programs send no origin and always may."""
    parity_every_s: Positive = 60
    """How often each worker replays some of its reference rows, seconds."""

    @property
    def grpc(self) -> int | None:
        """The gRPC port; None where there is to be none."""
        return self.port + 1 if self.grpc_port is None else self.grpc_port or None


class LoadProfile(_Strict, frozen=True):
    """``[gate.profiles.NAME]``: one way to load a release."""

    shape: Literal["steady", "ramp", "spike", "soak"] = "steady"
    """``steady``: the same rate throughout, beside the champion where ``compare`` says so.
    ``ramp``: up to ``peak`` times the rate in even steps. ``spike``: the rate, ``peak`` times as
    much for a quarter of the time, the rate again. ``soak``: steady, and nothing may rise."""
    rate: Positive = 50
    """Requests per second offered to each model, all at once, open loop."""
    duration_s: Positive = 5
    """Seconds measured at that rate at least."""
    budget_s: Annotated[float, Meta(ge=0, le=1e6)] = 0
    """Seconds that all of it may take, with the champion's share and the saturation, while the
    verdict is open; 0: as little as ``duration_s`` takes."""
    warmup_s: Annotated[float, Meta(ge=0)] = 2
    """Seconds of the same load before that, thrown away."""
    min_requests: Count = 200
    """Fewer answered requests than this for a model are no evidence: inconclusive."""
    min_checked: Annotated[int, Meta(ge=0)] = 0
    """Fewer compared answers than this, those at saturation among them, show no parity: 4,605 find
    one wrong in a thousand with 99 %. 0 stands for ``min_requests``."""
    rows: Count = 1
    """Rows in a request."""
    compare: bool = False
    """Whether the champion is loaded beside it, and ``[gate]`` of the model applies."""
    block_s: Positive = 2
    """Seconds at a time, the candidate and the champion in turn. The shorter, the more of the
    machine's noise do both share; but fewer than 100 requests say little of a percentile."""
    saturate_s: Annotated[float, Meta(ge=0)] = 0
    """Seconds in each round in which there is always a next request; 0 for none."""
    connections: Count = 16
    """How many are always under way then."""
    peak: Annotated[float, Meta(gt=1, le=1000)] = 4
    """Times ``rate`` at the top of a ramp or spike."""
    generators: Count = 1
    """Locust processes on this machine that share the load."""
    remote_generators: Annotated[int, Meta(ge=0, le=1000)] = 0
    """And on other machines; `headgate gate` waits for them at ``[gate] listen``."""


class GateConfig(_Strict, frozen=True):
    """``[gate]``: what a release must show before it gets traffic."""

    profile: str = "quick"
    """The profile used when none is named."""
    profiles: dict[str, LoadProfile] = {}
    listen: str = "127.0.0.1:0"
    """Where generators on other machines find their work, ``host:port``."""
    max_generator_lateness_ms: Positive = 20
    """A run whose generator sent its own P95 request later than this proves nothing."""
    max_verdict_age_h: Positive = 168
    """A verdict older than this, in hours, no longer promotes."""


class RolloutConfig(_Strict, frozen=True):
    """``[rollout]``: how traffic moves."""

    watch_s: Annotated[float, Meta(ge=0)] = 3
    """How long a newly promoted release must stay ready before the promotion stands."""


class CostConfig(_Strict, frozen=True):
    """``[cost]``: what a million predictions cost."""

    instance_per_hour: Annotated[float, Meta(ge=0, le=1e6)] = 0
    """Price of one machine that runs the release; 0: unknown, and no cost is told."""
    currency: str = "USD"
    """Of that price."""
    utilisation: Annotated[float, Meta(gt=0, le=1)] = 0.6
    """Share of its capacity that a machine has to do on average."""


class StoreConfig(_Strict, frozen=True):
    """``[store]``: what stays on disk."""

    keep_releases: Count = 5
    """Releases that `headgate prune` keeps beside the live and the previous one."""


class HeadgateConfig(_Strict, frozen=True):
    """``headgate.toml``."""

    server: ServerConfig = ServerConfig()
    gate: GateConfig = GateConfig()
    rollout: RolloutConfig = RolloutConfig()
    cost: CostConfig = CostConfig()
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
    p99_ms: Positive | None = None
    """The same for the 99th; absent, it is not asked for."""
    max_memory_mb: Positive | None = None
    """Resident memory of all processes of the release under load, MiB; absent, it is not asked for."""


class DemandConfig(_Strict, frozen=True):
    """``[gate]`` of a model: what a release must show beside the champion."""

    profiles: tuple[str, ...] = ()
    """Load profiles that a release with this model must pass, all of them; none: the gate's own."""
    max_p95_ratio: Annotated[float, Meta(ge=1, le=100)] = 1.05
    """Its P95 over the champion's."""
    min_throughput_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.95
    """Its requests per second at saturation over the champion's."""
    max_quality_loss: Annotated[float, Meta(ge=0)] | None = None
    """By how much its accuracy may be below the champion's on labelled reference rows, or its
    mean absolute error above, in the metric's own unit; absent, it is reported and not judged."""
    max_cost_per_million: Positive | None = None
    """What a million predictions may cost, in the currency of ``[cost]``; absent, anything."""


class ResourcesConfig(_Strict, frozen=True):
    """``[resources]`` of a model."""

    gpu: Annotated[int, Meta(ge=0)] = 0
    """GPUs it wants; 0 serves it in the entry service. Without a GPU it runs on CPU."""


class ServingConfig(_Strict, frozen=True):
    """``[serving]`` of a model."""

    deadline_ms: Positive = 1000
    """Deadline of a request that names none, milliseconds."""
    max_batch_rows: Count = 1024
    """Rows in one call of the engine at most; fewer where a call would take longer than half of
    ``p95_ms`` and than twice what it costs without rows."""
    max_queue_rows: Count = 32_768
    """Rows waiting; more are refused at once."""
    parallel_calls: Count = 1
    """Calls of the engine at a time in one worker, each in a thread of its own. More pay where the
    engine leaves the interpreter alone, as ONNX Runtime does, and there are cores for them."""
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

    name: ModelName
    """The registered name: letters, digits, space, dot, dash, underscore."""
    slo: SloConfig
    description: str = ""
    resources: ResourcesConfig = ResourcesConfig()
    serving: ServingConfig = ServingConfig()
    packaging: PackagingConfig = PackagingConfig()
    gate: DemandConfig = DemandConfig()


T = TypeVar("T", bound=_Strict)


def _read(path: Path, kind: type[T]) -> T:
    try:
        raw = msgspec.toml.decode(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            "no such file", where=str(path), remedy="run the command in a Headgate bundle"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(str(error), where=str(path), remedy="mend its TOML") from None
    _check_table(path, "", raw, kind)
    return msgspec.convert(raw, kind)


def _check_table(path: Path, table: str, found: dict[str, Any], kind: type[_Strict]) -> None:
    """Raise for the first key of a table that is unknown, missing or wrong.

    msgspec's own errors name no key inside a table of tables, and never the value.
    """
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, value in found.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(
                f"unknown key, set to {_shown(value)}",
                where=f"{path}: {_join(table, key)}",
                remedy=f"{guess}known: {', '.join(known)}",
            )
        _check_value(path, _join(table, key), value, known[key].type)
    for key, field in known.items():
        if field.required and key not in found:
            raise ConfigError(
                "missing",
                where=f"{path}: {_join(table, key)}",
                remedy=f"set it; it is documented in {_HERE}",
            )


def _check_value(path: Path, key: str, value: Any, kind: Any) -> None:
    tables = kind if get_origin(kind) is dict else None
    if tables and isinstance(value, dict):
        for name, each in value.items():
            _check_value(path, _join(key, name), each, get_args(tables)[1])
    elif isinstance(kind, type) and issubclass(kind, _Strict) and isinstance(value, dict):
        _check_table(path, key, value, kind)
    else:
        limits = [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Meta)]
        rule = next((each.description for each in limits if each.description), None)
        if get_origin(kind) is Literal:
            rule = f"expected one of: {', '.join(map(str, get_args(kind)))}"
        nan = value != value  # noqa: PLR0124
        if nan:
            rule = "it is no number"
        try:
            msgspec.convert(None if nan else value, kind)  # NaN is beyond no limit
        except msgspec.ValidationError as error:
            says = str(error).partition(" - at ")[0].replace("`", "").replace("object", "table")
            raise ConfigError(
                f"{_shown(value)} is refused: {rule or says[:1].lower() + says[1:]}",
                where=f"{path}: {key}",
                remedy=f"it is documented in {_HERE}",
            ) from None


def _join(table: str, key: str) -> str:
    plain = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
    return f"{table}.{plain}" if table else plain


def _shown(value: Any) -> str:
    return shorten(repr(value), 60, placeholder=" …")


def load_config(root: Path) -> HeadgateConfig:
    """Read ``headgate.toml`` under ``root``; raises :class:`ConfigError`."""
    config = _read(root / "headgate.toml", HeadgateConfig)
    config = msgspec.structs.replace(config, server=_with_ports(config.server))
    if config.gate.profile not in config.gate.profiles:
        known = ", ".join(sorted(config.gate.profiles)) or "none"
        raise ConfigError(
            f"profile {config.gate.profile!r} is not defined",
            where=f"{root / 'headgate.toml'}: gate.profile",
            remedy=f"choose one of: {known}",
        )
    return config


def _with_ports(server: ServerConfig) -> ServerConfig:
    """The same with the ports of the environment; holds that they are two."""
    replace = msgspec.structs.replace
    if (port := _port_of("HEADGATE_PORT", least=1)) is not None:
        server = replace(server, port=port)
    if (port := _port_of("HEADGATE_GRPC_PORT", least=0)) is not None:
        server = replace(server, grpc_port=port)
    if server.grpc in (server.port, 65536):
        raise ConfigError(
            f"{server.grpc} cannot be the gRPC port beside HTTP at {server.port}",
            where="server.grpc_port",
            remedy="set another with grpc_port, HEADGATE_GRPC_PORT or --grpc-port",
        )
    return server


def _port_of(name: str, *, least: int) -> int | None:
    """The port that an environment variable names, if it is set."""
    value = os.environ.get(name)
    if not value:
        return None
    digits = value.isascii() and value.isdigit() and len(value) <= 5  # "²".isdigit() is true
    if not digits or not least <= int(value) <= 65535:
        raise ConfigError(f"{value!r} is no port", where=name, remedy=f"give {least} to 65535")
    return int(value)


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
