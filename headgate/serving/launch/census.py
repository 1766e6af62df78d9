"""The launcher's own metrics, beside its workers' in the one `/metrics`."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

__all__ = ["Census"]


class Census:
    """Counts workers, in the files through which Prometheus clients of several processes add up.

    ``headgate_workers_live{service}``: workers that can answer now.
    ``headgate_worker_restarts_total{service, reason}``: workers replaced; ``reason`` is ``died``,
    ``hung`` (no sign of life), ``unfit`` (said so itself) or ``unready`` (died while starting).

    The files are written directly: the client library chooses between them and plain memory when
    it is imported, which in a command-line process was long ago.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gauges = _open(folder / f"gauge_mostrecent_{os.getpid()}.db")
        self._counters = _open(folder / f"counter_{os.getpid()}.db")

    def live(self, service: str, count: int) -> None:
        """Say how many workers of ``service`` can answer."""
        key = mmap_key(
            "headgate_workers_live",
            "headgate_workers_live",
            ["service"],
            [service],
            "Workers that can answer now.",
        )
        self._gauges.write_value(key, float(count), time.time())

    def restarted(self, service: str, reason: str, times: int = 1) -> None:
        """Count a worker replaced; ``times=0`` makes the series appear."""
        key = mmap_key(
            "headgate_worker_restarts",
            "headgate_worker_restarts_total",
            ["service", "reason"],
            [service, reason],
            "Workers replaced.",
        )
        value, _ = self._counters.read_value(key)
        self._counters.write_value(key, value + times, 0.0)

    def buried(self, pid: int, *, served: bool) -> None:
        """Forget the gauges of a dead worker; all of its files when it never served.

        Counters of one that served stay, or totals would go down.
        """
        mark_process_dead(pid, path=str(self._folder))  # type: ignore[no-untyped-call]
        if not served:
            for file in self._folder.glob(f"*_{pid}.db"):
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()

    def text(self) -> bytes:
        """All metrics of this server in Prometheus' text format."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def close(self) -> None:
        """Let go of the files."""
        self._gauges.close()
        self._counters.close()


def _open(file: Path) -> Any:
    """The library's file format; it has no types."""
    return MmapedDict(str(file))  # type: ignore[no-untyped-call]
