"""A client of HTTP/2 by an implementation of its own (h2), which breaks the rules where a test does."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings

from headgate.serving.grpc.framing import prefixed

SERVICE = "inference.GRPCInferenceService"
READY = f"/{SERVICE}/ServerLive"
INFER = f"/{SERVICE}/ModelInfer"


class Told:
    """What came back on one stream."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.data = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers["grpc-status"])

    @property
    def text(self) -> str:
        from urllib.parse import unquote

        return unquote(self.headers.get("grpc-message", ""))


class Client:
    """One connection."""

    def __init__(self, port: int, **settings: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.told: dict[int, Told] = {}
        self.gone: tuple[int, int] | None = None
        """Last stream and error code of the server's last GOAWAY."""
        self.farewells: list[int] = []
        self.closed = False
        self._rest = b""
        chosen = {getattr(h2.settings.SettingCodes, name): settings[name] for name in settings}
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values=chosen)
        self.h2.max_inbound_frame_size = settings.get("MAX_FRAME_SIZE", 16_384)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def raw(self, content: bytes) -> None:
        """Send bytes that h2 knows nothing of."""
        self.sock.sendall(content)

    def headers(self, path: str = READY, **changes: str | None) -> list[tuple[str, str]]:
        found = {
            ":method": "POST",
            ":scheme": "http",
            ":authority": "x",
            ":path": path,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        found.update({name.replace("_", "-"): value for name, value in changes.items()})
        return [(name, value) for name, value in found.items() if value is not None]

    def begin(self, path: str = READY, *, end: bool = False, **changes: str | None) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, self.headers(path, **changes), end_stream=end)
        self.told[stream] = Told()
        self.flush()
        return stream

    def send(self, stream: int, content: bytes, *, end: bool = True) -> None:
        """Send data, as much at a time as there is leave for."""
        while content:
            self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
            room = self.h2.local_flow_control_window(stream)
            size = min(room, self.h2.max_outbound_frame_size)
            self.h2.send_data(stream, content[:size])
            content = content[size:]
            self.flush()
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def call(self, path: str = READY, message: bytes = b"", **changes: str | None) -> Told:
        stream = self.begin(path, **changes)
        self.send(stream, prefixed(message))
        return self.until_ended(stream)

    def until_ended(self, stream: int) -> Told:
        told = self.told[stream]
        self.until(lambda: told.ended or told.reset is not None)
        return told

    def until(self, condition: Any) -> None:
        while not condition():
            assert not self.closed, "the server closed the connection"
            self.read()

    def until_closed(self) -> None:
        while not self.closed:
            self.read()

    def read(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(self._without_farewells(data)):
            self._take(event)
        with contextlib.suppress(OSError):
            self.flush()

    def _without_farewells(self, data: bytes) -> bytes:
        """Frames but GOAWAY, after which h2 would take nothing more, and we owe it answers."""
        data, kept = self._rest + data, b""
        while len(data) >= 9 and len(data) >= (size := 9 + int.from_bytes(data[:3], "big")):
            frame, data = data[:size], data[size:]
            if frame[3] == 7:
                last, code = (int.from_bytes(frame[i : i + 4], "big") for i in (9, 13))
                self.gone = (last, code)
                self.farewells.append(last)
            else:
                kept += frame
        self._rest = data
        return kept

    def _take(self, event: Any) -> None:
        told = self.told.get(getattr(event, "stream_id", 0), Told())
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            told.headers |= dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            told.data += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            told.ended = True
        elif isinstance(event, h2.events.StreamReset):
            told.reset = event.error_code


@contextlib.contextmanager
def connected(port: int, **settings: int) -> Iterator[Client]:
    client = Client(port, **settings)
    try:
        yield client
    finally:
        client.sock.close()
