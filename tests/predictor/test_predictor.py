"""The packaged model: opened only if unaltered, the same answers from every engine."""

from __future__ import annotations

import builtins
import concurrent.futures
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from predictor.factory import NAMES, forest, make_artifact, make_bundle, table_frame, table_pipeline

from headgate.errors import ArtifactError, ServingError
from headgate.predictor import Predictor, arrays_to_batch, read_manifest, rows_to_batch

CASES = [(kind, engine) for kind in ("tensor", "table") for engine in ("onnx", "native")]


@pytest.mark.parametrize(("kind", "engine"), CASES)
def test_every_engine_gives_the_models_own_answers(tmp_path, kind, engine) -> None:
    predictor = Predictor.open(make_artifact(tmp_path / "a", kind, engine))
    assert predictor.engine == {"onnx": "onnx", "native": "sklearn"}[engine]
    assert predictor.ref.name == NAMES[kind]
    replay = predictor.replay()
    assert (replay.rows, replay.mismatched) == (64, 0)
    assert replay.largest < 1e-6
    assert predictor.replay(slice(0, 5)).rows == 5
    if kind == "tensor":
        model, x, _ = forest()
        outputs = predictor.predict({"x": x[:5]})
        features = x[:5]
    else:
        frame, labels = table_frame()
        model = table_pipeline().fit(frame, labels)
        features = frame.head(5)
        rows = [
            {"carrier": carrier, "distance": int(d), "wind": w}
            for carrier, d, w in zip(*(features[name].tolist() for name in features), strict=True)
        ]
        rows = [
            {**row, "wind": None if row["wind"] != row["wind"] else row["wind"]} for row in rows
        ]
        outputs = predictor.predict(rows_to_batch(predictor.signature, rows))
    assert outputs["label"].tolist() == model.predict(features).tolist()
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(features), atol=1e-6)
    for field in predictor.signature.outputs:
        assert outputs[field.name].dtype == field.numpy
        assert outputs[field.name].shape == (5, *field.shape)


@pytest.mark.parametrize(("kind", "engine"), CASES)
def test_calls_from_many_threads_do_not_mix(tmp_path, kind, engine) -> None:
    predictor = Predictor.open(make_artifact(tmp_path / "a", kind, engine), threads=1)
    assert predictor.reference is not None
    parts = [predictor.reference.take(slice(i, i + 3)) for i in range(0, 60, 3)]

    def ask(index: int) -> bool:
        part = parts[index % len(parts)]
        return bool(predictor.matches(predictor.predict(part.inputs), part.outputs).all())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(100)))


def test_no_reference_is_no_rows(tmp_path) -> None:
    predictor = Predictor.open(make_artifact(tmp_path / "a", reference_rows=0))
    assert predictor.reference is None
    assert predictor.replay().rows == 0


def test_a_changed_prediction_is_a_mismatch(tmp_path) -> None:
    predictor = Predictor.open(make_artifact(tmp_path / "a"))
    assert predictor.reference is not None
    predictor.reference.outputs["probabilities"][7] += 0.25
    predictor.reference.outputs["label"][9] ^= 1
    replay = predictor.replay()
    assert replay.mismatched == 2
    assert replay.largest == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("name", ["model.onnx", "reference/reference.npz", "predictor.json", "new"])
def test_an_altered_file_is_refused(tmp_path, name) -> None:
    path = make_artifact(tmp_path / "a")
    with (path / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError) as caught:
        Predictor.open(path)
    assert name in caught.value.where
    assert "headgate build" in caught.value.remedy


@pytest.mark.parametrize("name", ["model.onnx", "reference/reference.json", "predictor.json"])
def test_a_missing_file_is_refused(tmp_path, name) -> None:
    path = make_artifact(tmp_path / "a")
    (path / name).unlink()
    with pytest.raises(ArtifactError) as caught:
        Predictor.open(path)
    assert name in caught.value.where


def edit(path: Path, **changes: object) -> Path:
    manifest = json.loads((path / "predictor.json").read_text())
    (path / "predictor.json").write_text(json.dumps({**manifest, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 99}, "format 99, not 1"),
        ({"engine": "abacus"}, "unknown engine 'abacus'"),
        ({"signature": {}}, "unreadable"),
        ({"surprise": 1}, "unreadable"),
    ],
)
def test_a_manifest_of_another_headgate_is_refused(tmp_path, changes, says) -> None:
    path = edit(make_artifact(tmp_path / "a"), **changes)
    with pytest.raises(ArtifactError, match=says):
        Predictor.open(path)


def test_a_graph_that_does_not_fit_its_signature_is_refused(tmp_path) -> None:
    path = make_artifact(tmp_path / "a")
    signature = json.loads((path / "predictor.json").read_text())["signature"]
    signature["inputs"][0]["name"] = "y"
    with pytest.raises(ArtifactError, match="the graph takes"):
        Predictor.open(edit(path, signature=signature))
    signature["inputs"][0] = {"name": "x", "dtype": "string"}
    with pytest.raises(ArtifactError, match="for string"):
        Predictor.open(edit(path, signature=signature))


