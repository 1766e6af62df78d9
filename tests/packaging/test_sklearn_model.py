"""What converts gives the model's own answers, null and its look-alikes included; what is
silently wrong is found. In this process: test_package.py has the child."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from headgate.errors import ServingError
from headgate.packaging import sklearn_model
from headgate.predictor.engines import sklearn as sklearn_engine
from headgate.predictor.engines.trusted import TRUSTED
from tests.packaging.flights import (
    make_edges,
    make_frame,
    make_reference,
)
from tests.packaging.makers import try_sklearn
from tests.packaging.pipelines import (
    BOOST,
    FOREST,
    FRAME,
    TARGETS,
    assert_same_as_model,
    encoded,
    imputed,
    one_hot,
    ordinal,
)

pytestmark = pytest.mark.usefixtures("unmeasured")

CONVERTING = {
    "boosting, ordinal, two classes": (
        encoded(ordinal(), HistGradientBoostingClassifier(**BOOST)),
        "late",
    ),
    "boosting, ordinal, null by a number": (
        encoded(ordinal(encoded_missing_value=-2), HistGradientBoostingClassifier(**BOOST)),
        "said",
    ),
    "boosting, one-hot, three strings": (
        encoded(one_hot(sparse_output=False), HistGradientBoostingClassifier(**BOOST)),
        "grade",
    ),
    "boosting, regression": (
        encoded(ordinal(), HistGradientBoostingRegressor(**BOOST)),
        "minutes",
    ),
    "forest, two classes": (
        imputed(RandomForestClassifier(**FOREST), scaled=False),
        "said",
    ),
    "forest, ordinal, three numbers": (
        imputed(
            RandomForestClassifier(**FOREST),
            scaled=False,
            encoder=ordinal(encoded_missing_value=9),
        ),
        "number",
    ),
    "forest, regression": (imputed(RandomForestRegressor(**FOREST), scaled=False), "minutes"),
    "logistic, two classes": (imputed(LogisticRegression(max_iter=500)), "late"),
    "logistic, three strings": (imputed(LogisticRegression(max_iter=500)), "grade"),
    "linear": (imputed(LinearRegression()), "minutes"),
    "constant for null": (
        imputed(
            LogisticRegression(max_iter=500),
            encoder=make_pipeline(
                SimpleImputer(strategy="constant", fill_value="missing"), one_hot()
            ),
        ),
        "late",
    ),
    "constant for null, then ordinal": (
        encoded(
            make_pipeline(SimpleImputer(strategy="constant", fill_value="missing"), ordinal()),
            HistGradientBoostingClassifier(**BOOST),
        ),
        "said",
    ),
    "most frequent for null": (
        imputed(
            LogisticRegression(max_iter=500),
            encoder=make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot()),
        ),
        "late",
    ),
}


@pytest.mark.parametrize("name", CONVERTING)
def test_converts_to_the_same_answers(tmp_path: Path, name: str) -> None:
    model, target = CONVERTING[name]
    model.fit(FRAME, TARGETS[target])
    tried = try_sklearn(tmp_path, model, make_reference(model, FRAME))
    for engine in ("onnx", "sklearn"):
        parity = tried.judged[engine].candidate.parity
        assert tried.reason(engine) == "the same answers"
        assert parity is not None
        assert (parity.rows, parity.mismatched) == (600, 0)
        assert parity.probes == 52
    assert_same_as_model(tried, "onnx", model, make_edges(FRAME))
    classes = tried.signature.classes
    assert classes == tuple(getattr(model, "classes_", np.array([])).tolist())


@pytest.mark.parametrize("kind", ["ordinal", "one-hot", "most frequent"])
def test_null_may_be_none_in_the_model(tmp_path: Path, kind: str) -> None:
    """OrdinalEncoder gives None a number like any other category, and NaN the missing value."""
    frame, late = make_frame(None)
    model = {
        "ordinal": encoded(ordinal(), HistGradientBoostingClassifier(**BOOST)),
        "one-hot": imputed(LogisticRegression(max_iter=500)),
        "most frequent": imputed(
            LogisticRegression(max_iter=500),
            encoder=make_pipeline(
                SimpleImputer(strategy="most_frequent", missing_values=None), one_hot()
            ),
        ),
    }[kind].fit(frame, late)
    tried = try_sklearn(tmp_path, model, make_reference(model, frame))
    assert tried.result.built[1].options["null"] == "none"
    assert tried.reason("onnx") == "the same answers"
    assert_same_as_model(tried, "onnx", model, make_edges(frame, None))


def test_what_null_is_is_seen_whatever_the_tolerance(tmp_path: Path) -> None:
    """So that a tolerance too tight is not taken for another model."""
    frame, late = make_frame(None)
    model = encoded(ordinal(), HistGradientBoostingClassifier(**BOOST)).fit(frame, late)
    reference = make_reference(model, frame)
    reference.outputs["probabilities"] += 2e-7
    tried = try_sklearn(tmp_path, model, reference, tolerance=1e-12)
    assert tried.result.built[1].options["null"] == "none"


def test_null_of_the_other_kind_is_not_taken_for_its_name(tmp_path: Path) -> None:
    """NaN and None both seen in training: rows hold only one of them, beside the text "nan"."""
    frame, late = make_frame(None)
    seen = frame.copy()
    seen["carrier"] = seen["carrier"].astype(object)
    rows = np.flatnonzero(seen["carrier"] == "nan")
    seen.loc[rows, "carrier"] = np.nan
    model = encoded(one_hot(sparse_output=False), HistGradientBoostingClassifier(**BOOST))
    model.fit(seen, late)
    tried = try_sklearn(tmp_path, model, make_reference(model, frame))
    assert tried.reason("onnx") == "the same answers"
    assert_same_as_model(tried, "onnx", model, make_edges(frame, None))


WRONG = {
    "a forest that handles null itself": encoded(one_hot(), RandomForestClassifier(**FOREST)),
    "a forest behind a scaler, in float32": imputed(RandomForestClassifier(**FOREST)),
}


@pytest.mark.parametrize("name", WRONG)
def test_silently_wrong_conversions_are_found(tmp_path: Path, name: str) -> None:
    model = WRONG[name].fit(FRAME, TARGETS["late"])
    tried = try_sklearn(tmp_path, model, make_reference(model, FRAME))
    assert tried.result.built[0].refused == ""
    assert "differs on" in tried.reason("onnx")
    assert "of 600 rows" in tried.reason("onnx")
    assert tried.chosen == "sklearn"
    assert_same_as_model(tried, "sklearn", model, make_edges(FRAME))


def test_categorical_features_convert_without_complaint_and_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its preprocessor holds a partial of check_array, which the engine's list may not name."""
    trusted = TRUSTED | {"functools.partial", "sklearn.utils.validation.check_array"}
    for module in (sklearn_model, sklearn_engine):
        monkeypatch.setattr(module, "TRUSTED", trusted)
    boosting = HistGradientBoostingClassifier(categorical_features=[0, 1], **BOOST)
    model = encoded(ordinal(), boosting).fit(FRAME, TARGETS["late"])
    tried = try_sklearn(tmp_path, model, make_reference(model, FRAME))
    assert tried.result.built[0].refused == ""
    assert "differs on" in tried.reason("onnx")
    assert tried.chosen == "sklearn"
    assert_same_as_model(tried, "sklearn", model, make_edges(FRAME))


