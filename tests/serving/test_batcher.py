"""Who waits for whom in the batcher, and what it learns, in simulated time."""

from __future__ import annotations

import asyncio
import math

import pytest
from serving.simulated import outcomes, queued, simulated, ways

from headgate.errors import ServingError
from headgate.serving.batcher import Batcher


@ways
@simulated
async def test_a_request_alone_takes_as_long_as_the_engine(world, way):
    world.make(way)
    for _ in range(50):
        begun = world.clock.now
        answer = await world.ask()
        assert world.clock.now - begun == pytest.approx(world.engine.fixed, abs=1e-9)
        assert answer.queue_s == 0
        assert answer.inference_s == pytest.approx(world.engine.fixed, abs=1e-9)
    assert world.engine.sizes == [1] * 50
    world.assert_idle()


@queued
@simulated
async def test_one_that_is_alone_again_waits_for_the_others_once_at_most(world, way):
    world.make(way)
    await world.clients(8, 20)
    waits = [(await world.ask()).queue_s for _ in range(20)]
    assert max(waits) <= 0.1 * world.engine.fixed + 1e-9
    assert waits[1:] == [0] * 19


@queued
@simulated
async def test_what_comes_during_a_call_goes_together_in_the_next(world, way):
    world.make(way)
    first = world.asking()
    await asyncio.sleep(1e-3)
    others = [world.asking(rows) for rows in (1, 2, 3)]
    answers = await outcomes([first, *others])
    assert world.engine.sizes == [1, 6]
    assert answers[0].queue_s == 0
    for answer in answers[1:]:
        # The first call's other four milliseconds, and a moment for its client to come back.
        assert 4e-3 <= answer.queue_s <= 4.5e-3 + 1e-9
        assert answer.inference_s == pytest.approx(5e-3)


@queued
@simulated
async def test_more_clients_make_larger_batches(world, way):
    world.make(way)
    means = []
    for clients in (1, 2, 4, 8, 16, 32, 1):
        before = len(world.engine.calls)
        await world.clients(clients, 40)
        sizes = world.engine.sizes[before:]
        means.append(sum(sizes) / len(sizes))
    assert means[:6] == pytest.approx([1, 2, 4, 8, 16, 32], rel=0.15)
    assert means[6] == 1


@queued
@simulated
async def test_of_an_engine_that_nothing_is_known_of_it_learns_what_merging_saves(world, way):
    world.make(way, known=False)
    await world.clients(16, 20)
    assert world.engine.sizes[0] == 1
    assert world.engine.sizes[8:16] == [16] * 8
    cost = world.batcher.cost
    assert cost.fixed_s == pytest.approx(5e-3, rel=0.05)
    assert cost.per_row_s == pytest.approx(0, abs=1e-4)


@queued
@simulated
async def test_waiting_for_those_just_answered_raises_throughput(world, way, monkeypatch):
    world.make(way)
    await world.clients(16, 50)
    took = world.now
    monkeypatch.setattr(Batcher, "_lingers", lambda *_: False)
    begun = world.now
    await world.clients(16, 50)
    assert took < 0.6 * (world.now - begun)


@simulated
async def test_who_comes_back_as_the_waiting_ends_is_waited_for(world):
    world.make()
    await outcomes([world.asking(), world.asking()])
    first = world.asking()
    # As long as it waits, and then some turns of the event loop, as reading a socket takes.
    await asyncio.sleep(0.1 * world.engine.fixed)
    await asyncio.sleep(0)
    await outcomes([first, world.asking()])
    assert world.engine.sizes == [2, 2]


@queued
@pytest.mark.parametrize(("fixed", "per_row"), [(2e-3, 1e-3), (0.9e-3, 0.0)])
@simulated
async def test_nobody_waits_where_merging_saves_little(world, way, fixed, per_row):
    world.make(way, fixed=fixed, per_row=per_row, inline=False)
    await world.clients(8, 30)
    begins = [at for at, _ in world.engine.calls]
    ends = [at + fixed + per_row * len(rows) for at, rows in world.engine.calls]
    gaps = [begin - end for begin, end in zip(begins[1:], ends[:-1], strict=True)]
    # The engine rests only while nobody is there at all: at the start, and until one comes back.
    assert max(gaps[10:-10]) <= 50e-6 + 1e-9


