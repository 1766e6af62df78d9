"""One release on this machine, served under one setting after the other, to be loaded."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headgate import packaging
from headgate.errors import GateError, ServingError
from headgate.pipeline.bundle import Bundle, read_rooms
from headgate.pipeline.subjects import asked_of, started, subject
from headgate.pipeline.trying import Tried, tuned_bento
from headgate.records import Capacity, Release, Setting

if TYPE_CHECKING:
    from headgate.gate import Subject

__all__ = ["Study"]


class Study:
    """Servers of its own, that nobody else asks; each is ended with what it was started for."""

    def __init__(
        self, bundle: Bundle, release: Release, folder: Path, *, rows: int | None, generators: int
    ) -> None:
        """``folder`` is for what has to lie somewhere meanwhile."""
        from headgate.gate import Stepping

        self.bundle = bundle
        self.release = release
        self.folder = folder
        config = bundle.config
        self.bento = packaging.bento_path(bundle.store, release.tag)
        rooms = read_rooms(self.bento / "src")
        self.serving = tuple(rooms[ref.name].config.serving for ref in release.models)
        self.slos = {ref.name: rooms[ref.name].config.slo for ref in release.models}
        self.rows = rows or config.gate.profiles[config.gate.profile].rows
        self.stepping = Stepping(
            generators=generators, max_lateness_ms=config.gate.max_generator_lateness_ms
        )
        self.present = Setting(workers=config.server.workers, threads=config.server.threads)
        """The settings of now."""
        self.asked = asked_of(bundle, release, dict.fromkeys(self.slos, 1.0), self.rows)
        if not self.asked:
            raise GateError("it serves no model", where=release.tag)

    def capacity(self, setting: Setting, budget_s: float) -> Capacity:
        """The highest rate that holds with this setting."""
        from headgate.gate import find_capacity

        ends_s = time.monotonic() + budget_s
        with self.served(setting, "capacity") as subject:
            self.bundle.notify(f"looking for the capacity of {', '.join(self.slos)} ({setting})")
            left_s = max(1.0, ends_s - time.monotonic())
            return find_capacity(
                subject,
                self.slos,
                msgspec.structs.replace(self.stepping, budget_s=left_s),
                workdir=self.folder,
                progress=self.bundle.notify,
                locustfile=self.bundle.root / "load_tests" / "locustfile.py",
            )

    def beside(self, now: Setting, other: Setting, ends_s: float, seed: int = 0) -> Tried:
        """Compare two settings, both served, loaded in turn; one that does not serve is no better."""
        from headgate.gate import compare

        with self.served(now, "capacity") as mine:
            try:
                with self.served(other, "capacity-other") as theirs:
                    found = compare(
                        mine,
                        theirs,
                        self.stepping,
                        workdir=self.folder,
                        locustfile=self.bundle.root / "load_tests" / "locustfile.py",
                        ends_s=ends_s,
                        seed=seed,
                    )
            except ServingError as error:
                mine.watch()  # unless it was the other one that ended
                return Tried(setting=other, beside=now, why=str(error))
        return Tried(
            setting=other,
            beside=now,
            times=found.value if found.pairs else 0.0,
            low=found.low,
            high=found.high if math.isfinite(found.high) else None,
            pairs=found.pairs,
        )

    @contextmanager
    def served(self, setting: Setting, log: str) -> Iterator[Subject]:
        """The release under a setting, ready to be loaded; ended afterwards."""
        config = self.bundle.config.server
        with tuned_bento(self.bento, self.folder, setting) as bento:
            self.bundle.notify(f"starting {self.release.tag} ({setting})")
            with started(
                self.bundle,
                self.release,
                log,
                bento=bento,
                server=msgspec.structs.replace(
                    config, workers=setting.workers, threads=setting.threads
                ),
            ) as server:
                yield subject(self.release, server, self.asked)
