"""`headgate doctor`: does this machine have what the bundle needs?"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from headgate import config as settings
from headgate.errors import HeadgateError
from headgate.pipeline import Bundle
from headgate.pipeline.bundle import check_pins, read_rooms
from headgate.records import Record
from headgate.registry import Registry, read_lock

__all__ = ["Finding", "examine"]

_SPACE_MB = 500
_BY_SETTINGS = ("host", "port")
"""What cannot be looked at where ``headgate.toml`` is broken."""


class Finding(Record, frozen=True):
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


def examine(root: Path) -> list[Finding]:
    """Look at everything; one broken thing hides no other, and is told once."""
    looks: list[tuple[str, Callable[[Path], str]]] = [
        ("python", _python),
        ("packages", _packages),
        ("settings", _settings),
        ("models", _models),
        ("disk", _disk),
        ("registry", _registry),
        ("host", _host),
        ("port", _port),
        ("gpu", _gpu),
    ]
    found: list[Finding] = []
    for name, look in looks:
        if name in _BY_SETTINGS and any(each.name == "settings" and not each.ok for each in found):
            found.append(Finding(name=name, ok=False, detail="not looked at — see settings"))
            continue
        try:
            found.append(Finding(name=name, ok=True, detail=look(root)))
        except HeadgateError as error:
            found.append(Finding(name=name, ok=False, detail=str(error)))
        except ImportError as error:
            detail = f"{error.name} is not installed — see packages"
            found.append(Finding(name=name, ok=False, detail=detail))
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            detail = f"{place}{error.strerror or error} — see HEADGATE_HOME and its permissions"
            found.append(Finding(name=name, ok=False, detail=detail))
    return found


def _python(_: Path) -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise HeadgateError(sys.version.split()[0], remedy="use Python 3.11 to 3.13")
    return sys.version.split()[0]


def _packages(_: Path) -> str:
    names = ("bentoml", "mlflow", "onnxruntime", "skl2onnx", "locust", "torch")
    try:
        return ", ".join(f"{name} {version(name)}" for name in names)
    except PackageNotFoundError as error:
        raise HeadgateError(
            f"{error.name} is not installed", remedy="run `make`, or install headgate[platform]"
        ) from None


def _settings(root: Path) -> str:
    settings.load_config(root)
    return "headgate.toml is well-formed"


def _models(root: Path) -> str:
    rooms = read_rooms(root)
    pinned = read_lock(root)
    if not rooms:
        raise HeadgateError(
            "no room has a model.toml",
            where=str(root / "models"),
            remedy="a room is a folder there with model.toml and train.py",
        )
    check_pins(root, pinned, rooms)
    missing = sorted(rooms.keys() - {ref.name for ref in pinned})
    todo = f"; `headgate ship` pins {', '.join(missing)}" if missing else ""
    return f"{len(rooms)} rooms are well-formed; models.lock pins {len(pinned)}{todo}"


def _disk(root: Path) -> str:
    home = settings.home(root)
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if not existing.is_dir():
        raise HeadgateError(
            f"{existing} is no folder", where=str(home), remedy="set HEADGATE_HOME to another"
        )
    if not os.access(existing, os.W_OK):
        raise HeadgateError("cannot be written", where=str(existing), remedy="see its permissions")
    free = shutil.disk_usage(existing).free / 2**20
    if free < _SPACE_MB:
        raise HeadgateError(
            f"{free:.0f} MB free", where=str(existing), remedy="`headgate prune` frees some"
        )
    return f"{free / 1024:.0f} GB free at {existing}"


def _registry(root: Path) -> str:
    registry = Registry.open(root)
    return f"{len(registry.events())} events at {registry.uri}"


def _host(root: Path) -> str:
    host = settings.load_config(root).server.host
    try:
        address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise HeadgateError(
            f"{host!r} is neither an IP address nor the name of a host ({reason})",
            where=f"{root / 'headgate.toml'}: server.host",
            remedy='give an address of this machine, such as "127.0.0.1"',
        ) from None
    return host if host == address else f"{host} is {address}"


def _port(root: Path) -> str:
    bundle = Bundle(root)
    server = bundle.config.server
    running = bundle.platform.running()
    if running is not None:
        beside = f", gRPC on {running.grpc}" if running.grpc else ""
        return f"{running.release} serves on {running.http}{beside}"
    _host(root)
    bundle.check_port()
    if server.grpc is None:
        return f"{server.host}:{server.port} is free"
    return f"{server.host}:{server.port} and, for gRPC, {server.grpc} are free"


def _gpu(_: Path) -> str:
    return "nvidia-smi found" if shutil.which("nvidia-smi") else "none; GPU models run on CPU"