@pytest.mark.parametrize(("target_s", "waits"), [(5.1e-3, False), (math.inf, True)])
@simulated
async def test_nobody_waits_beyond_the_latency_target(world, target_s, waits):
    world.make(target_s=target_s)
    await world.clients(16, 30)
    assert (max(world.engine.sizes) == 16) == waits


@simulated
async def test_nobody_waits_beyond_a_deadline(world):
    world.make()
    await world.clients(8, 10)
    answer = await world.ask(within=5.2e-3)
    assert answer.queue_s == 0


@simulated
async def test_the_waiting_ends_though_others_keep_coming(world):
    world.make()
    await outcomes([world.asking() for _ in range(40)])
    first = world.asking()
    others = []
    while not first.done():
        others.append(world.asking())
        await asyncio.sleep(0.3e-3)
    # Never longer than the call that is saved.
    assert first.result().queue_s <= 6e-3
    await outcomes(others)


@queued
@simulated
async def test_several_calls_at_a_time_where_the_engine_allows(world, way):
    world.make(way, slots=3, max_batch_rows=4)
    await outcomes([world.asking(4) for _ in range(6)])
    assert world.now == pytest.approx(2 * 5e-3)
    assert world.engine.sizes == [4] * 6
    assert len(world.lanes) == (3 if way == "thread" else 0)


@simulated
async def test_it_moves_to_a_thread_and_back_as_calls_become_dear_and_cheap(world):
    world.make("thread", known=False)

    async def in_lane():
        before = len(world.lanes) and world.lanes[0].jobs
        await world.ask()
        return world.lanes[0].jobs > before

    assert await in_lane(), "nothing is known of the first"
    for fixed, lane in [(5e-6, False), (100e-6, False), (20e-3, True), (100e-6, False)]:
        world.engine.fixed = fixed
        for _ in range(300):
            await world.ask()
        assert await in_lane() == lane, fixed


@simulated
async def test_it_merges_as_calls_become_dear_enough_and_no_longer_when_they_are_not(world):
    world.make("at once")

    async def merged():
        before = len(world.engine.calls)
        await outcomes([world.asking() for _ in range(4)])
        return world.engine.sizes[before:] == [4]

    for fixed, expected in [(5e-6, False), (100e-6, True), (5e-6, False)]:
        world.engine.fixed = fixed
        for _ in range(2000):
            await world.ask()
        assert await merged() == expected, fixed


@simulated
async def test_what_a_turn_brings_is_merged(world):
    world.make("turn")
    await outcomes([world.asking(rows) for rows in (1, 2, 3)])
    assert world.engine.sizes == [6]
    assert world.observer.batches == [(6, pytest.approx(100e-6))]
    assert not world.lanes


@simulated
async def test_what_would_hold_the_event_loop_for_too_long_is_split_or_goes_to_a_thread(world):
    world.make("turn", per_row=100e-6)
    # 8 rows take 0.9 ms.
    await outcomes([world.asking(rows) for rows in (5, 5, 3)])
    assert world.engine.sizes == [5, 8]
    assert not world.lanes
    await world.ask(20)
    assert len(world.lanes) == 1


@simulated
async def test_no_batch_of_a_turn_is_larger_than_the_largest(world):
    world.make("turn", max_batch_rows=4)
    await outcomes([world.asking(3) for _ in range(3)])
    await world.ask(9)
    assert world.engine.sizes == [3, 3, 3, 4, 4, 1]


@simulated
async def test_nobody_overtakes_those_in_a_thread_on_the_event_loop(world):
    world.make("turn", per_row=100e-6)
    await outcomes([world.asking(20), world.asking(), world.asking()])
    assert world.engine.held == []
    await world.ask()
    assert len(world.engine.held) == 1


