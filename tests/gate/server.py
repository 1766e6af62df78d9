"""A small real HTTP server that speaks the V1 protocol, as well or as badly as a test wants."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from headgate.predictor import Field, Reference, Signature

ROWS = 64
SIGNATURE = Signature(
    inputs=(
        Field(name="carrier", dtype="string", nullable=True),
        Field(name="wind", dtype="float64", nullable=True),
    ),
    outputs=(
        Field(name="label", dtype="string"),
        Field(name="probabilities", dtype="float32", shape=(2,)),
    ),
    task="classification",
    classes=("late", "on time"),
)
Answer = Callable[[list[dict[str, Any]]], tuple[int, bytes]]


def predict(row: dict[str, Any]) -> dict[str, Any]:
    """What this "model" makes of a row: every row of the reference something else."""
    late = (50 if row["wind"] is None else row["wind"]) / 100 + 0.003 * (row["carrier"] == "UA")
    return {"label": "late" if late > 0.5 else "on time", "probabilities": [late, 1 - late]}


def reference() -> Reference:
    """Rows with and without nulls, and what :func:`predict` makes of them."""
    wind = np.arange(ROWS, dtype=np.float64)
    wind[::8] = np.nan
    carrier = np.array(["UA", None, "DL", "B6"] * (ROWS // 4), dtype=object)
    rows = [
        {"carrier": name, "wind": None if np.isnan(speed) else speed}
        for name, speed in zip(carrier, wind, strict=True)
    ]
    answers = [predict(row) for row in rows]
    return Reference(
        inputs={"carrier": carrier, "wind": wind},
        outputs={
            "label": np.array([answer["label"] for answer in answers], dtype=object),
            "probabilities": np.array(
                [answer["probabilities"] for answer in answers], dtype=np.float32
            ),
        },
        labels=np.array(
            ["late" if speed % 3 else "on time" for speed in range(ROWS)], dtype=object
        ),
        task="classification",
        classes=SIGNATURE.classes,
    )


def right(rows: list[dict[str, Any]]) -> tuple[int, bytes]:
    """What the model would answer."""
    answers = [predict(row) for row in rows]
    return 200, json.dumps({"predictions": answers, "release": "r:1"}).encode()


@dataclass
class Server:
    """One running server."""

    answer: Answer = right
    delay_s: float = 0.0
    dies_after: int | None = None
    """Requests after which it is gone, connections and all."""
    stalls_at: int | None = None
    """The request during which everything stops, as in a collection of garbage."""
    stall_s: float = 0.0
    cut: bool = False
    """Whether it hangs up in the middle of each answer."""
    raw: bytes = b""
    """What it says instead of any answer."""
    silent: bool = False
    """Whether it takes requests and never answers."""
    at_once: int = 10_000
    """How many requests it works at; others wait."""
    idle_s: float | None = None
    """After which it closes a connection that nothing comes on."""
    said: dict[str, str] = field(default_factory=dict)
    """Headers of each answer."""
    tls: Path | None = None
    """File with a key and a certificate."""
    host: str = "127.0.0.1"
    seen: list[float] = field(default_factory=list)
    """When each request arrived."""
    rows: list[list[dict[str, Any]]] = field(default_factory=list)
    """What each request held."""
    bodies: list[bytes] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    headers: set[tuple[str, str]] = field(default_factory=set)
    """Every header that came."""
    url: str = ""
    connections: list[socket.socket] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    turn: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.places = threading.BoundedSemaphore(self.at_once)

    def listens(self, listener: ThreadingHTTPServer) -> None:
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls)
            listener.socket = context.wrap_socket(
                listener.socket, server_side=True, do_handshake_on_connect=False
            )
        place = f"[{self.host}]" if ":" in self.host else self.host
        self.url = f"{'https' if self.tls else 'http'}://{place}:{listener.server_port}"

    def work(self, number: int) -> None:
        """What takes time."""
        with self.turn:
            if number == self.stalls_at:
                time.sleep(self.stall_s)
        if self.silent:
            self.ended.wait()
        with self.places:
            time.sleep(self.delay_s)

    def die(self, listener: ThreadingHTTPServer) -> None:
        self.ended.set()
        listener.shutdown()
        listener.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(**how: Any) -> Iterator[Server]:
    """A server on a free port."""
    server = Server(**how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet
        disable_nagle_algorithm = True
        timeout = server.idle_s

        def setup(self) -> None:
            super().setup()
            server.connections.append(self.request)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            server.seen.append(time.perf_counter())
            server.bodies.append(body)
            server.paths.add(self.path)
            server.headers |= {(name.lower(), value) for name, value in self.headers.items()}
            number = next(server.numbers)
            if server.dies_after is not None and number > server.dies_after:
                if number == server.dies_after + 1:
                    server.die(listener)
                self.close_connection = True
                return
            server.work(number)
            if server.raw:
                self.wfile.write(server.raw)
                self.close_connection = True
                return
            rows = json.loads(body)["instances"]
            server.rows.append(rows)
            status, answer = server.answer(rows)
            self.send_response(status)
            for name, value in server.said.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer[: len(answer) // 2] if server.cut else answer)
            self.close_connection = self.close_connection or server.cut

        def finish(self) -> None:
            with contextlib.suppress(OSError):  # the other side may be gone
                super().finish()

        def log_message(self, *args: Any) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512
        address_family = socket.AF_INET6 if ":" in server.host else socket.AF_INET

        def handle_error(self, *args: Any) -> None:
            pass  # a generator that goes away resets its connections

    listener = Listener((server.host, 0), Handler)
    server.listens(listener)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.die(listener)
        thread.join(10)
