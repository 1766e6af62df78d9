"""Which setting is best, one thing changed at a time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headgate.config import ServingConfig
from headgate.gate import Descent, choices
from headgate.records import Setting

START = Setting(workers=1, threads=1)


def descended(
    worth: Callable[[Setting], float], *, start: Setting = START, cores: int = 4, noise: float = 0
) -> tuple[Setting, int]:
    """Where it ends, and after how many comparisons; what is no more than noise is no better."""
    descent = Descent(start, choices(cores), cores=cores)
    count = 0
    while (setting := descent.next()) is not None:
        count += 1
        descent.tell(better=worth(setting) > worth(descent.best) + noise)
    return descent.best, count


def test_a_tie_keeps_what_is() -> None:
    assert descended(lambda _: 1.0)[0] == START
    assert descended(lambda setting: setting.workers, noise=10)[0] == START


def test_the_best_of_each_is_found() -> None:
    def worth(setting: Setting) -> float:
        calls = setting.parallel_calls or 1
        return setting.workers + 0.5 * calls - 0.1 * abs((setting.max_batch_rows or 1024) - 128)

    best, count = descended(worth)
    assert best == Setting(workers=4, threads=1, parallel_calls=2, max_batch_rows=128)
    assert count < 20


def test_what_helps_only_together_with_another_is_found_the_second_time() -> None:
    def worth(setting: Setting) -> float:
        return 2 * setting.threads + (setting.workers if setting.threads == 2 else 0)

    assert descended(worth, cores=2)[0] == Setting(workers=2, threads=2)


def test_few_are_tried_on_two_cores() -> None:
    _, count = descended(lambda _: 1.0, cores=2)
    assert count <= 6


@given(st.integers(1, 64), st.randoms(use_true_random=False))
def test_it_ends_and_asks_nothing_twice(cores: int, random: object) -> None:
    descent = Descent(START, choices(cores), cores=cores)
    seen = {START}
    while (setting := descent.next()) is not None:
        assert setting not in seen
        assert setting.workers * setting.threads * (setting.parallel_calls or 1) <= 2 * cores
        assert all(
            value is None or value in choices(cores)[name]
            for name, value in msgspec.structs.asdict(setting).items()
        )
        seen.add(setting)
        descent.tell(better=random.random() < 0.3)  # type: ignore[attr-defined]
    assert len(seen) < 200


def test_choices_follow_the_cores() -> None:
    assert choices(1)["workers"] == (1,)
    assert choices(2)["workers"] == (1, 2)
    assert choices(16)["workers"] == (1, 2, 8, 16)


def test_what_is_set_already_is_not_tried() -> None:
    one, two = ServingConfig(), ServingConfig(max_batch_rows=16)
    assert choices(2, [one, one])["parallel_calls"] == (2,)
    assert choices(2, [two, two])["max_batch_rows"] == (128,)
    assert choices(2, [one, two])["max_batch_rows"] == (16, 128)
