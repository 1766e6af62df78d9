"""What becomes of one request, other requests beside it, when something goes wrong behind it."""

from __future__ import annotations

import asyncio
import json

import pytest
from serving.asgi import metric
from serving.echo import make_echoes
from serving.held import held_app, limit

from headgate.predictor import Field

PATHS = {
    "v1": "/v1/models/echo:predict",
    "typed": "/echo",
    "oip": "/v2/models/echo/infer",
}


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    root = make_echoes(
        tmp_path_factory.mktemp("endpoint"), {"echo": (Field(name="x", dtype="float64"),)}
    )
    limits = limit(root, deadline_ms=15_000, max_batch_rows=4, max_queue_rows=64)
    with held_app(limits) as (asked, held):
        yield asked, held


@pytest.fixture
def asked(serving):
    return serving[0]


@pytest.fixture
def held(serving):
    yield serving[1]
    serving[1].go.set()
    serving[1].spoil = lambda _, outputs: outputs


def body(surface, *values):
    if surface == "oip":
        tensor = {"name": "x", "datatype": "FP64", "shape": [len(values)], "data": values}
        return {"inputs": [tensor]}
    return {"instances": [{"x": value} for value in values]}


def values(surface, answer):
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return told["outputs"][0]["data"] if surface == "oip" else told["predictions"]


def message(surface, answer):
    told = answer.json()
    assert set(told) == ({"error"} if surface == "oip" else {"error", "where", "remedy"})
    return " ".join(told.values())


