from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from gate.server import SIGNATURE, predict, reference

from headgate.gate.answers import Compared, ModelAnswers, compare_quality
from headgate.predictor import Field, Reference, Signature
from headgate.predictor.rows import batch_to_rows

KNOWN = reference()
SENT = batch_to_rows(SIGNATURE, KNOWN.inputs)
GARBAGE = "HTTP 200 without the model's predictions"


def right(*rows: int, release: str | None = "r:1", **change: Any) -> bytes:
    """The right answer for those rows, each prediction changed."""
    answer = {"predictions": [predict(SENT[row]) | change for row in rows], "model_name": "m"}
    return json.dumps(answer | ({} if release is None else {"release": release})).encode()


def compared(
    *answers: tuple[int, bytes, list[int]],
    known: Reference = KNOWN,
    signature: Signature = SIGNATURE,
) -> Compared:
    """What becomes of answers of a status and a body to requests of some rows."""
    groups = list(dict.fromkeys(tuple(wanted) for _, _, wanted in answers))
    judge = answering(*groups, known=known, signature=signature)
    return judge.compare(
        [groups.index(tuple(wanted)) for _, _, wanted in answers],
        [status for status, _, _ in answers],
        [body for _, body, _ in answers],
    )


def answering(
    *groups: Sequence[int],
    known: Reference = KNOWN,
    signature: Signature = SIGNATURE,
    own: bool = True,
) -> ModelAnswers:
    """Who knows the answers to requests of those rows."""
    return ModelAnswers(
        [np.array(rows, dtype=np.int64) for rows in groups],
        known,
        signature,
        tolerance=1e-5,
        release="r:1",
        own=own,
    )


def only(status: int, body: bytes, rows: list[int]) -> tuple[bool, bool, str]:
    found = compared((status, body, rows))
    return bool(found.ok[0]), bool(found.matched[0]), found.cause[0]


RIGHT, WRONG = (True, True, ""), (True, False, "")


def test_right_answers() -> None:
    everything = list(range(KNOWN.rows))
    assert only(200, right(*everything), everything) == RIGHT
    assert only(200, right(5), [5]) == RIGHT
    assert only(200, right(5, 9, 5), [5, 9, 5]) == RIGHT


def test_a_server_may_not_name_its_release() -> None:
    assert only(200, right(5, release=None), [5]) == RIGHT
    assert only(200, right(5, release=""), [5]) == RIGHT


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": [0.0505, 0.9495]},
        {"probabilities": [None, None]},
        {"label": "late"},
    ],
)
def test_a_wrong_prediction(change: dict[str, Any]) -> None:
    assert SENT[5] == {"carrier": None, "wind": 5.0}
    assert only(200, right(5, **change), [5]) == WRONG


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": [0.05, 1e300]},
        {"probabilities": ["0.05", "0.95"]},
        {"probabilities": [True, False]},
        {"probabilities": [0.05]},
        {"label": None},
        {"label": 1.7},
        {"label": {"on": "time"}},
    ],
)
def test_what_the_model_never_predicts(change: dict[str, Any]) -> None:
    ok, matched, cause = only(200, right(5, **change), [5])
    assert (ok, matched) == (False, False)
    assert cause == "HTTP 200 without the model's predictions"


def test_within_the_tolerance_is_right() -> None:
    assert only(200, right(5, probabilities=[0.050009, 0.949991]), [5]) == RIGHT


def test_one_wrong_row_of_many_is_wrong() -> None:
    assert only(200, right(1, 2, 3), [1, 2, 4]) == WRONG
    assert only(200, right(2, 1), [1, 2]) == WRONG


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>It works!</html>",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"predictions": null}',
        b'{"predictions": {}}',
        b'{"predictions": [1]}',
        b'{"predictions": ["late"]}',
        b'{"predictions": [{"label": "late"}]}',
        b'{"predictions": [{"label": "late", "probabilities": [0.5]}]}',
        b'{"predictions": [{"label": "late", "probabilities": [0.5, "x"]}]}',
        b'{"predictions": [{"label": "late", "probabilities": [0.5, [0.5]]}]}',
        b'{"predictions": [], "release": "r:1"}',
        right(5)[:-1],
        right(5, 6),
        right(5, release="r:1").replace(b'"r:1"', b"1"),
        b'{"predictions": [{"label": "late", "probabilities": [0.5, 1' + b"0" * 400 + b"]}]}",
        b'{"predictions": ' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:60]),
)
def test_200_with_garbage(body: bytes) -> None:
    assert only(200, body, [5]) == (False, False, GARBAGE)


def test_rows_missing() -> None:
    assert only(200, right(5), [5, 6]) == (False, False, GARBAGE)


