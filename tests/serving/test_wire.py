"""The short way through uvicorn says byte for byte what the long one does."""

from __future__ import annotations

import asyncio
import logging

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from headgate.serving.http import still_there
from headgate.serving.wire import Wire, received

HEADERS = [(b"content-type", b"application/json"), (b"x-headgate-release", b"r:1")]
DEFAULTS = [(b"date", b"today"), (b"server", b"uvicorn")]
LIMIT = 1_000_000


class Transport(asyncio.Transport):
    """A connection: what was written to it, and whether it is read."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.reading = True
        self.closing = False

    def write(self, data):
        self.writes.append(bytes(data))

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def close(self):
        self.closing = True

    def is_closing(self):
        return self.closing


class Connection:
    """uvicorn's end of a connection, and the app behind it."""

    def __init__(self, app, *, defaults=DEFAULTS, access_log=False):
        self.state = ServerState()
        self.state.default_headers = defaults
        self.app = app
        self.errors = []
        config = uvicorn.Config(
            self.watched,
            interface="asgi3",
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=access_log,
        )
        config.load()
        self.protocol = HttpToolsProtocol(config, self.state, {})
        self.transport = Transport()
        self.protocol.connection_made(self.transport)

    async def watched(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            self.errors.append(error)
            raise

    async def send(self, *pieces):
        """What is answered to these bytes."""
        for piece in pieces:
            self.protocol.data_received(piece)
            for _ in range(20):
                await asyncio.sleep(0)
        for task in list(self.state.tasks):
            await task
        assert self.errors == []
        return b"".join(self.transport.writes)


class Echo:
    """Answers the body of the request, if it has one, the short way or the long one."""

    def __init__(self, *, short, more=None):
        self.short = short
        self.more = more
        self.wire = Wire(HEADERS)
        self.took_short = []

    async def __call__(self, scope, receive, send):
        body = received(receive, LIMIT) if self.short else None
        self.took_short.append(body is not None)
        if body is None:
            body = b""
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message["body"]
                more = message["more_body"]
        body = body or b"nothing"
        if self.short:
            await self.wire.answer(body, send, self.more)
            return
        headers = [*HEADERS, (b"content-length", b"%d" % len(body)), *(self.more or [])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def request(body=b"", method=b"POST", version=b"1.1", headers=b""):
    return b"%b / HTTP/%b\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (
        method,
        version,
        headers,
        len(body),
        body,
    )


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
PLAY = {
    "a body": [request(b"abc")],
    "no body": [request(method=b"GET")],
    "one after the other": [request(b"abc"), request(b"defg"), request()],
    "pipelined": [request(b"abc") + request(b"de") + request(b"f")],
    "in pieces": [request(b"abcdef")[:-3], b"de", b"f"],
    "in chunks": [CHUNKED],
    "large": [request(b"x" * 300_000), request(b"abc")],
    "close": [request(b"abc", headers=b"connection: close\r\n")],
    "HTTP 1.0": [request(b"abc", version=b"1.0")],
    "HEAD": [request(method=b"HEAD")],
    "expecting": [request(b"abc", headers=b"expect: 100-continue\r\n")],
    "expecting, in pieces": [request(b"abc", headers=b"expect: 100-continue\r\n")[:-3], b"abc"],
}
LONG = {"close", "HTTP 1.0", "HEAD"}
"""Answered by uvicorn's own ``send``."""


@pytest.mark.parametrize("play", PLAY)
def test_the_same_bytes(play):
    async def main(*, short):
        app = Echo(short=short)
        connection = Connection(app)
        said = await connection.send(*PLAY[play])
        assert app.took_short == [short and "in pieces" not in play] * len(app.took_short)
        return said, connection.transport, connection.state.total_requests

    said, transport, requests = asyncio.run(main(short=True))
    expected, other, _ = asyncio.run(main(short=False))
    # Who has sent the body already does not wait to be told to go on.
    assert said == expected.removeprefix(
        b"HTTP/1.1 100 Continue\r\n\r\n" if play == "expecting" else b""
    )
    assert said.count(b"HTTP/1.1 200 OK") == requests
    assert transport.closing == other.closing
    assert transport.reading
    answers = [write for write in transport.writes if b" 100 " not in write]
    assert len(answers) == (len(other.writes) if play in LONG else requests)


@pytest.mark.parametrize("play", ["a body", "HEAD", "pipelined"])
@pytest.mark.parametrize("more", [[], [(b"x-what", b"binary"), (b"x-length", b"7")]])
def test_an_answer_may_have_headers_of_its_own(play, more):
    async def main(*, short):
        return await Connection(Echo(short=short, more=more)).send(*PLAY[play])

    said = asyncio.run(main(short=True))
    assert said == asyncio.run(main(short=False))
    assert said.count(b"\r\nx-what: binary\r\nx-length: 7\r\n\r\n") == (
        said.count(b" 200 OK") if more else 0
    )


@pytest.mark.parametrize(
    "options",
    [
        {"defaults": []},
        {"defaults": [*DEFAULTS, (b"connection", b"close")]},
        {"access_log": True},
    ],
    ids=["no headers of its own", "about to stop", "access log"],
)
def test_the_same_bytes_from_another_server(options, caplog):
    async def main(*, short):
        connection = Connection(Echo(short=short), **options)
        return await connection.send(request(b"abc")), connection.transport.closing

    with caplog.at_level(logging.INFO, "uvicorn.access"):
        said = asyncio.run(main(short=True))
        logged = len(caplog.records)
        assert said == asyncio.run(main(short=False))
        assert len(caplog.records) == 2 * logged == 2 * options.get("access_log", False)


def test_new_headers_of_the_server_are_noticed():
    async def main():
        connection = Connection(Echo(short=True))
        await connection.send(request(b"abc"))
        connection.state.default_headers = [(b"date", b"tomorrow")]
        said = await connection.send(request(b"abc"))
        assert said.count(b"date: today") == said.count(b"date: tomorrow") == 1
        assert said.endswith(
            b"HTTP/1.1 200 OK\r\ndate: tomorrow\r\ncontent-type: application/json\r\n"
            b"x-headgate-release: r:1\r\ncontent-length: 3\r\n\r\nabc"
        )

    asyncio.run(main())


def test_a_client_that_does_not_read_is_waited_for():
    async def main():
        connection = Connection(Echo(short=True))
        connection.protocol.pause_writing()
        connection.protocol.data_received(request(b"abc"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.transport.writes == []
        connection.protocol.resume_writing()
        assert (await connection.send()).endswith(b"\r\n\r\nabc")

    asyncio.run(main())


def test_nothing_is_said_to_a_client_that_left():
    async def main():
        left = asyncio.Event()

        async def app(scope, receive, send):
            assert received(receive, LIMIT) == b"abc"
            await left.wait()
            assert received(receive, LIMIT) is None
            await Wire(HEADERS).answer(b"abc", send)

        connection = Connection(app)
        connection.protocol.data_received(request(b"abc"))
        await asyncio.sleep(0)
        connection.protocol.connection_lost(None)
        left.set()
        assert await connection.send() == b""

    asyncio.run(main())


def test_a_client_with_a_large_body_that_leaves_is_noticed():
    async def main():
        seen = []

        async def app(scope, receive, send):
            there = still_there(receive)
            assert len(received(receive, LIMIT)) == 300_000
            seen.append(connection.transport.reading)
            seen.append(there())
            await left.wait()
            seen.append(there())

        left = asyncio.Event()
        connection = Connection(app)
        connection.protocol.data_received(request(b"x" * 300_000))
        await asyncio.sleep(0)
        connection.protocol.connection_lost(None)
        left.set()
        await connection.send()
        assert seen == [True, True, False]

    asyncio.run(main())


def test_a_body_over_the_limit_is_left_where_it_is():
    async def main():
        async def app(scope, receive, send):
            assert received(receive, 2) is None
            assert received(receive, 3) == b"abc"
            await Wire(HEADERS).answer(b"", send)

        assert b" 200 OK" in await Connection(app).send(request(b"abc"))

    asyncio.run(main())


def test_who_listens_after_the_body_hears_of_the_end_and_nothing_else():
    async def main():
        async def app(scope, receive, send):
            assert received(receive, LIMIT) == b"abc"
            listening = asyncio.create_task(receive())
            for _ in range(3):
                await asyncio.sleep(0)
            assert not listening.done()
            await Wire(HEADERS).answer(b"", send)
            assert await asyncio.wait_for(listening, 5) == {"type": "http.disconnect"}
            assert await receive() == {"type": "http.disconnect"}

        connection = Connection(app)
        await connection.send(request(b"abc", headers=b"expect: 100-continue\r\n"))
        # The one who listened first was told to go on, as uvicorn does; nobody was afterwards.
        assert len(connection.transport.writes) == 2

    asyncio.run(main())


def test_nobody_is_told_to_go_on_after_the_answer():
    async def main():
        async def app(scope, receive, send):
            assert received(receive, LIMIT) == b"abc"
            await Wire(HEADERS).answer(b"", send)
            assert await receive() == {"type": "http.disconnect"}

        connection = Connection(app)
        await connection.send(request(b"abc", headers=b"expect: 100-continue\r\n"))
        assert len(connection.transport.writes) == 1

    asyncio.run(main())


def test_other_servers_are_answered_the_long_way():
    async def main():
        sent = []

        async def receive():
            raise AssertionError

        async def send(message):
            sent.append(message)

        assert received(receive, LIMIT) is None
        await Wire(HEADERS).answer(b"abc", send)
        assert sent == [
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*HEADERS, (b"content-length", b"3")],
            },
            {"type": "http.response.body", "body": b"abc"},
        ]

    asyncio.run(main())