@simulated
async def test_calls_are_not_run_on_the_event_loop_where_that_is_forbidden(world):
    world.make("at once", inline=False)
    await world.ask()
    assert len(world.lanes) == 1


@pytest.mark.parametrize("way", ["at once", "turn", "thread"])
@simulated
async def test_a_call_that_failed_early_teaches_nothing(world, way):
    world.make(way)
    cost = world.engine.fixed
    world.engine.fixed = cost / 10
    for _ in range(50):
        with pytest.raises(ServingError):
            await world.ask(poison=True)
    assert world.batcher.cost.predict(1) == pytest.approx(cost)
    assert world.observer.batches == [(1, pytest.approx(cost / 10))] * 50


@pytest.mark.parametrize("poison", [False, True])
@pytest.mark.parametrize("way", ["at once", "turn"])
@simulated
async def test_dear_calls_hold_the_event_loop_a_few_times_only(world, way, poison):
    world.make(way)
    world.engine.fixed = 0.5
    for _ in range(50):
        await outcomes([world.asking(poison=poison)])
    assert 1 <= len(world.engine.held) <= 5


@pytest.mark.parametrize("way", ["at once", "turn"])
@simulated
async def test_one_call_that_stalled_moves_nothing(world, way):
    world.make(way)
    for number in range(200):
        world.engine.hang_s = 0.5 if number % 50 == 20 else 0.0
        await world.ask()
    assert not world.lanes


@simulated
async def test_an_engine_that_fights_for_the_interpreter_is_called_on_the_event_loop(world):
    world.make("thread", interpreted=True)
    await world.ask()
    assert world.engine.held == [], "it is not known to fight yet"
    world.batcher._interference.stretch = 3.0
    await outcomes([world.asking(rows) for rows in (1, 2, 3)])
    assert len(world.engine.held) == 1
    assert world.engine.sizes == [1, 6]
    # Now and then a thread is tried again.
    for _ in range(400):
        await world.ask()
    assert 100 < len(world.engine.held) < 400


@simulated
async def test_but_not_for_long_and_not_again_after_a_failure(world):
    world.make("thread", fixed=50e-3, interpreted=True)
    world.batcher._interference.stretch = 3.0
    await world.ask()
    assert world.engine.held == [], "too long to hold up the others"
    world.engine.fixed = 5e-3
    for _ in range(50):
        await world.ask()
    world.batcher._interference.stretch = 3.0
    before = len(world.engine.held)
    poisoned = await outcomes([world.asking(), world.asking(poison=True), world.asking()])
    assert [isinstance(each, ServingError) for each in poisoned] == [False, True, False]
    assert world.batcher._interference.stretch == 1.0
    assert len(world.engine.held) == before + 4, "all together, then each apart"
    await world.ask()
    assert len(world.engine.held) == before + 4


@queued
@simulated
async def test_a_call_is_no_longer_than_the_latency_to_keep_to_allows(world, way):
    world.make(way, fixed=10e-3, per_row=1e-3, target_s=0.3, max_batch_rows=1024)
    await outcomes([world.asking(50) for _ in range(10)])
    # Half of 300 ms, less 10: 140 rows, of which the first call had not seen any.
    assert max(world.engine.sizes[1:]) <= 140
    assert sum(world.engine.sizes) == 500


@simulated
async def test_it_comes_back_to_the_event_loop_although_somebody_always_waits(world):
    world.make("thread")
    clients = asyncio.create_task(world.clients(8, 400))
    await asyncio.sleep(0.1)
    assert world.engine.held == []
    world.engine.fixed = 100e-6
    await asyncio.sleep(0.03)
    jobs, held = world.lanes[0].jobs, len(world.engine.held)
    assert not clients.done()
    await clients
    assert world.lanes[0].jobs == jobs
    assert len(world.engine.held) > held > 0
