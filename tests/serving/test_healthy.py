"""A container's health check, and how its server finds its settings."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headgate.config import ServerConfig
from headgate.errors import ServingError
from headgate.serving import __main__ as start
from headgate.serving import healthy
from headgate.serving.launch.services import release_of

SETTINGS = '[server]\nport = 3456\nworkers = 2\n[gate]\nprofile = "q"\n[gate.profiles.q]\n'


@contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of a server that answers so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"no worker can answer")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def bento(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "headgate.toml").write_text(SETTINGS)
    (tmp_path / "bento.yaml").write_text("name: headgate\nversion: 0e12\n")
    monkeypatch.chdir(tmp_path / "src")
    return tmp_path


@pytest.mark.usefixtures("bento")
@pytest.mark.parametrize(
    ("status", "code", "says"), [(200, 0, ""), (503, 1, "not ready: no worker can answer")]
)
def test_it_is_healthy_when_it_is_ready(status, code, says, monkeypatch, capsys):
    with answering(status) as port:
        monkeypatch.setenv("HEADGATE_PORT", str(port))
        assert healthy.main() == code
    assert says in capsys.readouterr().err


@pytest.mark.usefixtures("bento")
def test_nobody_answers(monkeypatch, capsys):
    with answering(200) as port:
        pass
    monkeypatch.setenv("HEADGATE_PORT", str(port))
    assert healthy.main() == 1
    assert f"nobody answers at port {port}" in capsys.readouterr().err


def test_a_bento_is_served_by_its_own_settings(bento, monkeypatch):
    seen = []
    monkeypatch.setattr(start, "run", lambda *given, release: seen.append((*given, release)) or 0)
    monkeypatch.setattr("sys.argv", ["serving", str(bento), "--host", "0.0.0.0"])
    assert start.main() == 0
    ((path, server, release),) = seen
    assert (path, release) == (bento, "headgate:0e12")
    assert server == ServerConfig(host="0.0.0.0", port=3456, workers=2)


def test_what_is_no_bento_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["serving", str(tmp_path)])
    assert start.main() == 2
    assert capsys.readouterr().err.startswith(f"headgate: {tmp_path}: neither a bundle")


@pytest.mark.parametrize("text", ["", "- 1\n", "name: x\n", "{"])
def test_a_bento_without_a_name(tmp_path, text):
    (tmp_path / "bento.yaml").write_text(text)
    with pytest.raises(ServingError, match="says no name and version"):
        release_of(tmp_path)
    assert release_of(tmp_path / "elsewhere") == "dev"