@pytest.mark.parametrize("engine", ["onnx", "native"])
def test_a_missing_library_is_said_with_the_remedy(tmp_path, monkeypatch, engine) -> None:
    path = make_artifact(tmp_path / "a", "tensor", engine)
    real = builtins.__import__

    def refuse(name, *args):
        if name.partition(".")[0] in {"onnxruntime", "skops"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ArtifactError, match="not installed") as caught:
        Predictor.open(path)
    assert "pip install" in caught.value.remedy


class Broken:
    def __init__(self, rows: int | None) -> None:
        self.rows = rows

    def predict(self, batch):
        if self.rows is None:
            raise RuntimeError("out of cheese")
        return {"label": np.zeros(self.rows, dtype=np.int64)}


def test_an_engine_that_fails_or_loses_rows_is_a_serving_error(tmp_path) -> None:
    predictor = Predictor.open(make_artifact(tmp_path / "a"))
    batch = {"x": np.zeros((4, 30), dtype=np.float32)}
    for engine, says in ((Broken(3), "3 rows of label for 4"), (Broken(None), "out of cheese")):
        object.__setattr__(predictor, "_engine", engine)
        with pytest.raises(ServingError, match=says) as caught:
            predictor.predict(batch)
        assert caught.value.where == "breast-cancer version 1"


def test_a_gpu_that_is_not_there_is_said(tmp_path) -> None:
    path = make_artifact(tmp_path / "a")
    with pytest.raises(ArtifactError, match="cannot run on cuda"):
        Predictor.open(path, device="cuda")


def test_null_and_the_strings_that_look_like_it_stay_apart(tmp_path) -> None:
    """ONNX has no null; even the text that stands for it inside the graph is only a text."""
    from headgate.predictor.engines.onnx import NULL

    converted = Predictor.open(make_artifact(tmp_path / "a", "table", "onnx"))
    native = Predictor.open(make_artifact(tmp_path / "b", "table", "native"))
    for text in (None, "nan", "None", "", NULL, "UA"):
        rows = [{"carrier": text, "distance": d, "wind": None} for d in (100, 900, 2500)]
        batch = rows_to_batch(native.signature, rows)
        expected = native.predict(batch)
        assert converted.matches(converted.predict(batch), expected).all(), repr(text)
    known = native.predict(rows_to_batch(native.signature, [{**rows[0], "carrier": None}]))
    assert not converted.matches(
        converted.predict(rows_to_batch(native.signature, [{**rows[0], "carrier": "nan"}])), known
    ).all(), "the test model must know null from nan"


@pytest.mark.parametrize(("kind", "engine"), CASES)
def test_the_largest_numbers_that_validation_lets_through_are_no_error(
    tmp_path, kind, engine
) -> None:
    predictor = Predictor.open(make_artifact(tmp_path / "a", kind, engine))
    for value in (3.4e38, -3.4e38, 1e-300):
        row = {"carrier": "UA", "distance": 10, "wind": value}
        rows = [row] if kind == "table" else [[value] * 30]
        assert len(predictor.predict(rows_to_batch(predictor.signature, rows))["label"]) == 1


def test_arrays_of_a_protocol_predict_as_rows_do(tmp_path) -> None:
    predictor = Predictor.open(make_artifact(tmp_path / "a", "table"))
    arrays = {
        "wind": np.array([[1.5], [np.nan]], dtype=np.float32),
        "carrier": np.array([b"UA", None], dtype=object),
        "distance": np.array([10, 20], dtype=np.int32),
    }
    rows = [
        {"carrier": "UA", "distance": 10, "wind": 1.5},
        {"carrier": None, "distance": 20, "wind": None},
    ]
    one = predictor.predict(arrays_to_batch(predictor.signature, arrays))
    two = predictor.predict(rows_to_batch(predictor.signature, rows))
    assert predictor.matches(one, two).all()


def test_a_bundle_of_the_factory_can_be_opened(tmp_path) -> None:
    make_bundle(tmp_path)
    listed = json.loads((tmp_path / ".headgate" / "bundle" / "bundle.json").read_text())
    for model in listed["models"]:
        path = tmp_path / ".headgate" / "bundle" / model["path"]
        assert read_manifest(path).ref.name == model["name"]
        assert Predictor.open(path).replay().mismatched == 0


def test_serving_an_onnx_model_imports_no_training_library(tmp_path) -> None:
    path = make_artifact(tmp_path / "a", "table")
    code = (
        "import sys; from pathlib import Path; from headgate.predictor import Predictor\n"
        "assert Predictor.open(Path(sys.argv[1])).replay().mismatched == 0\n"
        "heavy = {'sklearn', 'pandas', 'torch', 'onnx', 'mlflow', 'skops', 'bentoml', 'scipy'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == []
