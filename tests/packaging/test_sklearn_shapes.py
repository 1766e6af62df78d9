"""Whatever shape a model has: tensors, bare columns, labels alone, transformers, own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from headgate.errors import UnsafeModelError
from headgate.predictor import Reference
from tests.packaging.flights import (
    NUMBERS,
    make_edges,
    make_reference,
    to_batch,
)
from tests.packaging.makers import tabular, try_sklearn
from tests.packaging.pipelines import (
    BOOST,
    FOREST,
    FRAME,
    TARGETS,
    assert_same_as_model,
    imputed,
    one_hot,
    ordinal,
)

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_what_does_not_convert_says_why(tmp_path: Path) -> None:
    from sklearn.isotonic import IsotonicRegression

    x = np.random.default_rng(0).normal(size=(60, 1)).astype(np.float32)
    model = IsotonicRegression(out_of_bounds="clip").fit(x, x[:, 0])
    tried = try_sklearn(tmp_path, model, tabular({"x": x}, {"prediction": model.predict(x)}))
    assert "not built: " in tried.reason("onnx")
    assert "IsotonicRegression" in tried.reason("onnx")
    assert tried.chosen == "sklearn"


def test_one_tensor(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    y = np.array(["a", "b", "c"])[np.digitize(x[:, 0], [-0.5, 0.5])]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    outputs = {"label": model.predict(x), "probabilities": model.predict_proba(x)}
    tried = try_sklearn(tmp_path, model, tabular({"x": x}, outputs, "abc"))
    assert tried.signature.inputs[0].shape == (4,)
    assert tried.questions.probes is None
    for engine in ("onnx", "sklearn"):
        assert tried.reason(engine) == "the same answers"
        assert tried.predictor(engine).predict({"x": x[:9]})["label"].tolist() == y_of(model, x[:9])


def y_of(model: Any, x: Any) -> list[Any]:
    return list(model.predict(x))


def test_one_tensor_for_a_model_fitted_on_a_frame(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    frame = pd.DataFrame(x, columns=["a", "b"])
    model = LinearRegression().fit(frame, x.sum(axis=1))
    tried = try_sklearn(tmp_path, model, tabular({"x": x}, {"prediction": model.predict(frame)}))
    assert tried.result.built[1].options["frame"] == ("a", "b")
    assert tried.reason("onnx") == "the same answers"


def test_columns_for_a_model_that_takes_them_side_by_side(tmp_path: Path) -> None:
    frame = FRAME[list(NUMBERS)].fillna({"wind": 9.0})
    bare = RandomForestRegressor(**FOREST).fit(frame, TARGETS["minutes"])
    nameless = RandomForestRegressor(**FOREST).fit(frame.to_numpy(), TARGETS["minutes"])
    for name, model, given in (("a", bare, frame), ("b", nameless, frame.to_numpy())):
        (tmp_path / name).mkdir()
        reference = tabular(to_batch(frame), {"prediction": model.predict(given)})
        tried = try_sklearn(tmp_path / name, model, reference)
        assert tried.reason("onnx") == "the same answers"
        assert tried.reason("sklearn") == "the same answers"
        frames = tried.result.built[1].options["frame"]
        assert frames == (NUMBERS if name == "a" else ())


def test_columns_in_another_order_than_the_model_wants(tmp_path: Path) -> None:
    model = imputed(LogisticRegression(max_iter=500)).fit(FRAME, TARGETS["late"])
    reference = make_reference(model, FRAME)
    turned = {name: reference.inputs[name] for name in reversed(list(reference.inputs))}
    tried = try_sklearn(tmp_path, model, tabular(turned, reference.outputs, [0, 1]))
    assert [field.name for field in tried.signature.inputs] == list(reversed(FRAME.columns))
    assert_same_as_model(tried, "onnx", model, make_edges(FRAME))


@pytest.mark.parametrize("encoder", [one_hot(sparse_output=False), ordinal()])
def test_integers_that_are_categories(tmp_path: Path, encoder: Any) -> None:
    frame = FRAME[["distance", "hour"]]
    columns = make_column_transformer((encoder, ["hour"]), remainder="passthrough")
    model = make_pipeline(columns, HistGradientBoostingClassifier(**BOOST))
    model.fit(frame, TARGETS["late"])
    tried = try_sklearn(tmp_path, model, make_reference(model, frame))
    assert tried.reason("onnx") == "the same answers"
    rare = frame.head(8).assign(hour=[-1, 0, 99, 2**40, 5, 22, 7, 2**24 + 1])
    assert_same_as_model(tried, "onnx", model, rare)


def test_integers_that_float32_cannot_tell_apart(tmp_path: Path) -> None:
    frame = pd.DataFrame({"airport": 2**24 + FRAME["hour"] % 6})
    columns = make_column_transformer((one_hot(sparse_output=False), ["airport"]))
    model = make_pipeline(columns, HistGradientBoostingClassifier(**BOOST))
    model.fit(frame, frame["airport"] % 2)
    tried = try_sklearn(tmp_path, model, make_reference(model, frame))
    assert "differs on" in tried.reason("onnx")
    assert tried.chosen == "sklearn"
    assert_same_as_model(tried, "sklearn", model, frame.head(12))


@pytest.mark.parametrize("final", [SVC(), RidgeClassifier(), LinearSVC(random_state=0)])
def test_a_classifier_without_probabilities(tmp_path: Path, final: Any) -> None:
    model = imputed(final).fit(FRAME, TARGETS["grade"])
    outputs = {"label": model.predict(FRAME)}
    tried = try_sklearn(tmp_path, model, tabular(to_batch(FRAME), outputs, model.classes_.tolist()))
    assert [field.name for field in tried.signature.outputs] == ["label"]
    engines = ["onnx", "sklearn"]
    if isinstance(final, LinearSVC):
        # skl2onnx has no options for it within a pipeline.
        assert "not built: " in tried.reason(engines.pop(0))
    for engine in engines:
        assert tried.reason(engine) == "the same answers"
        assert list(tried.predictor(engine).predict(to_batch(FRAME))) == ["label"]


def test_flags_among_the_columns(tmp_path: Path) -> None:
    frame = FRAME[["distance", "hour"]].assign(rain=FRAME["distance"] % 3 == 0)
    for name, encoder in (("plain", "passthrough"), ("categories", ordinal())):
        columns = make_column_transformer((encoder, ["hour"]), remainder="passthrough")
        model = make_pipeline(columns, HistGradientBoostingClassifier(**BOOST))
        model.fit(frame, TARGETS["late"] ^ frame["rain"])
        (tmp_path / name).mkdir()
        tried = try_sklearn(tmp_path / name, model, make_reference(model, frame))
        assert [each.dtype for each in tried.signature.inputs] == ["int64", "int64", "bool"]
        assert tried.reason("sklearn") == "the same answers"
        assert tried.reason("onnx") == "the same answers" or name != "plain"
        assert_same_as_model(tried, tried.chosen, model, frame.tail(9))


def test_a_transformer(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    model = StandardScaler().fit(x)
    reference = Reference(inputs={"x": x}, outputs={"y": model.transform(x)}, task="tensor")
    tried = try_sklearn(tmp_path, model, reference)
    assert tried.result.built[1].options["method"] == "transform"
    assert tried.reason("onnx") == "the same answers"
    assert tried.reason("sklearn") == "the same answers"


def test_the_likeliest_class_is_the_label_where_that_is_known(tmp_path: Path) -> None:
    from sklearn.model_selection import FixedThresholdClassifier

    for kind in ("plain", "threshold"):
        inner = LogisticRegression(max_iter=500)
        final = inner if kind == "plain" else FixedThresholdClassifier(inner, threshold=0.2)
        model = imputed(final).fit(FRAME, TARGETS["late"])
        (tmp_path / kind).mkdir()
        tried = try_sklearn(tmp_path / kind, model, make_reference(model, FRAME))
        assert tried.reason("sklearn") == "the same answers"
        assert tried.result.built[1].options["argmax"] is (kind == "plain")


def test_a_model_that_cannot_be_called_with_the_recorded_columns(tmp_path: Path) -> None:
    model = imputed(LogisticRegression(max_iter=500)).fit(FRAME, TARGETS["late"])
    reference = make_reference(model, FRAME)
    inputs = {f"the_{name}": array for name, array in reference.inputs.items()}
    with pytest.raises(ValueError, match="columns are missing"):
        try_sklearn(tmp_path, model, tabular(inputs, reference.outputs, [0, 1]))


OWN = """
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

