"""A release under other settings than its own, without changing it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from headgate.config import load_model_config
from headgate.records import Record, Setting

__all__ = ["Tried", "cores", "tuned_bento"]


class Tried(Record, frozen=True):
    """One setting beside another."""

    setting: Setting
    beside: Setting
    times: float = 0.0
    """As many right answers at saturation."""
    low: float = 0.0
    high: float | None = None
    pairs: int = 0
    """Of blocks."""
    why: str = ""
    """Why it could not be tried."""

    @property
    def better(self) -> bool:
        """Beyond the noise."""
        return not self.why and self.low > 1

    def __str__(self) -> str:
        if self.why:
            return f"not possible: {self.why}"
        if not self.pairs:
            return "no time to compare them"
        word = "better" if self.better else "no better"
        span = f"to {self.high:.2f}" if self.high is not None else "upwards"
        return f"{word}: {self.times:.2f} times ({self.low:.2f} {span})"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def tuned_bento(bento: Path, folder: Path, setting: Setting) -> Iterator[Path]:
    """The Bento, or one like it whose models have the setting's ``[serving]``.

    The other one lies in ``folder`` while it is needed, and consists of links, but for what has to
    be changed.
    """
    serving = {
        name: value
        for name in ("parallel_calls", "max_batch_rows")
        if (value := getattr(setting, name)) is not None
    }
    if not serving:
        yield bento
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix="bento-") as name:
        made, source = Path(name), bento / "src"
        _bring_all(bento, made, but="src")
        _bring_all(source, made / "src", but="models")
        for room in (source / "models").iterdir():
            target = made / "src" / "models" / room.name
            _bring_all(room, target, but="model.toml")
            toml = room / "model.toml"
            if toml.is_file():
                (target / "model.toml").write_bytes(_rewritten(toml, serving))
        yield made


def _bring_all(folder: Path, target: Path, *, but: str) -> None:
    """Bring what lies in a folder into another one, which is made."""
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name != but:
            _bring(path, target / path.name)


def _bring(path: Path, target: Path) -> None:
    """Link a folder; copy a file, since Python looks for its neighbours where it really lies."""
    if path.is_dir():
        target.symlink_to(path.resolve(), target_is_directory=True)
    else:
        shutil.copyfile(path, target)


def _rewritten(path: Path, serving: dict[str, int]) -> bytes:
    config = load_model_config(path)
    changed = msgspec.structs.replace(
        config, serving=msgspec.structs.replace(config.serving, **serving)
    )
    return msgspec.toml.encode(_without_none(msgspec.to_builtins(changed)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return value
