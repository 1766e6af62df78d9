"""Rows of several requests go into one call, and everyone gets their own back."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import ServingError
from headgate.serving.merging import Part, call, call_async, join


def double(batch):
    if (batch["x"] < 0).any():
        raise ValueError("poison")
    return {"y": 2 * batch["x"], "z": batch["s"]}


async def double_elsewhere(batch):
    await asyncio.sleep(0)
    return double(batch)


def called(predict, parts):
    if asyncio.iscoroutinefunction(predict):
        return asyncio.run(call_async(predict, parts))
    return call(predict, parts)


here_and_there = pytest.mark.parametrize("predict", [double, double_elsewhere])


def part(first, rows, start=0, stop=None, *, wanted=True):
    x = np.arange(first, first + rows)
    batch = {"x": x, "s": np.array([f"row {i}" for i in x], dtype=object)}
    return Part(batch, start, rows if stop is None else stop, lambda: wanted)


@here_and_there
@given(
    st.lists(
        st.integers(1, 9).flatmap(
            lambda rows: st.tuples(st.just(rows), st.integers(0, rows - 1), st.integers(1, rows))
        ),
        min_size=1,
        max_size=8,
    )
)
def test_each_gets_its_own_rows(predict, sizes):
    parts = [
        part(100 * i, rows, min(start, stop - 1), stop)
        for i, (rows, start, stop) in enumerate(sizes)
    ]
    outcome = called(predict, parts)
    assert not outcome.failed
    assert outcome.rows == sum(each.stop - each.start for each in parts)
    assert outcome.seconds >= 0
    for each, result in zip(parts, outcome.results, strict=True):
        own = slice(each.start, each.stop)
        assert result["y"].tolist() == (2 * each.batch["x"][own]).tolist()
        assert result["z"].tolist() == each.batch["s"][own].tolist()


def test_a_whole_request_alone_is_not_copied():
    alone = part(0, 3)
    seen = []
    call(lambda batch: seen.append(batch) or double(batch), [alone])
    assert seen[0] is alone.batch


@here_and_there
def test_after_a_failure_each_is_run_apart_and_only_who_is_wanted(predict):
    parts = [part(0, 2), part(-5, 1), part(10, 2, wanted=False), part(20, 2)]
    outcome = called(predict, parts)
    assert outcome.failed
    assert outcome.rows == 7
    first, guilty, unwanted, last = outcome.results
    assert first["y"].tolist() == [0, 2]
    assert str(guilty) == "the model failed: ValueError: poison"
    assert isinstance(guilty.__cause__, ValueError)
    assert unwanted is None
    assert last["y"].tolist() == [40, 42]


@here_and_there
def test_alone_and_guilty(predict):
    outcome = called(predict, [part(-5, 1)])
    assert outcome.failed
    assert isinstance(outcome.results[0], ServingError)


def test_a_person_may_interrupt():
    def predict(batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(predict, [part(0, 1)])

    async def elsewhere(batch):
        predict(batch)

    # Driven by hand: an event loop would make a fuss of it.
    with pytest.raises(KeyboardInterrupt):
        call_async(elsewhere, [part(0, 1)]).send(None)


def test_cancelled_from_outside_it_is_cancelled():
    async def hangs(batch):
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(call_async(hangs, [part(0, 1), part(1, 1)]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_join():
    pieces = [{"y": np.arange(2), "z": np.array(["a", None], dtype=object)}]
    assert join(pieces) is pieces[0]
    joined = join([*pieces, {"y": np.arange(2, 4), "z": np.array(["b", "c"], dtype=object)}])
    assert joined["y"].tolist() == [0, 1, 2, 3]
    assert joined["z"].tolist() == ["a", None, "b", "c"]


@pytest.mark.parametrize("other", [{"z": np.zeros(2)}, {"y": np.zeros((2, 3))}])
def test_pieces_that_do_not_fit_together(other):
    with pytest.raises(ServingError, match="do not fit together"):
        join([{"y": np.zeros(2)}, other])
