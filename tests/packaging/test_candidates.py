"""First the same answers, then the shortest time; every refusal has a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from headgate.packaging import candidates
from headgate.packaging.candidates import (
    Judged,
    Questions,
    choose,
    describe_choice,
    describe_row,
    judge_candidate,
)
from headgate.packaging.exchange import Built
from headgate.predictor import Candidate, Field, Manifest, Parity, Reference, Signature
from tests.packaging.makers import REF, objects, tabular

X = np.arange(1, 41, dtype=np.float64)
BASE = Manifest(
    ref=REF,
    engine="",
    signature=Signature(
        inputs=(Field(name="x", dtype="float64", nullable=True),),
        outputs=(Field(name="prediction", dtype="float64"),),
        task="regression",
    ),
    tolerance=1e-5,
    parity=Parity(rows=0, mismatched=0, largest=0.0),
)


def rows(x: Any, y: Any) -> Reference:
    return tabular({"x": np.asarray(x, dtype=float)}, {"prediction": np.asarray(y, dtype=float)})


DOUBLED = rows(X, 2 * X)


def graph(*nodes: Any, output: int = TensorProto.DOUBLE) -> bytes:
    """From ``x`` to ``y``."""
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 1])],
        [helper.make_tensor_value_info("prediction", output, [None, None])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


DOUBLES = graph(helper.make_node("Add", ["x", "x"], ["prediction"]))


def judge(folder: Path, content: bytes | None, **questions: Any) -> Judged:
    (folder / "onnx").mkdir()
    if content is not None:
        (folder / "onnx" / "model.onnx").write_bytes(content)
    asked = Questions(**{"reference": DOUBLED, **questions})
    return judge_candidate(folder, Built(engine="onnx"), BASE, asked)


def test_the_same_answers_are_measured(tmp_path: Path) -> None:
    judged = judge(tmp_path, DOUBLES, probes=rows([np.nan, 7], [np.nan, 14]))
    assert judged.passed
    candidate = judged.candidate
    assert candidate.parity == Parity(rows=40, mismatched=0, largest=0.0, probes=2)
    assert candidate.one_row_ms is not None
    assert candidate.batch_ms is not None
    assert 0 < candidate.one_row_ms < 1000
    assert judged.first_wrong is None


def test_what_differs_is_counted_and_the_first_row_named(tmp_path: Path) -> None:
    y = 2 * X
    y[[5, 30]] += [0.5, 41]
    judged = judge(tmp_path, DOUBLES, reference=rows(X, y))
    assert judged.candidate.reason == "differs on 2 of 40 rows, by up to 0.398"
    assert judged.first_wrong == 5
    assert judged.candidate.parity is not None
    assert judged.candidate.parity.mismatched == 2
    assert not judged.passed


def test_a_tolerance_tighter_than_arithmetic_is_named(tmp_path: Path) -> None:
    tight = msgspec.structs.replace(BASE, tolerance=1e-12)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(DOUBLES)
    for apart, close in ((1e-9, True), (1e-3, False)):
        y = 2 * X
        y[5] += apart
        asked = Questions(reference=rows(X, y))
        folder = tmp_path / str(close)
        folder.mkdir()
        (folder / "onnx").symlink_to(tmp_path / "onnx")
        judged = judge_candidate(folder, Built(engine="onnx"), tight, asked)
        assert judged.close is close
        assert judged.first_wrong == 5
        assert ("packaging.tolerance = 1e-12" in judged.candidate.reason) is close


def test_rows_may_not_depend_on_their_neighbours(tmp_path: Path) -> None:
    """Here every answer is the input times the rows in the batch."""
    x = np.full(40, 20.5)
    content = graph(
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["size"], to=TensorProto.DOUBLE),
        helper.make_node("ReduceMax", ["size"], ["count"], keepdims=0),
        helper.make_node("Mul", ["x", "count"], ["prediction"]),
    )
    judged = judge(tmp_path, content, reference=rows(x, 40 * x))
    assert judged.candidate.reason == "row 0 alone is answered differently than in a batch"


def test_made_up_rows_count_as_much(tmp_path: Path) -> None:
    judged = judge(tmp_path, DOUBLES, probes=rows([3, np.nan, np.nan], [6, 0, 0]))
    assert judged.candidate.reason == (
        "differs from the model on 2 of 3 made-up rows, first on x=null"
    )
    assert judged.candidate.parity is not None
    assert judged.candidate.parity.probes == 3


def test_what_the_model_refuses_must_be_refused(tmp_path: Path) -> None:
    judged = judge(tmp_path, DOUBLES, refused=rows([-1], [0]))
    assert judged.candidate.reason == "answers a row that the model refuses: x=-1.0"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not run: "),
        (b"", "does not run: "),
        (b"no graph", "does not run: [ONNXRuntimeError]"),
        (graph(helper.make_node("Nothing", ["x"], ["prediction"])), "does not run: [ONNX"),
        (
            graph(helper.make_node("ReduceSum", ["x"], ["prediction"], keepdims=0)),
            "does not run: ",
        ),
        (
            graph(helper.make_node("Reshape", ["x", "x"], ["prediction"])),
            "does not run: [ONNXRuntimeError]",
        ),
        (
            graph(helper.make_node("Concat", ["x", "x"], ["prediction"], axis=0)),
            "does not run: late-flights version 3: 80 rows of prediction for 40 rows of input",
        ),
    ],
)
def test_what_does_not_run_is_a_reason(tmp_path: Path, content: bytes | None, says: str) -> None:
    judged = judge(tmp_path, content)
    assert says in judged.candidate.reason
    assert "\n" not in judged.candidate.reason
    assert len(judged.candidate.reason) < 340
    assert judged.candidate.parity is None
    assert not judged.passed


def test_what_was_not_built_keeps_its_reason(tmp_path: Path) -> None:
    built = Built(engine="onnx", refused="no converter")
    judged = judge_candidate(tmp_path, built, BASE, Questions(reference=DOUBLED))
    assert judged.candidate == Candidate(
        engine="onnx", chosen=False, reason="not built: no converter"
    )


def measured(engine: str, one: float | None, batch: float | None) -> Judged:
    candidate = Candidate(engine=engine, chosen=False, reason="x", one_row_ms=one, batch_ms=batch)
    return Judged(candidate=candidate, path=Path(engine))


@pytest.mark.parametrize(
    ("one", "other", "best"),
    [
        ((0.1, 1.0), (1.0, 10.0), "one"),
        ((1.0, 1.0), (0.4, 2.0), "other"),
        ((1.0, 1.0), (0.6, 2.0), "one"),
        ((1.0, 1.0), (1.0, 1.0), "one"),
        ((None, None), (90.0, 90.0), "other"),
    ],
)
def test_the_fastest_alone_and_in_batches_is_taken(one: Any, other: Any, best: str) -> None:
    found = choose([measured("one", *one), measured("other", *other)])
    assert found is not None
    chosen, told = found
    assert chosen.candidate.engine == best
    assert [each.engine for each in told if each.chosen] == [best]
    reasons = {each.engine: each.reason for each in told}
    assert reasons[best] == "the same answers, and the fastest"
    (rest,) = reasons.keys() - {best}
    assert reasons[rest] == ("the same answers, but slower" if one[0] is not None else "x")


def manifest(engine: str, *judged: Judged) -> Manifest:
    found = choose(list(judged))
    assert found is not None
    return msgspec.structs.replace(BASE, engine=engine, candidates=found[1])


def test_the_choice_in_a_line() -> None:
    quick, slow = measured("onnx", 0.0312, 1.0), measured("sklearn", 8.76, 9.0)
    assert describe_choice(manifest("onnx", quick, slow)) == "onnx, 0.031 ms a row"
    broken = Judged(
        candidate=Candidate(engine="onnx", chosen=False, reason="not built: " + "no way " * 90),
        path=Path("onnx"),
    )
    told = describe_choice(manifest("sklearn", broken, slow))
    assert told.startswith("sklearn, 8.8 ms a row; not onnx: not built: no way")
    assert told.endswith(" …")
    assert len(told) < 200
    slower = measured("onnx", 100.0, 100.0)
    assert describe_choice(manifest("torch", slower, measured("torch", 2.0, 3.0))) == (
        "torch, 2.0 ms a row; not onnx: the same answers, but slower"
    )
    assert describe_choice(manifest("sklearn", slow)) == "sklearn, 8.8 ms a row"
    assert describe_choice(msgspec.structs.replace(BASE, engine="onnx")) == "onnx"


def test_where_none_passed_none_is_taken() -> None:
    assert choose([measured("one", None, None)]) is None
    assert choose([]) is None


def test_measuring_is_bounded() -> None:
    calls = []

    class Quick:
        def predict(self, batch: Any) -> Any:
            calls.append(len(batch["x"]))

    candidates._median_ms(Quick(), DOUBLED, candidates.BATCH_ROWS)  # type: ignore[arg-type]
    assert set(calls) == {64}
    assert 4 <= len(calls) <= 301


def test_a_row_in_words() -> None:
    row = {"s": objects([None]), "t": objects(["nan"]), "x": np.array([np.nan]), "n": np.array([3])}
    assert describe_row(row) == "s=null, t='nan', x=null, n=3"
    assert describe_row({"x": np.ones((1, 2, 2))}) == "x=[[1.0, 1.0], [1.0, 1.0]]"
    long = describe_row({"s": objects(["x" * 9000])})
    assert len(long) == 301
    assert long.endswith("…")
