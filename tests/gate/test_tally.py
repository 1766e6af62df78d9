from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from headgate.gate.answers import Compared
from headgate.gate.plan import Ask, Seen
from headgate.gate.subject import Asked, Subject
from headgate.gate.tally import Tally, saturated


class Said:
    """Right is what equals the number of the request; "wrong" is a prediction, but another."""

    def compare(
        self, asks: Sequence[int], status: Sequence[int], bodies: Sequence[bytes]
    ) -> Compared:
        found = []
        for ask, code, body in zip(asks, status, bodies, strict=True):
            cause = "" if code == 200 else f"HTTP {code}" if code else body.decode()
            found.append((cause, body == str(ask).encode() and code == 200))
        return Compared.of(found)


def asked(model: str, count: int, rows: int = 1) -> Asked:
    asks = tuple(Ask(path=f"/{model}", body=str(place).encode()) for place in range(count))
    return Asked(model=model, asks=asks, answers=Said(), rate=10, rows=rows)


def tally(*models: Asked, **other: Any) -> Tally:
    return Tally(Subject(release="r:1", url="http://127.0.0.1:1", asked=models, **other))


def seen(
    asks: Sequence[int],
    said: Sequence[bytes],
    *,
    status: Sequence[int] | None = None,
    at_s: Sequence[float] | None = None,
    took_s: float = 0.1,
) -> Seen:
    answers = tuple(dict.fromkeys(said))
    times = at_s or [0.1 * place for place in range(len(asks))]
    codes = [200] * len(asks) if status is None else status
    return Seen(
        ask=tuple(asks),
        at_s=tuple(times),
        sent_s=tuple(each + 0.01 for each in times),
        done_s=tuple(
            each + took_s if code else math.inf for each, code in zip(times, codes, strict=True)
        ),
        status=tuple(codes),
        answer=tuple(answers.index(body) for body in said),
        answers=answers,
        cpu=0.2,
    )


def test_each_model_gets_its_own_requests() -> None:
    both = tally(asked("m", 3), asked("n", 2, rows=5))
    assert both.asks == [[0, 1, 2], [3, 4]]
    # The requests of the second model count from 3, and its answers know them as 0 and 1.
    both.add_open(1.0, 0, 0.0, seen([4, 0, 3, 2, 1], [b"1", b"0", b"7", b"2", b"x"]))
    m, n = both.side().samples
    assert (m.model, n.model) == ("m", "n")
    assert m.intended_s.tolist() == pytest.approx([0.1, 0.3, 0.4])
    assert n.intended_s.tolist() == pytest.approx([0.0, 0.2])
    assert m.matched.tolist() == [True, True, False]
    assert n.matched.tolist() == [True, False]
    assert m.rows.tolist() == [1] * 3
    assert n.rows.tolist() == [5] * 2


def test_blocks_are_put_one_after_the_other() -> None:
    one = tally(asked("m", 2))
    one.add_open(2.0, 0, 0.0, seen([0, 1], [b"0", b"1"], at_s=[0.5, 1.9]))
    one.add_open(2.0, 1, 7.5, seen([1, 0], [b"1", b"refused"], at_s=[0.0, 1.0], status=[200, 0]))
    one.duration_s = 4.0
    (samples,) = one.side().samples
    assert samples.block.tolist() == [0, 0, 1, 1]
    assert samples.intended_s.tolist() == pytest.approx([0.5, 1.9, 7.5, 8.5])
    assert samples.sent_s.tolist() == pytest.approx([0.51, 1.91, 7.51, 8.51])
    # Latency is not counted from the start of the load.
    assert samples.latency_s.tolist() == pytest.approx([0.1, 0.1, 0.1, math.inf])
    assert samples.ok.tolist() == [True, True, True, False]
    assert samples.errors == {"refused": 1}
    assert samples.duration_s == 4.0
    assert samples.release == "r:1"


def test_a_long_block_is_cut_into_rounds() -> None:
    one = tally(asked("m", 1))
    one.add_open(2.0, 0, 0.0, seen([0] * 5, [b"0"] * 5, at_s=[0.0, 1.999, 2.0, 5.9, 6.0]))
    (samples,) = one.side().samples
    assert samples.block.tolist() == [0, 0, 1, 2, 3]


