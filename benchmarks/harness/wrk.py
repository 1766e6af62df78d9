"""Closed loop: N connections that each send the next request when the last one is answered."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

__all__ = ["Measured", "WrkError", "load", "parse", "require", "write"]

SCRIPT = Path(__file__).with_name("wrk.lua")
_JSON = {"content-type": "application/json"}
TIMEOUT_S = 10
"""An answer that takes longer is an error."""


class WrkError(Exception):
    """wrk is missing, or did not do what it was asked to."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run."""

    rps: float
    """Good answers a second."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    """Answers that were not good, and requests that got none."""

    def described(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """What ``wrk.lua`` says at the end. wrk has corrected latencies for coordinated omission."""

    requests: int
    duration_us: int
    p50_us: int
    p95_us: int
    p99_us: int
    status: int
    connect: int
    read: int
    write: int
    timeout: int


def require() -> str:
    """The path of wrk; raises :class:`WrkError` that says how to get it."""
    found = shutil.which("wrk")
    if found is None:
        raise WrkError(
            "wrk, the load generator, is not installed: `apt-get install wrk` on Debian and "
            "Ubuntu, `brew install wrk` on macOS, or https://github.com/wg/wrk"
        )
    return found


def write(file: Path, bodies: Sequence[bytes]) -> None:
    """Write what :func:`load` is to send: each body after its length in a line of its own."""
    file.write_bytes(b"".join(b"%d\n%b" % (len(body), body) for body in bodies))


def load(
    url: str,
    bodies: Path,
    *,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] = _JSON,
) -> Measured:
    """Load ``url`` with the ``bodies``, see :func:`write`, in turn, for whole ``seconds``."""
    command = [require(), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    command += ["--timeout", f"{TIMEOUT_S}s", "-s", str(SCRIPT), url, "--", str(bodies)]
    command += [f"{name}: {value}" for name, value in headers.items()]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds + 60
    )
    if done.returncode != 0:
        raise WrkError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return parse(done.stdout)


def parse(output: str) -> Measured:
    """Read what wrk wrote; raises :class:`WrkError` where its script's line is not there."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    try:
        said = msgspec.json.decode(lines[-1], type=_Said)
    except (IndexError, msgspec.DecodeError) as error:
        raise WrkError(f"wrk said nothing that can be read ({error}): {output[-300:]!r}") from None
    if said.duration_us <= 0:
        raise WrkError(f"wrk ran for {said.duration_us} µs")
    return Measured(
        rps=(said.requests - said.status) / said.duration_us * 1e6,
        p50_ms=said.p50_us / 1e3,
        p95_ms=said.p95_us / 1e3,
        p99_ms=said.p99_us / 1e3,
        errors=said.status + said.connect + said.read + said.write + said.timeout,
    )