REFUSING = {
    "one-hot": imputed(LogisticRegression(max_iter=500), encoder=OneHotEncoder()),
    "ordinal": encoded(OrdinalEncoder(), HistGradientBoostingClassifier(**BOOST)),
}


@pytest.mark.parametrize("name", REFUSING)
def test_rows_that_the_model_refuses_are_refused(tmp_path: Path, name: str) -> None:
    """An encoder without ``handle_unknown`` raises on what it never saw."""
    model = REFUSING[name].fit(FRAME, TARGETS["late"])
    tried = try_sklearn(tmp_path, model, make_reference(model, FRAME))
    refused = tried.questions.refused
    assert refused is not None
    assert refused.rows == 32
    for engine, judged in tried.judged.items():
        if not judged.passed:
            assert engine == "onnx"
            continue
        for row in range(0, refused.rows, 5):
            with pytest.raises(ServingError):
                tried.predictor(engine).predict(refused.take(slice(row, row + 1)).inputs)
    assert tried.chosen


def test_a_graph_that_does_not_load_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    model = encoded(ordinal(min_frequency=90), HistGradientBoostingClassifier(**BOOST))
    model.fit(FRAME, TARGETS["late"])
    tried = try_sklearn(tmp_path, model, make_reference(model, FRAME))
    assert tried.reason("onnx").startswith("does not run: [ONNXRuntimeError]")
    assert tried.chosen == "sklearn"
