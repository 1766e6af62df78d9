"""Defects of BentoML 1.4.39 that a Bento of ours does not have. One heading for each."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import weakref

import httpx
import numpy as np
import pandas as pd
import pytest
from predictor.factory import forest, table_frame, table_pipeline
from serving.asgi import make_root, serving_app
from serving.echo import make_echoes
from serving.held import held_app, limit

from headgate.predictor import Field

ECHO = "/v1/models/echo:predict"
TABLE = "/v1/models/late-flights:predict"
ROW = {"carrier": "UA", "distance": 1000, "wind": 5.5}
QUEUE = 6
BATCH = 4


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    root = make_echoes(
        tmp_path_factory.mktemp("held"), {"echo": (Field(name="x", dtype="float64"),)}
    )
    limits = limit(root, deadline_ms=15_000, max_batch_rows=BATCH, max_queue_rows=QUEUE)
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


@pytest.fixture(scope="module")
def models(tmp_path_factory, serving):
    with serving_app(make_root(tmp_path_factory.mktemp("models"))) as served:
        yield served


async def merged(asked, held, *bodies):
    """The answers to requests that wait together behind one that is held back."""
    with held.back():
        first = asyncio.create_task(asked.client.post(ECHO, json={"instances": [{"x": -1}]}))
        await held.waiting(asked, "echo", 0)
        tasks = [asyncio.create_task(asked.client.post(ECHO, **body)) for body in bodies]
        await held.waiting(asked, "echo", len(bodies))
    assert (await first).status_code == 200
    return [await task for task in tasks]


def one(value):
    return {"json": {"instances": [{"x": value}]}}


# A batch is only as healthy as its worst member.


def test_a_member_that_the_engine_cannot_take_fails_alone(asked, held):
    def unlucky(batch, outputs):
        if 13 in batch["x"]:
            raise ValueError("unlucky")
        return outputs

    held.spoil = unlucky
    answers = asked.run(merged(asked, held, one(1), one(2), one(13), one(4)))
    assert held.calls[:2] == [1, 4]
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert [answers[index].json()["predictions"] for index in (0, 1, 3)] == [[1.0], [2.0], [4.0]]
    assert "ValueError: unlucky" in answers[2].json()["error"]


@pytest.mark.parametrize(
    "bad", ["null", "[]", '{"instances":[{"x":"nan"}]}', '{"instances":[{}]}', ""]
)
def test_a_member_that_is_invalid_never_gets_into_a_batch(asked, held, bad):
    async def main():
        with held.back():
            first = asyncio.create_task(asked.client.post(ECHO, **one(0)))
            await held.waiting(asked, "echo", 0)
            good = [asyncio.create_task(asked.client.post(ECHO, **one(n))) for n in range(3)]
            refused = await asked.client.post(ECHO, content=bad)
            await held.waiting(asked, "echo", 3)
        return refused, [await task for task in (first, *good)]

    refused, answers = asked.run(main())
    assert refused.status_code == 400
    assert held.calls == [1, 3]
    assert [answer.json()["predictions"] for answer in answers] == [[0.0], [0.0], [1.0], [2.0]]


def test_rows_that_an_engine_loses_are_nobody_else_s(asked, held):
    held.spoil = lambda _, outputs: {name: array[1:] for name, array in outputs.items()}
    answer = asked.run(asked.client.post(ECHO, **one(1)))
    assert answer.status_code == 500
    assert "0 rows of x_out for 1 rows of input" in answer.json()["error"]


# Context, headers and trace id in a batch are those of the worker's first request.


def test_every_request_of_a_batch_has_its_own_trace(tmp_path, monkeypatch):
    from bentoml._internal.configuration.containers import BentoMLContainer
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    config = {"services": {"headgate": {"tracing": {"sample_rate": 1.0}}}}
    monkeypatch.setenv("BENTOML_CONFIG_OVERRIDES", json.dumps(config))
    root = make_echoes(tmp_path, {"echo": (Field(name="x", dtype="float64"),)})
    traces = [f"4bf92f3577b34da6a3ce929d0e0e47{number:02x}" for number in range(4)]
    BentoMLContainer.tracer_provider.set(provider)
    try:
        with held_app(root) as (asked, held):
            bodies = [
                {**one(n), "headers": {"traceparent": f"00-{traces[n]}-00f067aa0ba902b7-01"}}
                for n in range(4)
            ]
            answers = asked.run(merged(asked, held, *bodies))
            assert held.calls == [1, 4]
    finally:
        BentoMLContainer.tracer_provider.reset()
    assert [answer.json()["predictions"] for answer in answers] == [[0.0], [1.0], [2.0], [3.0]]
    spans = [span for span in exporter.get_finished_spans() if span.parent is not None]
    assert {f"{span.context.trace_id:032x}" for span in spans} >= set(traces)


# Data frames hang the worker for good; tensors arrive as lists.


def test_data_frames_and_arrays_are_answered_from_many_at_once(models):
    frame, labels = table_frame()
    pipeline = table_pipeline().fit(frame, labels)
    trees, x, _ = forest()
    chunks = [frame.iloc[start : start + 20] for start in range(0, len(frame), 20)]
    requests = [
        models.client.post(TABLE, content=f'{{"instances": {chunk.to_json(orient="records")}}}')
        for chunk in chunks
    ]
    arrays = [x[start : start + 10] for start in range(0, 200, 10)]
    for array in arrays:
        tensor = {"name": "x", "datatype": "FP32", "shape": list(array.shape)}
        body = {"inputs": [{**tensor, "data": array.ravel().tolist()}]}
        requests.append(models.client.post("/v2/models/breast-cancer/infer", json=body))
    answers = models.all(*requests)
    for chunk, answer in zip(chunks, answers, strict=False):
        found = [each["probabilities"] for each in answer.json()["predictions"]]
        assert np.allclose(found, pipeline.predict_proba(chunk), atol=1e-5)
    for array, answer in zip(arrays, answers[len(chunks) :], strict=True):
        label = next(each for each in answer.json()["outputs"] if each["name"] == "label")
        assert label["data"] == trees.predict(array).tolist()


def test_a_data_frame_sent_as_python_prints_it_is_refused(models):
    frame = pd.DataFrame([{**ROW, "wind": np.nan}])
    body = json.dumps({"instances": frame.to_dict("records")})
    assert "NaN" in body
    answer = models.post(TABLE, content=body)
    assert answer.status_code == 400
    assert answer.json()["remedy"] == "send valid JSON in UTF-8; null, not NaN, is missing"


# The queue has no bound, and drops the oldest with a bare 503.


def test_the_queue_is_bounded_and_keeps_whom_it_took(asked, held):
    async def main():
        with held.back():
            first = asyncio.create_task(asked.client.post(ECHO, **one(-1)))
            await held.waiting(asked, "echo", 0)
            taken = [asyncio.create_task(asked.client.post(ECHO, **one(n))) for n in range(QUEUE)]
            await held.waiting(asked, "echo", QUEUE)
            shed = await asyncio.gather(*(asked.client.post(ECHO, **one(9)) for _ in range(50)))
            assert asked.worker.models["echo"].batcher.queued_rows == QUEUE
            assert not any(task.done() for task in (first, *taken))
        return [await task for task in (first, *taken)], shed

    taken, shed = asked.run(main())
    assert [answer.json()["predictions"] for answer in taken] == [
        [float(n)] for n in range(-1, QUEUE)
    ]
    assert max(held.calls) <= BATCH
    for answer in shed:
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json() == {
            "error": f"{QUEUE} rows wait already, {QUEUE} may",
            "where": "echo",
            "remedy": "try again later",
        }


# A dependency service accepts pickled bodies.


@pytest.mark.parametrize("is_main", [True, False])
def test_nothing_is_ever_unpickled(tmp_path, is_main):
    mark = tmp_path / "opened"

    class Bomb:
        def __reduce__(self):
            return (mark.touch, ())

    kind = {"content-type": "application/vnd.bentoml+pickle"}
    with serving_app(make_root(tmp_path / "bundle"), is_main=is_main) as served:
        for path in (TABLE, "/v2/models/late-flights/infer", "/late_flights", "/late_flights/"):
            answer = served.post(path, content=pickle.dumps(Bomb()), headers=kind)
            assert answer.status_code == 415
            assert answer.headers["content-type"] == "application/json"
    assert not mark.exists()


# A timer of 60 s is left behind by every request, and keeps all of it alive.


class Marked:
    """Somebody's request."""


