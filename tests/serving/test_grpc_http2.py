"""HTTP/2 beneath gRPC: what a client may do, and what becomes of one that breaks the rules."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import h2.settings
import pytest
from grpc import StatusCode
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from predictor.factory import forest
from serving.asgi import make_root
from serving.grpc_server import channel, grpc_server, request, row, unary
from serving.h2_client import INFER, READY, SERVICE, connected
from serving.tiny import until

from headgate.serving.grpc import connection as connection_module
from headgate.serving.grpc import patience
from headgate.serving.grpc.call import WINDOW
from headgate.serving.grpc.frames import PREFACE, ErrorCode, Kind, frame
from headgate.serving.grpc.framing import prefixed
from headgate.serving.grpc.headers import HEADER_BYTES, Malformed, Reader
from headgate.serving.grpc.messages import message
from headgate.serving.grpc.streaming import StreamingCall
from headgate.serving.launch import connections

_, X, _ = forest()
ROWS = X.repeat(12, axis=0)  # 54 kB of probabilities
LARGE = request(
    "breast-cancer",
    inputs=[{"name": "x", "datatype": "FP32", "shape": ROWS.shape}],
    raw_input_contents=[ROWS.tobytes()],
).SerializeToString()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with grpc_server(make_root(tmp_path_factory.mktemp("http2"))) as served:
        trouble = []
        served.run(lambda: served.loop.set_exception_handler(lambda _, what: trouble.append(what)))
        yield served
        assert trouble == []


@pytest.fixture
def client(served):
    with connected(served.port) as client:
        yield client


@pytest.fixture(autouse=True)
def nobody_is_harmed(served):
    """Whatever one client does, another is answered."""
    yield
    with connected(served.port) as other:
        assert other.call(INFER, row().SerializeToString()).status == 0


def is_live(told):
    return told.status == 0 and told.data == b"\0\0\0\0\2\x08\1"


def fields(stream, headers, flags=0x5):
    return frame(Kind.HEADERS, flags, stream, Encoder().encode(headers))


def test_a_call_and_its_answer(client):
    told = client.call()
    assert is_live(told)
    assert told.headers[":status"] == "200"
    assert told.headers["content-type"] == "application/grpc"
    assert told.headers["grpc-accept-encoding"] == "identity,deflate,gzip"


def test_a_message_may_come_in_as_many_pieces_as_one_likes(client):
    content = prefixed(row().SerializeToString())
    stream = client.begin(INFER)
    for index in range(len(content)):
        client.h2.send_data(stream, content[index : index + 1], pad_length=index % 7 or None)
    client.h2.end_stream(stream)
    client.flush()
    assert client.until_ended(stream).status == 0


def test_the_end_may_come_with_headers_of_its_own(client):
    stream = client.begin()
    client.send(stream, prefixed(b""), end=False)
    client.h2.send_headers(stream, [("x-checksum", "1")], end_stream=True)
    client.flush()
    assert is_live(client.until_ended(stream))


def test_headers_may_be_long_continued_padded_and_prioritised(client):
    client.h2.max_outbound_frame_size = 100
    stream = client.begin(x_long="y" * 3000)
    client.send(stream, prefixed(b""))
    assert is_live(client.until_ended(stream))
    block = Encoder().encode(client.headers())
    padded = b"\3" + struct.pack(">LB", 0, 200) + block + b"\0\0\0"
    client.raw(frame(Kind.HEADERS, 0x4 | 0x8 | 0x20, stream + 2, padded))
    client.told[stream + 2] = client.told[stream].__class__()
    client.h2.streams.clear()
    client.raw(frame(Kind.DATA, 0x8 | 0x1, stream + 2, b"\2" + prefixed(b"") + b"\0\0"))
    received = client.sock.recv(65536)
    assert b"grpc-status\x010" in received


@pytest.mark.parametrize("window", [1, 100, 16_384, 65_535])
def test_an_answer_keeps_to_the_windows_of_its_client(served, window):
    if window == 1:
        content, rows = row().SerializeToString(), 1
    else:
        content, rows = LARGE, len(ROWS)
    with connected(served.port, INITIAL_WINDOW_SIZE=window) as client:
        told = client.call(INFER, content)
        assert told.status == 0
        answer = message("inference.ModelInferResponse").FromString(told.data[5:])
        assert answer.outputs[1].shape == [rows, 2]


def test_a_window_that_grows_by_a_setting_counts_for_the_calls_under_way(served):
    with connected(served.port, INITIAL_WINDOW_SIZE=0) as client:
        stream = client.begin(INFER)
        client.send(stream, prefixed(row().SerializeToString()))
        client.until(lambda: client.told[stream].headers)
        assert not client.told[stream].data
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
        client.flush()
        assert client.until_ended(stream).status == 0


def test_the_largest_frame_is_the_clients_to_say(served):
    with connected(served.port, MAX_FRAME_SIZE=1 << 20, INITIAL_WINDOW_SIZE=1 << 20) as client:
        client.h2.increment_flow_control_window(1 << 20)
        client.flush()
        assert client.call(INFER, LARGE).status == 0


def test_a_client_without_a_table_of_headers_is_told_that_it_stays_empty(served):
    with connected(served.port, HEADER_TABLE_SIZE=0) as client:
        for _ in range(3):
            assert is_live(client.call())


def test_the_same_bytes_mean_something_else_once_the_table_has_changed(client):
    """What is remembered of headers is forgotten in time."""
    for path in (READY, f"/{SERVICE}/ServerReady", READY) * 3:
        for extra in ("a", "b"):
            told = client.call(path, x_extra=extra)
            assert told.status == 0
    assert client.call(f"/{SERVICE}/Nothing").status == StatusCode.UNIMPLEMENTED.value[0]
    assert is_live(client.call())


def test_headers_at_the_end_of_a_call_count_for_the_table_too():
    """Also where nobody reads them, later blocks refer to what they put in."""
    encoder, reader = Encoder(), Reader()
    blocks = [encoder.encode(CALL) for _ in range(2)]
    assert [reader.read(block).path for block in blocks * 2] == [READY] * 4
    reader.skip(encoder.encode([("x-checksum", "1")]))
    other = [*CALL[:2], (":path", "/other"), CALL[3]]
    for headers, path in ((CALL, READY), (other, "/other"), (CALL, READY), (other, "/other")):
        assert reader.read(encoder.encode(headers)).path == path
    # The very bytes that were remembered mean something else by now.
    with contextlib.suppress(Malformed):
        assert reader.read(blocks[1]).path != READY


paths = st.sampled_from(["/a", "/b", "/c" * 900])
extras = st.dictionaries(st.sampled_from(["x", "y", "z"]), st.sampled_from(["1", "2", "3" * 500]))


@given(st.lists(st.tuples(paths, extras, st.booleans(), st.sampled_from([None, 0, 100, 4096]))))
def test_what_is_remembered_of_headers_is_what_they_say(requests):
    encoder, reader = Encoder(), Reader()
    for path, more, needed, table in requests * 2:
        if table is not None:
            encoder.header_table_size = table
        block = encoder.encode([*CALL[:2], (":path", path), CALL[3], *more.items()])
        if needed:
            assert reader.read(block).path == path
        else:
            reader.skip(block)


def test_pings_are_answered_and_what_is_unknown_is_ignored(client):
    client.raw(frame(Kind.PRIORITY, 0, 5, b"\0\0\0\0\1"))
    client.raw(frame(0xFA, 0xFF, 7, b"of a later version"))
    client.raw(frame(Kind.SETTINGS, 0, 0, struct.pack(">HL", 0xFE03, 1)))
    client.h2.ping(b"12345678")
    client.flush()
    assert is_live(client.call())


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({":method": "GET"}, "405"),
        ({"content-type": "application/json"}, "415"),
        ({"content-type": None}, "415"),
        ({"content-type": "application/grpcx"}, "415"),
    ],
)
def test_what_is_no_call_gets_a_status_of_http(client, changes, status):
    told = client.call(**changes)
    assert (told.headers, told.data) == ({":status": status}, b"")
    assert is_live(client.call())


@pytest.mark.parametrize("kind", ["application/grpc+proto", "application/grpc;charset=utf-8"])
def test_kinds_of_grpc(client, kind):
    assert is_live(client.call(content_type=kind))


@pytest.mark.parametrize("timeout", ["", "1", "S", "-1S", "123456789S", "1x", "1.5S", "٣S"])
def test_a_deadline_that_is_no_time(client, timeout):
    told = client.call(INFER, row().SerializeToString(), grpc_timeout=timeout.encode("utf-8"))
    assert told.status == StatusCode.INVALID_ARGUMENT.value[0]
    assert "grpc-timeout: " in told.text
    assert is_live(client.call(grpc_timeout="1H"))


@pytest.mark.parametrize("timeout", ["99999999H", "5000000u", "1S"])
def test_a_deadline_that_is_one(client, timeout):
    assert client.call(INFER, row().SerializeToString(), grpc_timeout=timeout).status == 0


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", "UNIMPLEMENTED", "no message"),
        (prefixed(b"") * 2, "UNIMPLEMENTED", "more than one message"),
        (prefixed(b"abc")[:-1], "INVALID_ARGUMENT", "it ends within a message, after 7 bytes"),
        (b"\0\0", "INVALID_ARGUMENT", "it ends within a message, after 2 bytes"),
        (b"\0\xff\xff\xff\xff", "RESOURCE_EXHAUSTED", "4294967295 bytes"),
        (b"\7" + prefixed(b"")[1:], "INVALID_ARGUMENT", "7 is no flag of a message"),
        (b"\1\0\0\0\1x", "UNIMPLEMENTED", "'identity' is not understood"),
    ],
)
def test_messages_that_are_none(client, content, status, says):
    stream = client.begin(INFER)
    client.send(stream, content)
    told = client.until_ended(stream)
    assert (told.status, says in told.text) == (getattr(StatusCode, status).value[0], True)
    assert is_live(client.call())


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("br", "'br' is not understood"),
        ("gzip", "cannot be decompressed"),
        ("deflate", "cannot be"),
    ],
)
def test_what_cannot_be_decompressed(client, encoding, says):
    stream = client.begin(INFER, grpc_encoding=encoding)
    client.send(stream, b"\1\0\0\0\3xyz")
    told = client.until_ended(stream)
    assert says in told.text


def test_more_calls_than_there_may_be_can_be_made_again(served, monkeypatch):
    monkeypatch.setattr(connection_module, "MOST_CALLS", 3)
    with connected(served.port) as client:
        streams = [client.begin() for _ in range(5)]
        client.until(lambda: client.told[streams[4]].reset is not None)
        resets = [client.told[stream].reset for stream in streams]
        assert resets == [None] * 3 + [ErrorCode.REFUSED_STREAM] * 2
        for stream in streams[:3]:
            client.send(stream, prefixed(b""))
        assert all(is_live(client.until_ended(stream)) for stream in streams[:3])
        assert is_live(client.call())


def test_a_call_that_is_reset_leaves_nothing(served, client):
    stream = client.begin(INFER)
    client.send(stream, prefixed(LARGE)[:5000], end=False)
    client.h2.reset_stream(stream)
    client.flush()
    assert is_live(client.call())
    assert all(not each.calls and not each._held for each in served.server.connections)


def test_too_much_on_its_way_at_once_is_refused(served):
    limit = served.worker.max_body
    with connected(served.port) as client:
        half = b"\0" + limit.to_bytes(4, "big")
        streams = [client.begin(INFER) for _ in range(8)]
        until_received(served, 8)
        (ours,) = [each for each in served.server.connections if each.calls]
        served.run(lambda: setattr(ours, "_max_held", 100_000))
        for stream in streams:
            client.send(stream, half + b"x" * 15_000, end=False)
        client.until(lambda: any(client.told[stream].ended for stream in streams))
        failed = [client.told[stream] for stream in streams if client.told[stream].ended]
        assert {told.status for told in failed} == {StatusCode.RESOURCE_EXHAUSTED.value[0]}
        assert "too much is on its way" in failed[0].text
        assert is_live(client.call())


CALL = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", READY),
    ("content-type", "application/grpc"),
]
MALFORMED = {
    "upper case": [*CALL, ("X-Upper", "1")],
    "a header of HTTP/1": [*CALL, ("connection", "close")],
    "no path": CALL[:2],
    "an empty path": [*CALL[:2], (":path", "")],
    "no method": CALL[1:],
    "a pseudo-header that there is not": [*CALL[:3], (":version", "2")],
    "a pseudo-header after the others": [*CALL, (":authority", "x")],
    "a pseudo-header twice": [CALL[0], *CALL],
    "nothing": [],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_headers_that_are_no_request_reset_their_stream_alone(client, what):
    client.raw(fields(1, MALFORMED[what]))
    assert frame(Kind.RST_STREAM, 0, 1, bytes((0, 0, 0, ErrorCode.PROTOCOL_ERROR))) in until_quiet(
        client
    )
    client.raw(fields(3, CALL, 0x4) + frame(Kind.DATA, 1, 3, prefixed(b"")))
    assert b"grpc-status\x010" in client.sock.recv(65536)


def until_quiet(client):
    """All that is sent until a ping is answered."""
    client.raw(frame(Kind.PING, 0, 0, b"is quiet"))
    received = b""
    while frame(Kind.PING, 1, 0, b"is quiet") not in received:
        data = client.sock.recv(65536)
        assert data
        received += data
    return received


NOTHING = struct.pack(">L", 0)
FAULTS = {
    "no preface": (None, b"\0" * 40, None),
    "HTTP/1.1": (None, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", None),
    "a frame that is too large": (ErrorCode.FRAME_SIZE_ERROR, b"\xff\xff\xff\0\0\0\0\0\1", None),
    "a ping of 7 bytes": (ErrorCode.FRAME_SIZE_ERROR, frame(Kind.PING, 0, 0, b"x" * 7), None),
    "settings of 5 bytes": (ErrorCode.FRAME_SIZE_ERROR, frame(Kind.SETTINGS, 0, 0, b"x" * 5), None),
    "settings of a stream": (ErrorCode.PROTOCOL_ERROR, frame(Kind.SETTINGS, 0, 1), None),
    "a ping of a stream": (ErrorCode.PROTOCOL_ERROR, frame(Kind.PING, 0, 1, b"x" * 8), None),
    "a farewell of a stream": (ErrorCode.PROTOCOL_ERROR, frame(Kind.GOAWAY, 0, 1, b"x" * 8), None),
    "a window that is too large": (
        ErrorCode.FLOW_CONTROL_ERROR,
        frame(Kind.SETTINGS, 0, 0, struct.pack(">HL", 4, 2**31)),
        None,
    ),
    "frames that are too small": (
        ErrorCode.PROTOCOL_ERROR,
        frame(Kind.SETTINGS, 0, 0, struct.pack(">HL", 5, 100)),
        None,
    ),
    "push that is 2": (
        ErrorCode.PROTOCOL_ERROR,
        frame(Kind.SETTINGS, 0, 0, struct.pack(">HL", 2, 2)),
        None,
    ),
    "leave for nothing": (ErrorCode.PROTOCOL_ERROR, frame(Kind.WINDOW_UPDATE, 0, 0, NOTHING), None),
    "more leave than there is": (
        ErrorCode.FLOW_CONTROL_ERROR,
        frame(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">L", 2**31 - 1)) * 2,
        None,
    ),
    "data without headers": (ErrorCode.PROTOCOL_ERROR, frame(Kind.DATA, 1, 1, b"x"), None),
    "a reset without headers": (
        ErrorCode.PROTOCOL_ERROR,
        frame(Kind.RST_STREAM, 0, 1, NOTHING),
        None,
    ),
    "leave without headers": (
        ErrorCode.PROTOCOL_ERROR,
        frame(Kind.WINDOW_UPDATE, 0, 1, NOTHING),
        None,
    ),
    "a stream of the server's": (ErrorCode.PROTOCOL_ERROR, fields(2, CALL), None),
    "a stream 0": (ErrorCode.PROTOCOL_ERROR, fields(0, CALL), None),
    "a promise": (ErrorCode.PROTOCOL_ERROR, frame(Kind.PUSH_PROMISE, 4, 1, b"x" * 8), None),
    "nothing to continue": (ErrorCode.PROTOCOL_ERROR, frame(Kind.CONTINUATION, 4, 1), None),
    "headers that are interrupted": (
        ErrorCode.PROTOCOL_ERROR,
        fields(1, CALL, 0) + frame(Kind.PING, 0, 0, b"x" * 8),
        None,
    ),
    "headers that are continued on another stream": (
        ErrorCode.PROTOCOL_ERROR,
        fields(1, CALL, 0) + frame(Kind.CONTINUATION, 4, 3),
        None,
    ),
    "headers without end": (
        ErrorCode.ENHANCE_YOUR_CALM,
        fields(1, CALL, 0) + frame(Kind.CONTINUATION, 0, 1, b"\0" * 16_000) * 3,
        None,
    ),
    "headers that cannot be read": (
        ErrorCode.COMPRESSION_ERROR,
        frame(Kind.HEADERS, 5, 1, b"\xff\xff\xff\xff\xff"),
        None,
    ),
    "headers that unfold": (
        ErrorCode.COMPRESSION_ERROR,
        # A name and value of 4 kB put into the table, then referred to a hundred times.
        frame(
            Kind.HEADERS,
            5,
            1,
            b"\x40\x01a\x7f\x91\x1f" + b"x" * (127 + 0x11 + 0x1F * 128) + b"\xbe" * 100,
        ),
        None,
    ),
    "padding without end": (ErrorCode.PROTOCOL_ERROR, frame(Kind.DATA, 0x8, 1, b"\xff"), None),
}


@pytest.mark.parametrize("what", FAULTS)
def test_whoever_breaks_the_rules_is_told_and_let_go(served, what):
    code, content, _ = FAULTS[what]
    with connected(served.port) as client:
        if code is None:
            client.sock.close()
            client.sock = socket.create_connection(("127.0.0.1", served.port), timeout=10)
            client.raw(content)
            received = b""
            while data := client.sock.recv(65536):
                received += data
            assert received.startswith(b"HTTP/1.1 400 Bad Request")
            assert b"This port speaks gRPC" in received
            return
        client.raw(content)
        client.until_closed()
        assert client.gone is not None
        assert client.gone[1] == code


def test_more_data_than_there_was_leave_for(client, monkeypatch):
    monkeypatch.setattr(StreamingCall, "full", True)
    stream = client.begin(f"/{SERVICE}/ModelStreamInfer")
    client.send(stream, b"\0\x00\xff\xff\xff" + b"x" * (WINDOW - 5), end=False)
    client.raw(frame(Kind.DATA, 0, stream, b"x"))
    client.until_ended(stream)
    assert client.told[stream].reset == ErrorCode.FLOW_CONTROL_ERROR


def test_a_stream_gets_no_more_leave_while_its_messages_wait(served, client):
    """And gets it again, so that nothing of it is lost."""
    stream = client.begin(f"/{SERVICE}/ModelStreamInfer")
    content = prefixed(row(id="x" * 1000).SerializeToString())
    for _ in range(1500):
        client.send(stream, content, end=False)
    client.h2.end_stream(stream)
    client.flush()
    told = client.until_ended(stream)
    assert told.status == 0
    assert told.data.count(b"x" * 1000) == 1500


def test_whoever_says_nothing_too_often_is_let_go(served, client, monkeypatch):
    monkeypatch.setattr(patience, "NUISANCES", 500)
    for _ in range(600):
        client.raw(frame(Kind.PING, 0, 0, b"flooding"))
    until_quiet(client)
    served.run(served.server.look)
    client.until_closed()
    assert client.gone == (0, ErrorCode.ENHANCE_YOUR_CALM)


def test_whoever_resets_all_that_he_asks_is_let_go(served, client, monkeypatch):
    monkeypatch.setattr(patience, "NUISANCES", 500)
    for index in range(300):
        stream = 2 * index + 1
        client.raw(fields(stream, CALL, 0x4) + frame(Kind.RST_STREAM, 0, stream, b"\0\0\0\x08") * 2)
    until_quiet(client)
    served.run(served.server.look)
    client.until_closed()
    assert client.gone is not None
    assert client.gone[1] == ErrorCode.ENHANCE_YOUR_CALM


def aged(served, monkeypatch, seconds=100.0):
    """Look at every connection as if so much time had passed."""
    monkeypatch.setattr(
        "headgate.serving.grpc.server.monotonic", lambda: time.monotonic() + seconds
    )
    served.run(served.server.look)
    monkeypatch.undo()


def test_a_client_that_does_not_say_what_it_speaks_is_let_go(served, monkeypatch):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as silent:
        silent.sendall(PREFACE[:10])
        until(lambda: any(not each.greeted for each in served.server.connections), 5)
        aged(served, monkeypatch, connections.HEADER_S + 1)
        while silent.recv(65536):
            pass


def test_headers_and_messages_that_do_not_come_are_not_waited_for(served, client, monkeypatch):
    half = client.begin(INFER)
    client.send(half, b"\0\0\0\1\0abc", end=False)
    whole = client.begin(f"/{SERVICE}/ModelStreamInfer")
    until_received(served, 2)
    aged(served, monkeypatch, connections.BODY_S + 1)
    told = client.until_ended(half)
    assert told.status == StatusCode.DEADLINE_EXCEEDED.value[0]
    assert "bytes a second" in told.text
    assert not client.told[whole].ended
    client.raw(fields(5, CALL, 0))
    until(lambda: any(each.partial_since for each in served.server.connections), 5)
    aged(served, monkeypatch, connections.HEADER_S + 1)
    client.until_closed()


def until_received(served, calls):
    until(lambda: any(len(each.calls) == calls for each in served.server.connections), 5)


def test_an_answer_that_is_not_taken_is_given_up(served, monkeypatch):
    with connected(served.port, INITIAL_WINDOW_SIZE=0) as client:
        stream = client.begin(INFER)
        client.send(stream, prefixed(row().SerializeToString()))
        client.until(lambda: client.told[stream].headers)
        aged(served, monkeypatch, connections.ANSWER_S + 1)
        client.until_ended(stream)
        assert client.told[stream].reset == ErrorCode.CANCEL


def test_a_client_that_does_not_read_is_let_go(served, monkeypatch):
    package = "grpc.reflection.v1"
    asked = message(f"{package}.ServerReflectionRequest")(file_containing_symbol=SERVICE)
    with connected(served.port, INITIAL_WINDOW_SIZE=2**31 - 1) as client:
        client.raw(frame(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">L", 2**31 - 1 - 65_535)))
        stream = client.begin(f"/{package}.ServerReflection/ServerReflectionInfo")
        # Each is answered with the whole file.
        content = prefixed(asked.SerializeToString()) * 100
        for _ in range(200):
            client.raw(frame(Kind.DATA, 0, stream, content))
        until(lambda: any(each.sender.paused_since for each in served.server.connections), 10)
        aged(served, monkeypatch, connections.ANSWER_S + 1)
        until(lambda: not any(each.sender.paused_since for each in served.server.connections), 5)


def test_a_silent_client_is_asked_and_a_dead_one_let_go(served, client, monkeypatch):
    assert is_live(client.call())
    aged(served, monkeypatch, patience.SILENT_S + 1)
    assert is_live(client.call())  # h2 has answered the ping
    aged(served, monkeypatch, patience.SILENT_S + patience.ANSWER_S + 1)
    client.until_closed()


def test_a_client_that_is_sent_away_loses_nothing(served, client):
    assert is_live(client.call())
    under_way = client.begin()
    until_received(served, 1)
    (connection,) = [each for each in served.server.connections if each.calls]
    served.run(connection.go_away)
    served.run(connection.go_away)
    on_its_way = client.begin()  # sent before the farewell was read
    client.send(on_its_way, prefixed(b""))
    assert is_live(client.until_ended(on_its_way))
    client.until(lambda: len(client.farewells) == 2)
    assert client.farewells == [2**31 - 1, on_its_way]
    too_late = client.begin()
    client.send(too_late, prefixed(b""))
    client.until_ended(too_late)
    assert client.told[too_late].reset == ErrorCode.REFUSED_STREAM
    client.send(under_way, prefixed(b""))
    assert is_live(client.until_ended(under_way))
    client.until_closed()


def test_a_client_that_has_said_nothing_is_sent_away_once_it_has(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sock:
        until(lambda: any(not each.greeted for each in served.server.connections), 5)
        (silent,) = [each for each in served.server.connections if not each.greeted]
        served.run(silent.go_away)
        assert silent.leaving == 0
        sock.sendall(PREFACE + frame(Kind.SETTINGS, 0, 0))
        first = sock.recv(65536)
        assert first[3] == Kind.SETTINGS
        served.run(silent.go_away)
        until(lambda: silent.leaving == 1, 5)


def test_clients_that_grow_old_reconnect_and_lose_nothing(served):
    """Under load, with connections that last for a twentieth of a second."""
    served.run(lambda: setattr(served.server, "age_s", 0.05))
    try:
        with channel(served.address) as opened:
            infer = unary(opened, "ModelInfer")
            seen = set()
            end = time.monotonic() + 3
            answers = 0
            while time.monotonic() < end and len(seen) < 10:
                calls = [infer.future(row(id=str(index))) for index in range(50)]
                served.run(served.server.look)
                seen |= {id(each) for each in served.server.connections}
                for index, call in enumerate(calls):
                    assert call.result(10).id == str(index)
                answers += len(calls)
            assert len(seen) >= 5
            assert answers >= 250
    finally:
        served.run(lambda: setattr(served.server, "age_s", 60.0))


frames = st.builds(
    frame,
    st.integers(0, 255),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1, 2**32 - 1]),
    st.one_of(st.binary(max_size=40), st.just(Encoder().encode(CALL)), st.just(prefixed(b""))),
)


@settings(max_examples=150)
@given(st.booleans(), st.lists(st.one_of(frames, st.binary(max_size=60)), max_size=12))
def test_garbage_is_survived(served, greeted, pieces):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sock:
        content = (PREFACE if greeted else b"") + b"".join(pieces)
        try:
            sock.sendall(content)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass


def test_the_headers_that_are_read_are_bounded():
    assert HEADER_BYTES <= 65_536