def post(asked, surface, *numbers, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asked.client.post(PATHS[surface], json=body(surface, *numbers), headers=named)


def outcomes(asked, surface, outcome):
    asked.worker.flush()
    return metric("headgate_requests_total", surface=surface, outcome=outcome)


@pytest.mark.parametrize("surface", PATHS)
def test_a_fault_of_ours_is_told_without_its_insides(asked, surface, monkeypatch, caplog):
    before = outcomes(asked, surface, "internal")
    with monkeypatch.context() as patch:
        patch.setattr("headgate.serving.protocols.v1.Rows.decode", _fail)
        patch.setattr("headgate.serving.protocols.oip.Tensors.decode", _fail)
        answer = asked.run(post(asked, surface, 1))
    assert answer.status_code == 500
    assert message(surface, answer).strip().startswith("a fault of this server")
    assert "secret" not in answer.text
    assert answer.headers["x-headgate-release"] == "test:1"
    assert "secret" in caplog.text
    assert outcomes(asked, surface, "internal") == before + 1
    assert values(surface, asked.run(post(asked, surface, 1))) == [1.0]


def _fail(self, *args):
    raise LookupError("a secret")


@pytest.mark.parametrize("surface", PATHS)
def test_an_engine_that_fails_is_an_answer(asked, held, surface, caplog):
    def burn(batch, outputs):
        raise MemoryError("no room")

    before = outcomes(asked, surface, "engine")
    held.spoil = burn
    answer = asked.run(post(asked, surface, 1))
    assert answer.status_code == 500
    assert "MemoryError: no room" in message(surface, answer)
    assert "MemoryError: no room" in caplog.text
    assert outcomes(asked, surface, "engine") == before + 1
    held.spoil = lambda _, outputs: outputs
    assert values(surface, asked.run(post(asked, surface, 2))) == [2.0]


@pytest.mark.parametrize("surface", PATHS)
def test_a_deadline_is_of_one_request_alone(asked, held, surface):
    async def main():
        with held.back():
            patient = [asyncio.create_task(post(asked, surface, n)) for n in range(3)]
            hasty = await post(asked, surface, 9, x_headgate_deadline_ms="200")
            assert not any(task.done() for task in patient)
        return hasty, [await task for task in patient]

    hasty, patient = asked.run(main())
    assert hasty.status_code == 504
    assert hasty.headers["retry-after"] == "1"
    assert "X-Headgate-Deadline-Ms" in message(surface, hasty)
    assert [values(surface, answer) for answer in patient] == [[0.0], [1.0], [2.0]]


@pytest.mark.parametrize("surface", PATHS)
def test_a_deadline_that_cannot_be_met_is_said_at_once(asked, held, surface):
    asked.run(post(asked, surface, 1))

    async def main():
        with held.back():
            first = asyncio.create_task(post(asked, surface, 1))
            others = [asyncio.create_task(post(asked, surface, n)) for n in range(4)]
            await held.waiting(asked, "echo", 1)
            hopeless = await post(asked, surface, 9, x_headgate_deadline_ms="0.001")
        return hopeless, [await task for task in (first, *others)]

    hopeless, others = asked.run(main())
    assert hopeless.status_code in {503, 504}
    assert int(hopeless.headers["retry-after"]) >= 1
    assert {answer.status_code for answer in others} == {200}


@pytest.mark.parametrize("surface", PATHS)
def test_what_would_be_refused_is_not_even_parsed(asked, held, surface):
    async def nonsense(**headers):
        return await asked.client.post(PATHS[surface], content=b"{{ no JSON", headers=headers)

    async def main():
        with held.back():
            patient = [asyncio.create_task(post(asked, surface, n)) for n in range(9)]
            await held.waiting(asked, "echo", 1)
            hopeless = await nonsense(**{"x-headgate-deadline-ms": "0.001"})
            wrong = await nonsense()
        return hopeless, wrong, [await task for task in patient]

    asked.run(post(asked, surface, 1))
    before = outcomes(asked, surface, "overload")
    hopeless, wrong, patient = asked.run(main())
    assert hopeless.status_code == 503
    assert "X-Headgate-Deadline-Ms" in message(surface, hopeless)
    assert wrong.status_code == 400
    assert outcomes(asked, surface, "overload") == before + 1
    assert {answer.status_code for answer in patient} == {200}


@pytest.mark.parametrize("surface", PATHS)
def test_a_client_that_leaves_takes_nobody_with_it(asked, held, surface):
    before = outcomes(asked, surface, "gone")
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATHS[surface],
        "headers": [(b"content-length", b"1000")],
    }
    sent = []

    async def leaves():
        return {"type": "http.disconnect"}

    async def send(told):
        sent.append(told)

    async def main():
        with held.back():
            others = [asyncio.create_task(post(asked, surface, n)) for n in range(3)]
            await held.waiting(asked, "echo", 0)
            await asked.app(scope, leaves, send)
            gone = asyncio.create_task(post(asked, surface, 9))
            await held.waiting(asked, "echo", 1)
            gone.cancel()
            await asyncio.wait([gone])
        return [await task for task in others], gone.cancelled()

    others, cancelled = asked.run(main())
    assert [values(surface, answer) for answer in others] == [[0.0], [1.0], [2.0]]
    assert [sent[0]["status"], sent[1]["body"]] == [499, b""]
    assert cancelled
    assert outcomes(asked, surface, "gone") == before + 2


@pytest.mark.parametrize("surface", PATHS)
def test_what_a_request_took_is_told_to_prometheus(asked, held, surface):
    def counts():
        asked.worker.flush()
        return [
            metric("headgate_request_seconds_count", surface=surface),
            *(
                metric("headgate_request_phase_seconds_count", phase=phase)
                for phase in ("queue", "inference", "encode")
            ),
            metric("headgate_batch_rows_sum", model="echo"),
        ]

    before = counts()
    asked.run(post(asked, surface, 1, 2, 3))
    asked.run(post(asked, surface))
    assert [after - old for after, old in zip(counts(), before, strict=True)] == [2, 1, 1, 1, 3]


def test_an_answer_fits_the_request_however_many_there_are(asked, held):
    """Every surface, every size, all at once."""

    async def one(number):
        surface = list(PATHS)[number % 3]
        numbers = [number + index / 16 for index in range(1, 1 + number % 7)]
        async with gate:
            return numbers, surface, await post(asked, surface, *numbers)

    gate = asyncio.Semaphore(4)
    for numbers, surface, answer in asked.all(*(one(number) for number in range(120))):
        if not numbers:
            assert answer.status_code == 400
        else:
            assert values(surface, answer) == numbers


def test_json_of_an_answer_is_json(asked):
    answer = asked.run(post(asked, "v1", 0.1, -0.0, 1e-320))
    assert json.loads(answer.content)["predictions"] == [0.1, -0.0, 1e-320]