class Logs(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.log1p(np.abs(np.asarray(X, dtype=np.float64)))
"""


def test_classes_of_the_room_travel_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import types

    from headgate.packaging.audit import room_names

    module = tmp_path / "logs.py"
    module.write_text(OWN)
    trained = types.ModuleType("logs")
    monkeypatch.setitem(sys.modules, "logs", trained)
    exec(OWN, vars(trained))  # noqa: S102  # as the training script imported it
    x = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    model = make_pipeline(trained.Logs(), LinearRegression()).fit(x, x[:, 0])
    reference = tabular({"x": x}, {"prediction": model.predict(x)})
    monkeypatch.delitem(sys.modules, "logs")
    (tmp_path / "without").mkdir()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "logs", trained)
        with pytest.raises(UnsafeModelError) as caught:
            try_sklearn(tmp_path / "without", model, reference)
    assert caught.value.what == "opening it would load logs.Logs"
    room = tuple(room_names(module, functions=True))
    tried = try_sklearn(tmp_path, model, reference, module=str(module), room=room)
    assert tried.chosen == "sklearn"
    assert (tried.judged["sklearn"].path / "module.py").read_text() == OWN
    assert "not built: " in tried.reason("onnx")


def test_types_that_only_a_pickle_brought_are_not_written_as_skops(tmp_path: Path) -> None:
    """Allowed in a pickle, where it is checked by name, but on no list of skops."""
    import pickle

    from headgate.packaging.exchange import Job
    from headgate.packaging.signature import signature_of
    from tests.packaging.makers import try_engines

    texts = ["late again", "on time", "very late", "early"] * 10
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    model = LinearRegression().fit(x, x[:, 0])
    model.notes_ = TfidfVectorizer().fit(texts)
    model.strange_ = np.random.default_rng(3).bit_generator.seed_seq
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    reference = tabular({"x": x}, {"prediction": model.predict(x)})
    job = Job(
        flavor="sklearn",
        format="pickle",
        file=str(tmp_path / "model.pkl"),
        signature=signature_of((), reference),
        tolerance=1e-5,
        wanted=("onnx", "sklearn"),
    )
    tried = try_engines(tmp_path / "work", job, reference)
    assert tried.chosen == "onnx"
    assert "skops would load " in tried.reason("sklearn")