@pytest.mark.parametrize(
    "path", [TABLE, "/late_flights", "/schema.json", "/docs.json", "/", "/nothing"]
)
def test_a_request_that_is_over_leaves_nothing_behind(models, path):
    marks = []

    async def app(scope, receive, send):
        mark = Marked()
        marks.append(weakref.ref(mark))
        await models.app({**scope, "extensions": {"mark": mark}}, receive, send)

    async def main():
        loop = asyncio.get_running_loop()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            before = pending(loop)
            for _ in range(100):
                if path in {TABLE, "/late_flights"}:
                    await client.post(path, json={"instances": [ROW]})
                else:
                    await client.get(path)
            return pending(loop) - before

    def pending(loop):
        return sum(not timer.cancelled() for timer in loop._scheduled)

    # The worker's second and its parity check, and the sweep and the linger of the model's queue,
    # however many requests there were.
    assert models.run(main()) <= 4
    gc.collect()
    assert [mark() for mark in marks if mark() is not None] == []


# Full collections walk all that was loaded.


def test_what_is_loaded_is_out_of_the_way_of_garbage_collection(tmp_path):
    gc.unfreeze()
    with serving_app(make_root(tmp_path, kinds=("table",))) as served:
        assert gc.get_freeze_count() > 10_000
        assert served.get("/readyz").status_code == 200
        walked = len(gc.get_objects())
        assert walked < gc.get_freeze_count()
    assert gc.get_freeze_count() == 0
