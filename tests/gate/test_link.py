from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.gate.link import Link
from headgate.gate.plan import Ask, Block, Target

TOKEN = "5e5a3e"


def frame(body: bytes, length: int | None = None) -> bytes:
    return struct.pack("!Q", len(body) if length is None else length) + body


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        with here, there:
            yield here, there


@given(
    st.lists(
        st.builds(
            Block,
            target=st.integers(0, 2),
            order=st.lists(st.integers(0, 2**40)).map(tuple),
            seconds=st.floats(0, 1e6),
            at_s=st.none() | st.lists(st.floats(allow_nan=False)).map(tuple),
            connections=st.integers(0, 10_000),
        ),
        max_size=5,
    )
)
def test_messages_come_as_they_went(blocks: list[Block]) -> None:
    with pair() as (here, there):
        for block in blocks:
            Link(here).send(block)
        Link(here).close()
        link = Link(there)
        assert [link.receive(Block) for _ in blocks] == blocks
        with pytest.raises(EOFError):
            link.receive(Block)


def test_a_message_larger_than_any_buffer() -> None:
    targets = (
        Target(url="http://127.0.0.1:1", asks=(Ask(path="/", body=bytes(range(256)) * 60_000),)),
    )
    with pair() as (here, there):
        sender = threading.Thread(target=Link(here).send, args=(targets,))
        sender.start()
        assert Link(there).receive(tuple[Target, ...], within_s=60) == targets
        sender.join()


def test_who_says_the_token_is_let_in() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        mine = Link.to(f"127.0.0.1:{port}:{TOKEN}")
        link = Link.taken(listener.accept()[0], TOKEN)
        assert link is not None
        link.send("hello", within_s=5)
        assert mine.receive(str) == "hello"
        mine.close()
        with pytest.raises(EOFError):
            link.receive(str)
        link.close()


@pytest.mark.parametrize(
    "said",
    [
        frame(msgspec.msgpack.encode("5e5a3f")),
        frame(msgspec.msgpack.encode("")),
        frame(msgspec.msgpack.encode("größer")),
        frame(msgspec.msgpack.encode(7)),
        frame(b"\xa2\xff\xfe"),
        frame(b"\xc1"),
        frame(b""),
        frame(b"x", 1 << 62),
        frame(b"x", 900),
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\0",
        b"",
    ],
    ids=[
        "another token",
        "no token",
        "not ASCII",
        "a number",
        "not UTF-8",
        "not msgpack",
        "nothing",
        "endless",
        "half a message",
        "a browser",
        "half a length",
        "hangs up",
    ],
)
def test_a_stranger_is_shut_out(said: bytes) -> None:
    with pair() as (here, there):
        here.sendall(said)
        here.shutdown(socket.SHUT_WR)
        assert Link.taken(there, TOKEN) is None
        assert there.fileno() == -1


@pytest.mark.parametrize("said", [b"", frame(b"x", 900)], ids=["nothing", "half a message"])
def test_a_stranger_who_waits_holds_nobody_up(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.gate.link._GREETING_S", 0.05)
    with pair() as (here, there):
        here.sendall(said)
        assert Link.taken(there, TOKEN) is None
        assert there.fileno() == -1


def test_a_stranger_who_drips_is_not_waited_for_byte_by_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headgate.gate.link._GREETING_S", 0.2)
    with pair() as (here, there):
        ended = threading.Event()
        dripped = []

        def drip() -> None:
            with contextlib.suppress(OSError):
                here.sendall(frame(b"", 900))
                while len(dripped) < 900 and not ended.wait(0.02):
                    here.sendall(b"x")
                    dripped.append(1)

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            # 900 bytes, one every 20 ms, would take 18 s.
            assert Link.taken(there, TOKEN) is None
            assert len(dripped) < 450
        finally:
            ended.set()
            dripping.join()


def test_rubbish_is_told_apart_from_a_farewell() -> None:
    for said, error in (
        (frame(b"rubbish"), msgspec.DecodeError),
        (frame(msgspec.msgpack.encode({"target": "first"})), msgspec.ValidationError),
        (frame(b"rub", 7), EOFError),
        (frame(b"rubbish", 1 << 40), EOFError),
        (b"", EOFError),
    ):
        with pair() as (here, there):
            here.sendall(said)
            here.close()
            with pytest.raises(error):
                Link(there).receive(Block, within_s=5)


def test_a_connection_that_was_reset_is_one_that_has_ended() -> None:
    with pair() as (here, there):
        here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        here.close()
        with pytest.raises(EOFError):
            Link(there).receive(Block)


def test_who_says_only_half_is_waited_for_so_long_and_no_longer() -> None:
    with pair() as (here, there):
        here.sendall(frame(b"rub", 7))
        with pytest.raises(TimeoutError):
            Link(there).receive(Block, within_s=0.05)


def test_who_takes_nothing_is_waited_for_so_long_and_no_longer() -> None:
    with pair() as (here, _), pytest.raises(TimeoutError):
        Link(here).send(bytes(64_000_000), within_s=0.05)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="refused"):
            Link.to(f"127.0.0.1:{taken.getsockname()[1]}:{TOKEN}")