def test_a_whole_number_too_large_for_its_type() -> None:
    signature = Signature(
        inputs=SIGNATURE.inputs, outputs=(Field(name="digit", dtype="int64"),), task="tensor"
    )
    known = Reference(inputs=KNOWN.inputs, outputs={"digit": np.arange(64)}, task="tensor")
    found = compared(
        (200, b'{"predictions": [7]}', [7]),
        (200, b'{"predictions": [8]}', [7]),
        (200, b'{"predictions": [%d]}' % 2**80, [7]),
        known=known,
        signature=signature,
    )
    assert found.cause == ("", "", GARBAGE)
    assert found.matched.tolist() == [True, False, False]


def test_what_json_cannot_say_is_null() -> None:
    """A model may well predict infinity; the protocol has null for it."""
    signature = Signature(
        inputs=SIGNATURE.inputs, outputs=(Field(name="y", dtype="float32"),), task="regression"
    )
    y = np.ones(KNOWN.rows, dtype=np.float32)
    y[:3] = np.inf, -np.inf, np.nan
    known = Reference(inputs=KNOWN.inputs, outputs={"y": y}, task="regression")
    found = compared(
        (200, b'{"predictions": [null, null, null, 1]}', [0, 1, 2, 3]),
        (200, b'{"predictions": [null]}', [3]),
        (200, b'{"predictions": [1]}', [0]),
        known=known,
        signature=signature,
    )
    assert found.cause == ("", "", "")
    assert found.matched.tolist() == [True, False, False]


def test_another_release() -> None:
    ok, matched, cause = only(200, right(5, release="r:2"), [5])
    assert (ok, matched) == (False, False)
    assert cause == "answered by r:2, not by r:1"
    assert len(only(200, right(5, release="r" * 9_999), [5])[2]) < 200


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (422, b'{"error": "no such column", "where": "row 3"}', "HTTP 422 (row 3: no such column)"),
        (503, b'{"error": "the queue is full"}', "HTTP 503 (the queue is full)"),
        (500, b'{"detail": "x"}', "HTTP 500"),
        (500, b'{"error": 7}', "HTTP 500"),
        (502, b"<html>Bad gateway</html>", "HTTP 502"),
        (500, b"\xff", "HTTP 500"),
        (500, b"[" * 100_000, "HTTP 500"),
        (500, json.dumps({"error": "e" * 500}).encode(), f"HTTP 500 ({'e' * 120})"),
        (204, b"", "HTTP 204"),
        (0, b"no answer in time", "no answer in time"),
        (0, b"connection refused", "connection refused"),
        (0, b"\xff" * 200, "\N{REPLACEMENT CHARACTER}" * 120),
    ],
)
def test_errors_are_quoted(status: int, body: bytes, cause: str) -> None:
    assert only(status, body, [5]) == (False, False, cause)


def test_a_right_body_with_another_status_is_an_error() -> None:
    assert only(500, right(5), [5]) == (False, False, "HTTP 500")


def test_every_request_is_judged_by_what_it_asked() -> None:
    """Equal answers are compared once, but only for equal requests."""
    found = compared(
        (200, right(1), [1]),
        (200, right(1), [2]),
        (500, b'{"error": "first"}', [1]),
        (500, b'{"error": "second"}', [1]),
        (503, b"", [1]),
        (0, b"connection refused", [1]),
        (200, right(1), [1]),
    )
    assert found.matched.tolist() == [True, False, False, False, False, False, True]
    assert found.ok.tolist() == [True, True, False, False, False, False, True]
    # A status is one cause, whatever each answer says.
    assert found.errors == {
        "HTTP 500 (first)": 2,
        "HTTP 503": 1,
        "connection refused": 1,
    }


def test_no_requests() -> None:
    found = compared()
    assert len(found.ok) == len(found.matched) == len(found.cause) == 0
    assert found.errors == {}
    assert found.ok.dtype == found.matched.dtype == np.bool_


