"""Requests that are refused before they are read: who, with which bytes, and what follows."""

from __future__ import annotations

import asyncio
import itertools
from time import monotonic, sleep

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from serving.test_wire import DEFAULTS, Transport
from uvicorn.server import ServerState

from headgate.serving.launch.connections import Connection, Patience, is_idle
from headgate.serving.launch.refusing import Refusals
from headgate.serving.launch.turns import Turns, noticed

REST = b'retry-after: 1\r\ncontent-length: 20\r\n\r\n{"error":"too much"}'


class Hot:
    """An app that answers `ok`, and refuses requests to /hot early while it is told to."""

    def __init__(self):
        self.refusals = Refusals({b"/hot": self})
        self.is_pressed = True
        self.admits = False
        self.asked = []
        self.ran = []
        self.entered = 0
        self.since = []

    def pressed(self):
        return self.is_pressed

    def let_in(self):
        self.entered += 1

    def refusal(self, head, since):
        self.since.append(since)
        self.asked.append(head)
        return None if self.admits else (503, REST)

    async def __call__(self, scope, receive, send):
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.ran.append((scope["path"], body))
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"2")],
            }
        )
        await send({"type": "http.response.body", "body": b"ok"})


class End:
    """Our end of a connection."""

    def __init__(self, app):
        self.state = ServerState()
        self.state.default_headers = DEFAULTS
        config = uvicorn.Config(
            app, interface="asgi3", lifespan="off", log_config=None, proxy_headers=False
        )
        config.load()
        self.protocol = Connection(config, self.state, {})
        self.transport = Transport()
        self.protocol.connection_made(self.transport)

    async def send(self, *pieces):
        """What is answered to these bytes, the answers apart."""
        for piece in pieces:
            self.protocol.data_received(piece)
            for _ in range(10):
                await asyncio.sleep(0)
        for task in list(self.state.tasks):
            await task
        answers = b"".join(self.transport.writes).split(b"HTTP/1.1 ")[1:]
        self.transport.writes.clear()
        return answers


def request(path=b"/hot", body=b"abc", *, method=b"POST", version=b"1.1", headers=b""):
    head = b"%b %b HTTP/%b\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n"
    return head % (method, path, version, headers, len(body)) + body


def run(scenario):
    async def main():
        app = Hot()
        end = End(app)
        try:
            return await scenario(app, end)
        finally:
            end.protocol._unset_keepalive_if_required()

    return asyncio.run(main())


def test_a_refusal_is_a_whole_answer_and_the_connection_goes_on():
    async def scenario(app, end):
        (refused,) = await end.send(request(headers=b"x-headgate-deadline-ms: 5\r\n"))
        assert refused == (b"503 Service Unavailable\r\ndate: today\r\nserver: uvicorn\r\n" + REST)
        assert app.asked[0][b"x-headgate-deadline-ms"] == b"5"
        assert app.ran == []
        assert is_idle(end.protocol)
        assert not end.transport.closing
        app.is_pressed = False
        (answer,) = await end.send(request())
        assert answer.startswith(b"200 ")
        assert app.ran == [("/hot", b"abc")]

    run(scenario)


def test_a_body_that_still_comes_belongs_to_nobody():
    async def scenario(app, end):
        whole = request(body=b"x" * 100_000)
        (refused,) = await end.send(whole[:200])
        assert refused.startswith(b"503 ")
        assert await end.send(whole[200:50_000], whole[50_000:]) == []
        app.is_pressed = False
        (answer,) = await end.send(request(body=b"next"))
        assert answer.startswith(b"200 ")
        assert app.ran == [("/hot", b"next")]

    run(scenario)


def test_several_in_one_read_are_refused_in_order():
    async def scenario(app, end):
        answers = await end.send(request() * 3 + request(b"/cold") + request())
        # Behind one that is being answered the last waits for its turn.
        assert [answer[:3] for answer in answers] == [b"503", b"503", b"503", b"200", b"200"]
        assert app.ran == [("/cold", b"abc"), ("/hot", b"abc")]

    run(scenario)


