"""A virtual environment for each peer, made on first use and again when its pins change."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HOME", "PEERS", "ROOT", "Environment", "NotInstalledError", "ensure"]

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
HOME = ROOT / ".headgate" / "bench"
INSTALL_S = 1800


class NotInstalledError(Exception):
    """A peer's packages could not be installed."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a peer runs in."""

    python: Path
    packages: dict[str, str]
    """Versions by name, as pinned."""

    def script(self, name: str) -> str:
        """A program that one of the packages brings."""
        return str(self.python.with_name(name))


def ensure(name: str, *, system_python: bool = False) -> Environment:
    """The environment of ``benchmarks/peers/<name>.txt``, installed if it is not yet.

    ``system_python`` takes Debian's interpreter where there is one.

    Raises:
        NotInstalledError: it cannot be made; says what pip said last.
    """
    pins = PEERS / f"{name}.txt"
    target = HOME / "venvs" / name
    mark = target / ".pins"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    found = Environment(python=target / "bin" / "python", packages=_versions(pins))
    if mark.is_file() and mark.read_text() == digest and found.python.exists():
        return found
    print(f"installing {name} into {target.relative_to(ROOT)} (once)", flush=True)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    _run([_interpreter(system=system_python), "-m", "venv", str(target)])
    pip = [str(found.python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if "torch" in found.packages:
        # Alone and first: any other order lets a dependency pull a build with gigabytes of CUDA.
        _run([*pip, "-c", str(pins), "torch"])
    _run([*pip, "-r", str(pins)])
    mark.write_text(digest)
    return found


def _interpreter(*, system: bool) -> str:
    return (shutil.which("python3", path="/usr/bin") if system else None) or sys.executable


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALL_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from None
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise NotInstalledError(" | ".join(said[-2:])[:500])


def _versions(pins: Path) -> dict[str, str]:
    lines = (line.partition("==") for line in pins.read_text().splitlines())
    return {name: version for name, _, version in lines if version}
