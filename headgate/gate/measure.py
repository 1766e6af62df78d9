"""Loads one model of a running release through Locust and brings back raw samples."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np
import numpy.typing as npt

from headgate.config import LoadProfile
from headgate.errors import GateError, InputError, ServingError
from headgate.gate.answers import compare
from headgate.gate.load import GENERATOR, load
from headgate.gate.plan import Plan, arrivals
from headgate.predictor import Reference, Signature
from headgate.predictor.rows import batch_to_rows
from headgate.records import Samples

__all__ = ["measure"]

_CONNECT_S = 5.0
_Rows: TypeAlias = npt.NDArray[np.int64]


def measure(
    url: str,
    model: str,
    reference: Reference,
    signature: Signature,
    profile: LoadProfile,
    *,
    rate: float,
    release: str,
    tolerance: float,
    load_time_s: float,
    workdir: Path,
    progress: Callable[[str], None],
    locustfile: Path = GENERATOR,
    seed: int = 0,
) -> Samples:
    """Offer reference rows to ``model`` at ``url``, ``rate`` requests/s, and check every answer.

    Arrivals are Poisson, whatever the answers do, and latency counts from the moment a request
    was meant to go. The profile's warm-up is sent and thrown away.

    Args:
        url: Where a server speaks the V1 protocol, ``http://host:port``.
        model: Its name there.
        reference: The rows to send, and what the model as trained predicted for them.
        signature: What the model takes and gives.
        profile: How long, and how many rows a request; ``rate`` stands in for its own.
        rate: Requests per second.
        release: The release's tag; an answer that names another counts as an error.
        tolerance: Largest difference from the reference that counts as equal.
        load_time_s: From starting the release to ready, seconds; goes into the samples as it is.
        workdir: Where this process and Locust exchange files; nothing stays.
        progress: Told now and then how long it still takes.
        locustfile: Follows the plan that is put into its environment.
        seed: Draws the arrivals and the order of the rows.

    Raises:
        ServingError: nobody answers at ``url``.
        GateError: there is nothing to send, or the generator crashed, was killed or hung.
    """
    bodies, groups = _requests(reference, signature, profile.rows)
    _reach(url)
    at_s = np.concatenate(
        (
            arrivals(rate, profile.warmup_s, seed),
            arrivals(rate, profile.duration_s, seed + 1) + profile.warmup_s,
        )
    )
    order = _order(len(bodies), len(at_s), seed)
    plan = Plan(
        path=f"/v1/models/{quote(model)}:predict",
        bodies=tuple(bodies),
        order=tuple(order.tolist()),
        at_s=tuple(at_s.tolist()),
    )
    run = load(url.rstrip("/"), plan, locustfile, workdir, progress)
    compared = compare(
        run,
        [groups[index] for index in order],
        reference,
        signature,
        tolerance=tolerance,
        release=release,
    )
    kept = at_s >= profile.warmup_s
    return Samples(
        model=model,
        release=release,
        intended_s=at_s[kept] - profile.warmup_s,
        sent_s=np.array(run.sent_s)[kept] - profile.warmup_s,
        latency_s=(np.array(run.done_s) - at_s)[kept],
        ok=compared.ok[kept],
        matched=compared.matched[kept],
        rows=np.full(int(kept.sum()), profile.rows),
        duration_s=profile.duration_s,
        load_time_s=load_time_s,
        errors=compared.errors(kept),
        generator_cpu=run.cpu,
    )


def _reach(url: str) -> None:
    """Hold that somebody listens at ``url``."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise _no_address(url, str(error)) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _no_address(url, "not an http address")
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_S).close()
    except UnicodeError as error:
        raise _no_address(url, str(error)) from None
    except OSError as error:
        raise ServingError(
            f"nobody answers ({error.strerror or error})",
            where=url,
            remedy="start it, or give another address",
        ) from None


def _no_address(url: str, why: str) -> InputError:
    return InputError(why, where=url, remedy="give http://host:port")


def _requests(
    reference: Reference, signature: Signature, size: int
) -> tuple[list[bytes], list[_Rows]]:
    """Every request of ``size`` neighbouring rows, and which rows each holds."""
    if reference.rows == 0:
        raise GateError(
            "the reference has no rows, so there is nothing to send",
            remedy="log some with `headgate.log_reference`",
        )
    rows = batch_to_rows(signature, reference.inputs)
    groups = [np.arange(start, start + size) % len(rows) for start in range(0, len(rows), size)]
    bodies = [msgspec.json.encode({"instances": [rows[row] for row in group]}) for group in groups]
    return bodies, groups


def _order(bodies: int, count: int, seed: int) -> _Rows:
    """Which body each of ``count`` requests has: all of them, shuffled, then all again."""
    random = np.random.default_rng(seed)
    rounds = [random.permutation(bodies) for _ in range(-(-count // bodies))]
    return np.concatenate(rounds)[:count]