def test_causes_are_counted_over_all_blocks() -> None:
    one = tally(asked("m", 1))
    for number in range(3):
        said = seen([0, 0, 0], [b"0", b"", b"refused"], status=[200, 503, 0])
        one.add_open(1.0, number, 1.0 * number, said)
    (samples,) = one.side().samples
    assert samples.errors == {"HTTP 503": 3, "refused": 3}
    assert samples.ok.sum() == samples.matched.sum() == 3


def test_saturation_counts_right_answers_but_for_the_begin_and_the_end() -> None:
    one = tally(asked("m", 2))
    at_s = [0.1 * place + 0.05 for place in range(-1, 10)]
    # Done at 0.05 (too soon), 0.15 … 0.85, 0.95 (failed) and 1.05 (too late).
    status = [200] * 9 + [500, 200]
    one.add_closed(3, 1.0, seen([0] * 11, [b"0"] * 11, status=status, at_s=at_s, took_s=0.1))
    side = one.side()
    assert len(side.samples[0].ok) == 0
    assert side.saturation is not None
    assert side.saturation.block.tolist() == [3]
    assert side.saturation.rps[0] == pytest.approx(8 / 0.9)
    assert (side.saturation.answered, side.saturation.failed, side.saturation.wrong) == (10, 1, 0)
    assert side.saturation.errors == {"HTTP 500": 1}


def test_saturation_adds_models_up_and_keeps_rounds_apart() -> None:
    both = tally(asked("m", 1), asked("n", 1))
    both.add_closed(0, 1.0, seen([0, 1] * 4, [b"0", b"x"] * 4, took_s=0.15))
    both.add_closed(1, 1.0, seen([0, 1], [b"0", b"0"], took_s=0.15))
    saturation = both.side().saturation
    assert saturation is not None
    assert saturation.block.tolist() == [0, 1]
    assert saturation.rps.tolist() == pytest.approx([8 / 0.9, 2 / 0.9])
    # The answers of the second model to its first four requests are wrong, and answers all the same.
    assert (saturation.answered, saturation.wrong, saturation.failed) == (10, 4, 0)


def test_no_closed_loop_is_no_saturation() -> None:
    assert tally(asked("m", 1)).side().saturation is None


def test_nothing_seen_yet() -> None:
    (samples,) = tally(asked("m", 1)).side().samples
    for name in ("block", "intended_s", "sent_s", "latency_s", "ok", "matched", "rows"):
        assert len(getattr(samples, name)) == 0
    assert samples.ok.dtype == samples.matched.dtype == np.bool_
    assert samples.block.dtype == np.int64


def test_the_most_memory_is_kept() -> None:
    told = iter([None, 100.0, 300.0, None, 200.0])
    one = tally(asked("m", 1), watch=lambda: next(told), load_time_s=1.5)
    found = []
    for _ in range(5):
        one.look_after()
        found.append(one.side().memory_mb)
    assert found == [None, 100, 300, 300, 300]
    assert one.side().load_time_s == 1.5


def test_answers_are_not_kept() -> None:
    """Half an hour of them may be larger than memory."""
    one = tally(asked("m", 1))
    body = bytes(1_000_000)
    one.add_open(1.0, 0, 0.0, seen([0], [body]))

    def held(value: object) -> bool:
        if value is body:
            return True
        if isinstance(value, dict):
            return any(held(each) for each in value.values())
        if isinstance(value, (list, tuple)):
            return any(held(each) for each in value)
        names = getattr(type(value), "__slots__", ()) or getattr(value, "__struct_fields__", ())
        return any(held(getattr(value, name)) for name in names)

    assert not held(one.found)


def test_answers_per_second() -> None:
    done_s = np.array([0.05, 0.2, 0.5, 0.99, 1.0, 1.01, math.inf])
    right = np.array([True, True, False, True, True, True, True])
    assert saturated(done_s, 1.0, right) == pytest.approx(3 / 0.9)