@pytest.mark.parametrize(
    "ordinary",
    [
        request(b"/cold"),
        request(method=b"GET", body=b""),
        request(version=b"1.0"),
        request(headers=b"connection: close\r\n"),
        request(headers=b"expect: 100-continue\r\n"),
    ],
    ids=["elsewhere", "GET", "HTTP 1.0", "closing", "expecting"],
)
def test_others_take_the_ordinary_way(ordinary):
    async def scenario(app, end):
        answers = await end.send(ordinary)
        assert answers[-1].startswith(b"200 ")
        assert app.asked == []
        assert len(app.ran) == 1

    run(scenario)


def test_who_is_asked_may_let_it_in():
    async def scenario(app, end):
        app.admits = True
        (answer,) = await end.send(request())
        assert answer.startswith(b"200 ")
        assert len(app.asked) == app.entered == 1

    run(scenario)


def test_a_connection_whose_request_was_refused_may_be_silent():
    async def scenario(app, end):
        del app
        patience = Patience()
        await end.send(request())
        for second in range(100):
            patience.look([end.protocol], float(second))
        assert not end.transport.closing
        end.protocol.connection_lost(None)

    run(scenario)


# What begins, byte for byte, as one that was refused before.


def test_a_request_like_one_that_was_refused_is_not_parsed():
    async def scenario(app, end):
        first, second = await end.send(request(body=b"abc"), request(body=b"abc"))
        end.protocol.parser = None
        assert await end.send(request(body=b"xyz")) == [first] == [second]
        assert app.asked[2] == app.asked[0]
        assert end.state.total_requests == 3
        assert is_idle(end.protocol)

    run(scenario)


def test_and_answered_as_soon_as_there_is_time():
    async def scenario(app, end):
        for pressed, status in ((True, b"503"), (True, b"503"), (False, b"200"), (True, b"503")):
            app.is_pressed = pressed
            (answer,) = await end.send(request())
            assert answer[:3] == status
        app.admits = True
        (answer,) = await end.send(request())
        assert answer[:3] == b"200"
        assert app.ran == [("/hot", b"abc")] * 2

    run(scenario)


def test_one_that_is_silent_after_it_is_closed_in_the_end():
    async def scenario(app, end):
        patience = Patience()
        await end.send(request(), request(), request())
        assert end.protocol.timeout_keep_alive_task is None
        for second in range(74):
            patience.look([end.protocol], float(second))
        await end.send(request())
        for second in range(74, 148):
            patience.look([end.protocol], float(second))
        assert not end.transport.closing
        patience.look([end.protocol], 150.0)
        assert end.transport.closing
        del app

    run(scenario)


def test_while_the_server_stops_the_last_takes_the_ordinary_way():
    """The answer to it ends the connection."""

    async def scenario(app, end):
        await end.send(request(), request())
        end.protocol.close_after_last()
        assert end.protocol.cycle.response_complete
        answers = await end.send(request())
        assert [answer[:3] for answer in answers] == [b"200"]
        assert len(app.asked) == 2
        assert end.transport.closing

    run(scenario)


HEADERS = [(b"host", b"x"), (b"x", b""), (b"content-length", b"3")]


def test_what_is_known_is_bounded():
    refusals = Refusals({})
    for number in range(10_000):
        data = request(headers=b"x: %d\r\n" % number)
        refusals.keep(data, Hot(), HEADERS, {})
        assert refusals.known(data) is not None
        assert len(refusals._known) <= 256
    large = request(headers=b"x: " + b"x" * 3000 + b"\r\n")
    refusals.keep(large, Hot(), HEADERS, {})
    assert refusals.known(large) is None


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_before_a_request_are_no_header(before):
    """A server ignores them (RFC 9112, section 2.2)."""
    refusals = Refusals({})
    headers = [(b"host", b"x"), (b"content-length", b"3")]
    refusals.keep(before + request(), Hot(), headers, {})
    assert refusals.known(before + request()) is None
    assert refusals.known(before + b"abc") is None
    refusals.keep(request(), Hot(), headers, {})
    assert refusals.known(request()) is not None