def test_answers_that_differ_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a server that puts the time into each."""
    monkeypatch.setattr("headgate.gate.answers._REMEMBERED", 4)
    judge = answering([5])
    bodies = [right(5) + b" " * number for number in range(50)] + [right(6), right(5)]
    found = judge.compare([0] * 52, [200] * 52, bodies)
    assert found.matched.tolist() == [True] * 50 + [False, True]
    assert len(judge._known) <= 4


def test_the_share_of_labels_predicted() -> None:
    """Of the rows that were asked for; those that nobody predicted say nothing."""
    assert KNOWN.labels is not None
    groups = [[row] for row in range(1, 8)]
    judge = answering(*groups)
    judge.compare(range(7), [200] * 6 + [500], [right(row) for row in range(1, 8)])
    scores = judge.scores()
    assert np.flatnonzero(np.isfinite(scores)).tolist() == [1, 2, 3, 4, 5, 6]
    expected = [predict(SENT[row])["label"] == KNOWN.labels[row] for row in range(1, 7)]
    assert scores[1:7].tolist() == [float(right) for right in expected]
    quality = compare_quality("m", judge, None)
    assert quality is not None
    assert (quality.model, quality.metric) == ("m", "accuracy")
    assert quality.candidate.tolist() == scores[1:7].tolist()
    assert quality.champion is None


def test_the_champions_predictions_of_the_same_rows() -> None:
    """Of another model's reference any prediction is right, but it has its score."""
    groups = [[1, 2], [3], [4]]
    mine, theirs = answering(*groups), answering(*groups, own=False)
    mine.compare([0, 1], [200, 200], [right(1, 2), right(3)])
    found = theirs.compare(
        [0, 2, 1], [200, 200, 200], [right(1, 2, label="late"), right(4), b"nonsense"]
    )
    assert found.ok.tolist() == found.matched.tolist() == [True, True, False]
    quality = compare_quality("m", mine, theirs)
    assert quality is not None
    assert quality.champion is not None
    # Rows 1 and 2 alone were predicted by both; 1 is late and 2 is late.
    assert KNOWN.labels is not None
    assert KNOWN.labels[[1, 2]].tolist() == ["late", "late"]
    assert quality.candidate.tolist() == [0.0, 0.0]
    assert quality.champion.tolist() == [1.0, 1.0]


def test_a_champion_that_has_predicted_nothing_is_none() -> None:
    mine, theirs = answering([1]), answering([1], own=False)
    mine.compare([0], [200], [right(1)])
    theirs.compare([0], [503], [b""])
    quality = compare_quality("m", mine, theirs)
    assert quality is not None
    assert quality.champion is None
    assert compare_quality("m", theirs, mine) is None


def test_the_first_prediction_of_a_row_counts() -> None:
    judge = answering([1], [1, 2])
    judge.compare([0, 1], [200, 200], [right(1, label="late"), right(1, 2)])
    assert judge.scores()[1] == 1


REGRESSION = Signature(
    inputs=SIGNATURE.inputs, outputs=(Field(name="prediction", dtype="float32"),), task="regression"
)


def predicting(labels: Any, signature: Signature = REGRESSION) -> ModelAnswers:
    known = Reference(
        inputs=KNOWN.inputs,
        outputs={signature.outputs[0].name: np.zeros(KNOWN.rows, dtype=np.float32)},
        labels=labels,
        task="regression",
    )
    return answering([0, 1, 2, 3], known=known, signature=signature)


def test_the_absolute_error_of_numbers() -> None:
    labels = np.zeros(KNOWN.rows)
    labels[:4] = 1.0, -1.0, np.nan, 0.5
    judge = predicting(labels)
    judge.compare([0], [200], [b'{"predictions": [1.5, 1, 1, null]}'])
    quality = compare_quality("m", judge, None)
    assert quality is not None
    assert quality.metric == "mean absolute error"
    # The third has no truth and the fourth no prediction.
    assert quality.candidate.tolist() == [0.5, 2.0]


@pytest.mark.parametrize(
    ("labels", "signature"),
    [
        (None, REGRESSION),
        (np.zeros((KNOWN.rows, 2)), REGRESSION),
        (np.array([None] * KNOWN.rows, dtype=object), REGRESSION),
        (
            np.zeros(KNOWN.rows),
            Signature(
                inputs=SIGNATURE.inputs,
                outputs=(Field(name="y", dtype="float32"),),
                task="regression",
            ),
        ),
    ],
    ids=["no labels", "labels of two columns", "empty labels", "another output"],
)
def test_nothing_to_compare_with(labels: Any, signature: Signature) -> None:
    judge = predicting(labels, signature)
    found = judge.compare([0], [200], [b'{"predictions": [0, 0, 0, 0]}'])
    assert found.matched.all()
    assert compare_quality("m", judge, None) is None


def test_several_numbers_a_row_have_no_error() -> None:
    signature = Signature(
        inputs=SIGNATURE.inputs,
        outputs=(Field(name="prediction", dtype="float32", shape=(2,)),),
        task="regression",
    )
    known = Reference(
        inputs=KNOWN.inputs,
        outputs={"prediction": np.zeros((KNOWN.rows, 2), dtype=np.float32)},
        labels=np.zeros(KNOWN.rows),
        task="regression",
    )
    judge = answering([0], known=known, signature=signature)
    assert judge.compare([0], [200], [b'{"predictions": [[0, 0]]}']).matched.all()
    assert compare_quality("m", judge, None) is None
