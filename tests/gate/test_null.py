from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from headgate.errors import GateError
from headgate.gate import null
from headgate.gate.null import null_endpoint


def test_it_answers_whatever_it_is_asked() -> None:
    before = psutil.Process().children()
    with null_endpoint() as url:
        place = urlsplit(url).netloc
        connection = http.client.HTTPConnection(place, timeout=30)
        for body in (b"", b"{}", bytes(5_000_000)):
            connection.request("POST", "/v1/models/m:predict", body)
            reply = connection.getresponse()
            assert (reply.status, reply.read()) == (200, b'{"predictions":[]}')
        connection.close()
        with socket.create_connection((place.split(":")[0], int(place.split(":")[1]))) as rude:
            rude.settimeout(30)
            rude.sendall(b"what?\r\n\r\n")
            assert rude.recv(100) == b""
        assert len(psutil.Process().children()) == len(before) + 1
    assert psutil.Process().children() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((place.split(":")[0], int(place.split(":")[1])))


def test_it_ends_with_who_started_it() -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", null.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert int(process.stdout.readline()) > 0
        process.stdin.close()
        assert process.wait(30) == 0


def test_it_ends_with_an_error_in_its_context() -> None:
    before = psutil.Process().children()
    with pytest.raises(KeyboardInterrupt), null_endpoint():
        raise KeyboardInterrupt
    assert psutil.Process().children() == before


def test_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no')")
    monkeypatch.setattr(null, "__file__", str(broken))
    with pytest.raises(GateError, match="did not start") as caught, null_endpoint():
        pass
    assert str(broken) in caught.value.remedy
