"""What the launcher is made of, without a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile

import pytest

from headgate.errors import PortInUseError, ServingError
from headgate.serving.launch import standin
from headgate.serving.launch.channel import hand_over, incoming, tell_drain
from headgate.serving.launch.child import last_clear_line
from headgate.serving.launch.environment import environment
from headgate.serving.launch.listening import holder_of, listen_tcp, refuse_new
from headgate.serving.launch.scratch import Scratch
from headgate.serving.launch.services import source_of
from headgate.serving.launch.standin import StandIn


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "Traceback …\n  File x\nheadgate.errors.ArtifactError: a.onnx: altered\n",
            "a.onnx: altered",
        ),
        ("Traceback …\nValueError: no\n\nApplication startup failed. Exiting.", "ValueError: no"),
        ("my.own.StrangeError: deep\n", "StrangeError: deep"),
        ("Segmentation fault\n", "Segmentation fault"),
        ("", "died without a word"),
    ],
)
def test_a_traceback_comes_down_to_one_line(text, line):
    assert last_clear_line(text) == line


def test_a_port_is_taken_for_oneself_on_every_address():
    with listen_tcp("127.0.0.1", 0) as mine:
        port = mine.getsockname()[1]
        assert str(os.getpid()) in holder_of(port)
        for host in ("127.0.0.1", "0.0.0.0", "localhost"):
            with pytest.raises(PortInUseError, match=f"port {port} is in use by .*{os.getpid()}"):
                listen_tcp(host, port)
        sharing = socket.socket()
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with sharing, pytest.raises(OSError, match="in use"):
            sharing.bind(("127.0.0.1", port))


def test_a_port_that_others_share_is_not_joined():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("0.0.0.0", 0))
        other.listen()
        with pytest.raises(PortInUseError):
            listen_tcp("127.0.0.1", other.getsockname()[1])


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_the_other_localhost_counts():
    with listen_tcp("::1", 0) as six, pytest.raises(PortInUseError, match="::1"):
        listen_tcp("127.0.0.1", six.getsockname()[1])


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_an_error(host):
    with pytest.raises(ServingError, match="give an address of this machine"):
        listen_tcp(host, 4321)


@pytest.mark.skipif(sys.platform != "linux", reason="a kernel filter of Linux")
def test_attempts_after_the_filter_wait_and_those_before_it_are_kept():
    with listen_tcp("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()):
            refuse_new(listener)
            with socket.socket() as late:
                late.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    late.connect(listener.getsockname())
            listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_private_folder_is_removed_also_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = "from headgate.serving.launch.scratch import *; import os; Scratch(); os._exit(9)"
    subprocess.run(
        [sys.executable, "-c", killed], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False
    )
    assert len(list(tmp_path.iterdir())) == 1
    mine = Scratch()
    assert list(tmp_path.iterdir()) == [mine.path]
    assert mine.path.stat().st_mode & 0o777 == 0o700
    other = Scratch()  # leaves the folder of one that lives alone
    assert mine.path.exists()
    for scratch in (mine, other):
        scratch.close()
    assert not list(tmp_path.iterdir())


def test_no_place_for_a_private_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ServingError, match="TMPDIR"):
        Scratch()


def test_the_home_of_a_bundle_may_be_chosen_and_that_of_a_bento_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("BENTOML_HOME", "/chosen")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    with contextlib.closing(Scratch()) as scratch:
        options = {"threads": 2, "release": "r:1", "drain_s": 1.0}
        bundle = environment(scratch, **options, exported=False)
        bento = environment(scratch, **options, exported=True)
        assert bundle["BENTOML_HOME"] == "/chosen"
        assert bento["BENTOML_HOME"] == str(scratch.home)
        assert bento["OMP_NUM_THREADS"] == "2"


def test_a_bento_is_told_from_a_bundle(tmp_path):
    with pytest.raises(ServingError, match="neither a bundle"):
        source_of(tmp_path)
    (tmp_path / "service.py").touch()
    assert source_of(tmp_path) == tmp_path
    (tmp_path / "bento.yaml").touch()
    (tmp_path / "src").mkdir()
    assert source_of(tmp_path) == tmp_path / "src"


def test_a_connection_is_handed_over_open():
    ours, theirs = socket.socketpair()
    near, far = socket.socketpair()
    with ours, theirs, near, far:
        theirs.setblocking(False)
        assert list(incoming(theirs)) == []
        assert hand_over(ours, far)
        far.close()
        tell_drain(ours)
        ours.close()
        connection, drain, gone = incoming(theirs)
        assert (drain, gone) == ("drain", "gone")
        assert isinstance(connection, socket.socket)
        with connection:
            near.sendall(b"hello")
            connection.setblocking(True)
            assert connection.recv(5) == b"hello"
        assert not hand_over(ours, near)
        with pytest.raises(OSError, match="Bad file descriptor"):
            tell_drain(ours)


def test_a_channel_that_is_full_says_so():
    ours, theirs = socket.socketpair()
    near, far = socket.socketpair()
    with ours, theirs, near, far:
        ours.setblocking(False)
        theirs.setblocking(False)
        while hand_over(ours, far):
            pass
        with pytest.raises(BlockingIOError):
            tell_drain(ours)
        for item in incoming(theirs):
            item.close()
        tell_drain(ours)
        assert list(incoming(theirs)) == ["drain"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /livez HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /metrics?x=1 HTTP/1.1\r\n\r\n", b"some 1.0"),
        (b"GET /readyz HTTP/1.1\r\n\r\n", b"retry-after: 1"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 503"),
        (b"GET / HTTP/1.1\r\n", b""),  # and then nothing more
    ],
)
def test_the_stand_in_tells_the_truth_and_closes(request_, expected, monkeypatch):
    monkeypatch.setattr(standin, "_READ_S", 0.3)

    async def ask():
        stand_in = StandIn(lambda: b"some 1.0")
        near, far = socket.socketpair()
        with near:
            stand_in.take(far, "starting")
            near.sendall(request_)
            near.setblocking(False)
            received = b""
            while data := await asyncio.get_running_loop().sock_recv(near, 65536):
                received += data
        await stand_in.finish()
        return received

    received = asyncio.run(ask())
    assert expected in received
    assert bool(received) == bool(expected)


def test_the_stand_in_takes_no_more_than_it_can():
    async def flood():
        stand_in = StandIn(bytes)
        pairs = [socket.socketpair() for _ in range(standin._MOST + 1)]
        for _, far in pairs:
            stand_in.take(far, "starting")
        assert pairs[-1][1].fileno() == -1
        assert pairs[0][1].fileno() != -1
        for near, _ in pairs:
            near.close()
        await stand_in.finish()

    asyncio.run(flood())
