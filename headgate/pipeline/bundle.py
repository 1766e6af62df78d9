"""One bundle on this machine: its settings, rooms, registry, platform, lock and history."""

from __future__ import annotations

import datetime as dt
import getpass
import os
import secrets
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headgate import config as settings
from headgate import packaging, rollout
from headgate.errors import BusyError, ConfigError, InputError, UnknownModelError
from headgate.records import Event, EventKind, ModelRef, Release, RolloutState, Verdict

if TYPE_CHECKING:
    from headgate.registry import Fetched, Registry
    from headgate.serving.launcher import ServerProcess

__all__ = ["Bundle", "Room", "check_pins", "read_rooms"]

Notify = Callable[[str], None]


class Room(msgspec.Struct, frozen=True):
    """One model's folder under ``models/``."""

    path: Path
    config: settings.ModelConfig


class Bundle:
    """One bundle and its state folder. What changes anything wants :meth:`exclusive`."""

    def __init__(self, root: Path, *, notify: Notify = lambda _: None) -> None:
        """``notify`` is told, in a line each, what is being done."""
        self.root = root
        self.home = settings.home(root)
        self.config = settings.load_config(root)
        self.notify = notify
        self.store = self.home / "bentoml"
        self.address = f"{self.config.server.host}:{self.config.server.port}"
        """Where the live service listens."""
        grpc = self.config.server.grpc
        self.grpc_address = f"{self.config.server.host}:{grpc}" if grpc else ""
        """The same for gRPC; empty where there is none."""
        self.platform = rollout.LocalPlatform(
            self.home,
            address=self.address,
            grpc_address=self.grpc_address,
            launch=self._launch_live,
            ready_timeout_s=self.config.server.ready_timeout_s,
            stop_timeout_s=self.config.server.drain_s + 5,
        )

    @cached_property
    def registry(self) -> Registry:
        """The registry, connected on first use."""
        from headgate.registry import Registry

        return Registry.open(self.root)

    @cached_property
    def rooms(self) -> dict[str, Room]:
        """The models' rooms by registered name, in the order of their folders' names."""
        return read_rooms(self.root)

    def room(self, name: str) -> Room:
        """The room of the model registered as ``name``."""
        if name not in self.rooms:
            raise UnknownModelError(
                "no room under models/ has a model.toml of that name",
                where=name or "''",
                remedy=f"choose one of: {', '.join(self.rooms) or 'none'}",
            )
        return self.rooms[name]

    def state(self) -> RolloutState:
        """What is live and what was judged, replayed from the registry."""
        return rollout.replay(self.registry.events())

    @property
    def max_verdict_age(self) -> dt.timedelta:
        """How long a passing verdict promotes."""
        return dt.timedelta(hours=self.config.gate.max_verdict_age_h)

    def profile(self, name: str | None) -> str:
        """A load profile that exists, by default the one of ``[gate]``."""
        profiles = self.config.gate.profiles
        chosen = name or self.config.gate.profile
        if chosen not in profiles:
            raise InputError(
                "no such load profile",
                where=chosen,
                remedy=f"choose one of: {', '.join(sorted(profiles))}",
            )
        return chosen

    def fetch(self, ref: ModelRef) -> Fetched:
        """The registered files of ``ref``, downloaded once and checked against its digest."""
        folder = self.home / "cache" / "models" / ref.digest.removeprefix("sha256:")
        return self.registry.fetch(ref, folder)

    @contextmanager
    def exclusive(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the bundle's lock; a killed holder's lock is free at once.

        Raises:
            BusyError: ``wait`` is false and somebody holds it.
        """
        from filelock import FileLock, Timeout

        self.home.mkdir(parents=True, exist_ok=True)
        holder = self.home / "lock.holder"
        lock = FileLock(self.home / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = holder.read_text() if holder.is_file() else "another headgate command"
            if not wait:
                raise BusyError(
                    f"{who} is at work on it", where=str(self.home), remedy="try again later"
                ) from None
            self.notify(f"waiting for {who}")
            lock.acquire()
        try:
            holder.write_text(f"`headgate {' '.join(sys.argv[1:])}` (pid {os.getpid()})")
            for pid in self.platform.sweep():
                self.notify(f"ended what a killed command had left behind (pid {pid})")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def append(
        self,
        kind: EventKind,
        release: Release,
        why: str,
        verdict: Verdict | None = None,
        attachments: Mapping[str, bytes] | None = None,
    ) -> None:
        """Append an event to the history; call it before switching anything."""
        event = Event(
            id=f"{time.time_ns():020d}-{secrets.token_hex(4)}",
            at=dt.datetime.now(dt.UTC),
            kind=kind,
            release=release,
            who=os.environ.get("HEADGATE_ACTOR") or getpass.getuser(),
            why=why,
            verdict=verdict,
        )
        for line in self.registry.append(event, attachments or {}):
            self.notify(line)

    def follow_aliases(
        self, live: Release | None, candidate: Release | None, verdict: Verdict | None
    ) -> None:
        """Point ``champion`` and ``challenger`` at what these releases serve, where they exist.

        ``verdict`` is the last one on the live release.
        """
        outcome = verdict.outcome if verdict else None
        for line in self.registry.follow_aliases(live, candidate, outcome):
            self.notify(line)

    def launch(
        self,
        bento: Path,
        release: Release,
        *,
        port: int,
        grpc_port: int | None,
        log: Path,
        server: settings.ServerConfig | None = None,
    ) -> ServerProcess:
        """Start a server for the Bento; port 0 takes a free one, no ``grpc_port`` means no gRPC.

        ``server`` stands for other settings than the bundle's.
        """
        from headgate.serving import launcher

        log.parent.mkdir(parents=True, exist_ok=True)
        server = server or self.config.server
        return launcher.start(
            bento,
            host=server.host,
            port=port,
            grpc_port=grpc_port,
            workers=server.workers,
            threads=server.threads,
            release=release.tag,
            log=log,
            drain_s=server.drain_s,
            ready_timeout_s=server.ready_timeout_s,
            env={rollout.OWNER: self.platform.owner},
        )

    def check_port(self) -> None:
        """Raise PortInUseError where somebody else holds a port of the live service's."""
        from headgate.serving.launch.listening import GRPC_SETTING, listen_tcp

        running = self.platform.running()
        server = self.config.server
        if running is None or running.http != self.address:
            listen_tcp(server.host, server.port).close()
        if server.grpc and (running is None or running.grpc != self.grpc_address):
            listen_tcp(server.host, server.grpc, GRPC_SETTING).close()

    def _launch_live(self, release: Release, log: Path) -> ServerProcess:
        self.check_port()
        bento = packaging.bento_path(self.store, release.tag)
        server = self.config.server
        return self.launch(bento, release, port=server.port, grpc_port=server.grpc, log=log)


def check_pins(root: Path, pinned: Iterable[ModelRef], rooms: Container[str]) -> None:
    """Hold that each model that ``models.lock`` pins has a room; raises ConfigError."""
    homeless = [ref.name for ref in pinned if ref.name not in rooms]
    if homeless:
        raise ConfigError(
            f"pins {', '.join(homeless)}, but no room under models/ has a model.toml of that name",
            where=str(root / "models.lock"),
            remedy="bring the room back, or delete the [[model]] entry there",
        )


def read_rooms(root: Path) -> dict[str, Room]:
    """The rooms under ``root/models`` by registered name.

    Raises:
        ConfigError: a ``model.toml`` is wrong, or two claim the same name.
    """
    rooms: dict[str, Room] = {}
    for file in sorted((root / "models").glob("*/model.toml")):
        config = settings.load_model_config(file)
        if config.name in rooms:
            raise ConfigError(
                f"name {config.name!r} is taken by {rooms[config.name].path}",
                where=str(file),
                remedy="give each room its own registered name",
            )
        rooms[config.name] = Room(path=file.parent, config=config)
    return rooms