LIKE = (
    request(),
    request(body=b"xyz"),
    request(body=b"other"),
    request(body=b""),
    request(headers=b"x-headgate-deadline-ms: 9\r\n"),
    request(body=request()),  # no request but a body
    b"\r\n" + request(),
    b"\r\n\r\n" + request(),
    request(b"/cold"),
    request(method=b"GET", body=b""),
    b"POST /hot HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
)


@given(
    st.lists(st.tuples(st.sampled_from(LIKE), st.booleans()), min_size=1, max_size=12),
    st.lists(st.integers(0, 2000), max_size=8),
)
def test_what_is_known_changes_no_answer(requests, cuts):
    """However the bytes of requests fall into reads, and whoever is refused."""
    answers = [asyncio.run(answered(requests, cuts, knows=knows)) for knows in (True, False)]
    assert answers[0] == answers[1]
    assert len(answers[0][0]) == len(requests)


async def answered(requests, cuts, *, knows):
    app = Hot()
    end = End(app)
    if not knows:
        app.refusals.keep = lambda *_: None
    told = []
    for each, pressed in requests:
        app.is_pressed = pressed
        places = sorted({0, len(each), *(cut % len(each) for cut in cuts)})
        pieces = [each[begin:stop] for begin, stop in itertools.pairwise(places)]
        told += await end.send(*pieces)
    end.protocol._unset_keepalive_if_required()
    return told, app.ran, app.asked


def turn(turns, began, *worked):
    """A turn that read at that time, and worked until those."""
    turns.begin(began)
    turns.promised_s += 0.1
    turns.end()
    for now in worked:
        turns.active = now


@pytest.mark.parametrize(
    ("turns_later", "rested", "waited"), [(1, False, True), (5, False, False), (1, True, False)]
)
def test_a_new_connection_had_to_wait_as_well(monkeypatch, turns_later, rested, waited):
    turns = Turns()
    monkeypatch.setattr("headgate.serving.launch.connections.TURNS", turns)

    async def scenario(app, end):
        now = asyncio.get_running_loop().time()
        turns.busy_since, turns.since, turns.count = now - 10, now - 1, 7
        end.protocol.opened = (now - 3, 7)
        turns._reading = True
        turns.count += turns_later
        if rested:
            turns.busy_since = turns.since = now - 1
        await end.send(request() * 2)
        first, second = app.since
        assert first == (now - 3 if waited else now - 1)
        assert second == now - 1

    run(scenario)


def test_a_loop_at_rest_reads_at_once():
    turns = Turns()
    turn(turns, 10.0, 10.001)
    assert turns.since == 10.0
    turn(turns, 10.5)
    assert turns.since == 10.5


def test_what_a_busy_loop_reads_may_have_waited_for_the_turn_before():
    turns = Turns()
    turn(turns, 10.0, 10.1, 10.3)
    turn(turns, 10.3, 10.31)
    assert turns.since == 10.0
    turn(turns, 10.311, 10.32)
    assert turns.since == 10.3
    # And after a rest, it is forgotten.
    turn(turns, 10.4)
    assert turns.since == 10.4
    assert turns.promised_s == 0.1


def test_a_turn_is_what_is_read_before_anything_is_answered():
    async def main():
        turns = Turns()
        loop = asyncio.get_running_loop()
        turns.read(loop)
        began = turns.began
        turns.read(loop)
        assert turns.began == began
        await asyncio.sleep(0)
        turns.read(loop)
        assert turns.began > began

    asyncio.run(main())


def test_a_tick_of_the_clock_is_no_wait():
    assert noticed(10.0, 10.001) == 10.001
    assert noticed(10.0, 10.1) == 10.0


def test_a_loop_that_a_thread_has_woken_has_looked_at_its_sockets():
    """The one client of a slow model asks again: its request has not waited for the call before it."""
    turns = Turns()
    began = monotonic()
    turns.begin(began)
    turns.end()
    turns.woken()
    assert turns.began == began  # the loop is still at work on what was read
    sleep(0.01)
    turns.woken()
    turns.active = now = monotonic()
    turns.begin(now)
    assert turns.since - began > 0.009
    turns.woken()
    assert turns.began == now
