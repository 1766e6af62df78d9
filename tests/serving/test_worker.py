"""A worker: no answer before its models are known to be right, none after they are known wrong."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time

import numpy as np
import pytest
from predictor.factory import make_bundle
from serving.asgi import metric
from serving.simulated import outcomes
from serving.workers import bundle_at, worker_at

from headgate.errors import ArtifactError, ServingError
from headgate.serving import model as model_module
from headgate.serving.worker import Worker

TENSOR, TABLE = "breast-cancer", "late-flights"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle"))


async def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(1e-3)


def parity(kind, model=TENSOR):
    return metric(f"headgate_parity_{kind}_total", model=model)


def wrong_rows(*rows):
    def prepare(predictor):
        for row in rows:
            predictor.reference.outputs["probabilities"][row] += 0.25

    return prepare


def test_it_is_ready_from_start_to_stop_once_every_reference_row_was_replayed(root):
    async def main(worker):
        assert worker.whats_wrong() == "it is starting"
        await worker.start()
        assert worker.whats_wrong() is None
        worker.flush()
        assert metric("headgate_workers_ready") == 1
        for name in (TENSOR, TABLE):
            assert parity("rows", name) == 64
            assert parity("mismatches", name) == 0
            assert 0 < metric("headgate_model_load_seconds", model=name) < 60
        await worker.stop()
        assert worker.whats_wrong() == "it is starting"
        assert metric("headgate_workers_ready") == 0
        with pytest.raises(ServingError, match="being closed"):
            await ask(worker.models[TENSOR], 0, 1)
        assert worker.retired == []

    with worker_at(root) as worker:
        asyncio.run(main(worker))
        names = [thread.name for thread in threading.enumerate()]
        deadline = time.monotonic() + 5
        while "parity" in names and time.monotonic() < deadline:
            names = [thread.name for thread in threading.enumerate()]
        assert "parity" not in names


def test_it_says_what_it_serves(root):
    with worker_at(root) as worker:
        assert list(worker.models) == [TENSOR, TABLE]
        labels = {"model": TENSOR, "version": "1", "run_id": "0" * 32, "engine": "onnx"}
        assert metric("headgate_model_info", release="r:1", **labels) == 1
        assert worker.max_body == 16 * 1024 * 1024


def test_garbage_collection_is_out_of_the_way_while_it_serves(root):
    async def main(worker):
        before = gc.get_freeze_count()
        await worker.start()
        assert gc.get_freeze_count() > before
        assert sys.getswitchinterval() == pytest.approx(1e-3)
        await worker.stop()

    with worker_at(root) as worker:
        asyncio.run(main(worker))


def test_a_mismatch_keeps_it_from_being_ready_and_is_a_metric(root):
    async def main(worker):
        await worker.start()
        await until(lambda: worker.retired)
        trouble = worker.whats_wrong()
        assert trouble.startswith(f"{TENSOR} version 1: 2 of 64 reference rows are answered ")
        assert "by up to 0.25, 1e-05 allowed" in trouble
        worker.flush()
        worker.flush()
        assert parity("mismatches") == 2
        assert metric("headgate_workers_ready") == 0
        await worker.stop()
        assert worker.retired == [trouble]

    def prepare(predictor):
        if predictor.ref.name == TENSOR:
            wrong_rows(3, 40)(predictor)

    with worker_at(root, prepare=prepare) as worker:
        asyncio.run(main(worker))


def test_it_replays_rows_while_it_serves_and_a_mismatch_ends_its_being_ready(root):
    async def main(worker):
        engine = worker.engines[TABLE]
        before = len(engine.threads)
        await worker.start()
        await until(lambda: len(engine.threads) >= before + 10)
        assert set(engine.threads[before:]) == {"parity"}
        worker.flush()
        assert parity("rows", TABLE) >= 64 + 9 * 16
        assert worker.whats_wrong() is None
        engine.change = lambda outputs: {**outputs, "label": outputs["label"][::-1]}
        await until(lambda: worker.retired)
        engine.change = lambda outputs: outputs
        checked = parity("rows", TABLE)
        await until(lambda: worker.flush() or parity("rows", TABLE) > checked + 64)
        trouble = worker.whats_wrong()
        assert f"{TABLE} version 1: " in trouble
        assert parity("mismatches", TABLE) > 0
        assert parity("mismatches", TENSOR) == 0
        await worker.stop()
        assert len(worker.retired) == 1, "once wrong, wrong until it is restarted"

    with worker_at(root, server="parity_every_s = 0.005") as worker:
        asyncio.run(main(worker))


@pytest.mark.parametrize("error", [ValueError("out of memory"), SystemExit(3)])
def test_rows_that_cannot_be_replayed_are_mismatches(root, error):
    def fail(outputs):
        raise error

    async def main(worker):
        await worker.start()
        worker.engines[TENSOR].change = fail
        await until(lambda: worker.retired)
        assert "replaying reference rows failed: " in worker.retired[0]
        assert str(error) in worker.retired[0]
        worker.flush()
        assert parity("mismatches") >= 16
        assert parity("mismatches") % 16 == 0
        assert parity("rows") == 64 + parity("mismatches")
        await worker.stop()

    with worker_at(root, server="parity_every_s = 0.01") as worker:
        asyncio.run(main(worker))


def test_every_reference_row_is_replayed_in_the_end(root):
    async def check_each(model, lane):
        for row in range(40):
            await model.check(lane)
            assert model.whats_wrong() is None, row
        wrong_rows(39)(model.predictor)
        for _ in range(3):
            await model.check(lane)
        assert "1 of " in model.whats_wrong()

    def shorten(predictor):
        reference = predictor.reference.take(slice(0, 40))
        object.__setattr__(predictor, "reference", reference)

    with worker_at(root, prepare=shorten) as worker:
        asyncio.run(check_each(worker.models[TENSOR], worker._lane))
        worker.flush()
        # 16 at a time from 0, 16, 32 (8 are left), 8, 24 and so on.
        assert parity("mismatches") == 1


def test_without_reference_rows_it_is_ready_and_learns_from_requests(tmp_path):
    async def main(worker):
        await worker.start()
        model = worker.models[TENSOR]
        await model.check(worker._lane)
        assert worker.whats_wrong() is None
        assert not model.batcher.cost.known
        answer = await model.batcher.submit(
            {"x": np.zeros((1, 30), np.float32)}, 1, deadline=time.monotonic() + 20
        )
        assert answer.outputs["label"].shape == (1,)
        assert model.batcher.cost.known
        await worker.stop()

    def forget(predictor):
        object.__setattr__(predictor, "reference", None)

    with worker_at(make_bundle(tmp_path, ("tensor",)), prepare=forget) as worker:
        asyncio.run(main(worker))
        assert parity("rows") == 0


def test_an_altered_model_is_not_loaded(tmp_path):
    root = make_bundle(tmp_path, ("tensor",))
    model = root / ".headgate" / "bundle" / TENSOR / "model.onnx"
    model.write_bytes(model.read_bytes() + b" ")
    with bundle_at(root) as bundle, pytest.raises(ArtifactError, match=r"model\.onnx"):
        Worker(bundle, "r:1")


async def ask(model, start, rows):
    """Ask for reference rows and compare."""
    reference = model.predictor.reference.take(slice(start, start + rows))
    answer = await model.batcher.submit(reference.inputs, rows, deadline=time.monotonic() + 20)
    assert model.predictor.matches(answer.outputs, reference.outputs).all()
    return answer


@pytest.mark.parametrize("inline", [True, False])
def test_requests_of_all_sizes_at_once_get_their_own_rows(root, inline):
    async def main(worker):
        await worker.start()
        for model in worker.models.values():
            model.batcher._inline = inline
        generator = np.random.default_rng(1)
        asked = []
        for _ in range(100):
            model = worker.models[str(generator.choice([TENSOR, TABLE]))]
            rows = int(generator.integers(1, 12))
            asked.append(ask(model, int(generator.integers(0, 64 - rows)), rows))
        for result in await outcomes(asked):
            assert not isinstance(result, BaseException), result
        worker.flush()
        calls = metric("headgate_batch_rows_count")
        assert calls == metric("headgate_batch_seconds_count") > 0
        assert calls <= 100
        assert metric("headgate_queue_rows") == 0
        await worker.stop()

    with worker_at(root) as worker:
        asyncio.run(main(worker))


def test_a_call_that_hangs_makes_it_unfit(root, monkeypatch):
    monkeypatch.setattr(model_module, "STALL_S", 0.05)
    monkeypatch.setattr(model_module, "STALL_FACTOR", 0.0)
    gate = threading.Event()

    async def main(worker):
        await worker.start()
        model = worker.models[TENSOR]
        model.batcher._inline = False
        worker.engines[TENSOR].change = lambda outputs: gate.wait(20) and outputs
        task = asyncio.create_task(ask(model, 0, 1))
        await until(lambda: worker.retired)
        assert f"{TENSOR} version 1: a call has been running for " in worker.retired[0]
        gate.set()
        await task
        assert worker.whats_wrong() is None
        await worker.stop()

    with worker_at(root) as worker:
        asyncio.run(main(worker))
