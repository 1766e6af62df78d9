"""Starts the tiny service under the launcher, and talks to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headgate.errors import ServingError
from headgate.serving.launcher import ServerProcess, start

TINY = Path(__file__).parent / "tiny_service"


@contextlib.contextmanager
def serving(log: Path, path: Path = TINY, **options: Any) -> Iterator[ServerProcess]:
    """A server that is ready, and gone afterwards whatever the test did."""
    server = start(path, release="tiny:1", log=log, **{"ready_timeout_s": 30, **options})
    try:
        server.wait_ready(40)
        yield server
    finally:
        with contextlib.suppress(ServingError):
            server.stop(10)


def connect(address: str, timeout: float = 5) -> http.client.HTTPConnection:
    """A connection that is open, and stays so from request to request."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)
    connection.connect()
    return connection


def get(address: str, path: str, timeout: float = 5) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    with contextlib.closing(connect(address, timeout)) as connection:
        return ask(connection, path)


def ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def status(address: str, path: str = "/readyz", timeout: float = 1) -> int:
    """The status, or 0 when there is no answer."""
    try:
        return get(address, path, timeout)[0]
    except OSError:
        return 0


def echo(address: str, query: str = "") -> dict[str, Any]:
    code, body = get(address, f"/echo?{query}")
    assert code == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


def metric(address: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    text = get(address, "/metrics", timeout=1)[1].decode()
    total = 0.0
    for line in text.splitlines():
        found = re.match(rf"{name}(?:\{{(.*)\}})? (\S+)$", line)
        if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
            total += float(found[2])
    return total


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition; returns how long that took."""
    start_s = time.monotonic()
    while not condition():
        assert time.monotonic() - start_s < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - start_s


def refused(address: str) -> bool:
    """Whether a new connection is refused, as opposed to accepted, reset or left hanging."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except ConnectionRefusedError:
        return True
    return False
