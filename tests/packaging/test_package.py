"""From a model that MLflow logged to an artifact, or to one clear refusal.

Tests that do not take ``in_process`` go through a child.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

from headgate.errors import PackagingError, ParityError, UnsafeModelError
from headgate.packaging import package, reference_of
from headgate.predictor import Predictor, Reference
from tests.packaging.flights import STRINGS, make_frame, make_reference
from tests.packaging.makers import (
    REF,
    log_sklearn,
    make_config,
    tabular,
    write_mlmodel,
    write_pickled,
)
from tests.packaging.streams import call, named, text, value, whole


@functools.cache
def flights() -> tuple[Any, Reference]:
    frame, late = make_frame()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, list(STRINGS)), remainder="passthrough")
    boosting = HistGradientBoostingClassifier(max_iter=10, random_state=0)
    model = make_pipeline(columns, boosting).fit(frame, late)
    return model, make_reference(model, frame)


@functools.cache
def forest() -> tuple[Any, Reference]:
    """It handles null itself, its conversion does not, and does not complain."""
    frame, late = make_frame()
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((encoder, list(STRINGS)), remainder="passthrough")
    trees = RandomForestClassifier(10, max_depth=5, random_state=0)
    model = make_pipeline(columns, trees).fit(frame, late)
    return model, make_reference(model, frame)


def linear() -> tuple[Any, Reference]:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    model = LinearRegression().fit(x, x.sum(axis=1))
    return model, tabular({"x": x}, {"prediction": model.predict(x)})


def test_a_pipeline_becomes_an_artifact(tmp_path: Path, left) -> None:
    model, reference = flights()
    folder = log_sklearn(tmp_path / "model", model)
    out = tmp_path / "out" / "artifact"
    manifest = package(REF, folder, reference, make_config(), room=None, out=out)
    assert manifest.engine == "onnx"
    assert manifest.ref == REF
    assert manifest.source["flavor"] == "sklearn"
    assert manifest.source["format"] == "skops"
    assert (manifest.parity.rows, manifest.parity.mismatched) == (600, 0)
    chosen, other = manifest.candidates
    assert (chosen.chosen, chosen.reason) == (True, "the same answers, and the fastest")
    assert (other.chosen, other.reason) == (False, "the same answers, but slower")
    assert left(tmp_path / "out") == ["artifact"]
    predictor = Predictor.open(out)
    assert predictor.manifest == manifest
    assert predictor.reference is not None
    assert predictor.reference.rows == 256
    assert predictor.reference.labels is None
    assert predictor.replay().mismatched == 0


def test_a_silently_wrong_conversion_is_told_and_not_taken(tmp_path: Path, in_process: Any) -> None:
    model, reference = forest()
    folder, out = log_sklearn(tmp_path / "model", model), tmp_path / "out"
    manifest = package(REF, folder, reference, make_config(), room=None, out=out)
    assert manifest.engine == "sklearn"
    onnx, native = manifest.candidates
    assert onnx.reason.startswith("differs on ")
    assert onnx.reason.endswith(f"of 600 rows, by up to {onnx.parity.largest:.3g}")
    assert onnx.parity.mismatched > 0
    assert not onnx.chosen
    assert native.chosen
    assert Predictor.open(out).replay().mismatched == 0


def test_categorical_features_are_served_unconverted(tmp_path: Path, in_process: Any) -> None:
    frame, late = make_frame()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, list(STRINGS)), remainder="passthrough")
    boosting = HistGradientBoostingClassifier(max_iter=10, categorical_features=[0, 1])
    model = make_pipeline(columns, boosting).fit(frame, late)
    folder = log_sklearn(tmp_path / "model", model)
    manifest = package(
        REF, folder, make_reference(model, frame), make_config(), room=None, out=tmp_path / "out"
    )
    assert manifest.engine == "sklearn"
    assert manifest.candidates[0].reason.startswith("differs on ")


def test_private_rows_stay_where_they_are(tmp_path: Path, in_process: Any) -> None:
    model, reference = linear()
    folder, out = log_sklearn(tmp_path / "model", model), tmp_path / "out"
    config = make_config(reference_rows=0, engine="native")
    manifest = package(REF, folder, reference, config, room=None, out=out)
    assert in_process[0].wanted == ("sklearn",)
    assert set(manifest.files) == {"model.skops"}
    assert Predictor.open(out).reference is None


def test_other_preprocessing_is_training_serving_skew(
    tmp_path: Path, in_process: Any, left
) -> None:
    """The reference was made of miles, the model trained on kilometres."""
    model, reference = flights()
    skewed = {**reference.inputs, "distance": (reference.inputs["distance"] * 1.609).astype(int)}
    folder, out = log_sklearn(tmp_path / "model", model), tmp_path / "out" / "artifact"
    with pytest.raises(ParityError) as caught:
        package(
            REF,
            folder,
            tabular(skewed, reference.outputs, (0, 1)),
            make_config(),
            room=None,
            out=out,
        )
    assert caught.value.where == "late-flights version 3"
    assert "does not give the recorded predictions" in caught.value.what
    assert " of 600 rows differ, by up to 0." in caught.value.what
    for part in ("distance=", "recorded label=", "got label=", "probabilities=["):
        assert part in caught.value.what
    assert "training-serving skew" in caught.value.remedy
    assert "log one pipeline that takes the raw columns" in caught.value.remedy
    assert left(tmp_path / "out") == []


def test_no_engine_that_is_asked_for_gives_the_answers(
    tmp_path: Path, in_process: Any, left
) -> None:
    model, reference = forest()
    folder, out = log_sklearn(tmp_path / "model", model), tmp_path / "out" / "artifact"
    with pytest.raises(ParityError) as caught:
        package(REF, folder, reference, make_config(engine="onnx"), room=None, out=out)
    assert "no engine gives the recorded predictions — onnx: differs on" in caught.value.what
    assert "the first is row " in caught.value.what
    assert "carrier=" in caught.value.what
    assert 'engine = "auto" instead of "onnx"' in caught.value.remedy
    assert "packaging.tolerance" in caught.value.remedy
    assert left(tmp_path / "out") == []


def apart(reference: Reference, by: float) -> Reference:
    """The same predictions, as another order of additions might have given them."""
    outputs = {"prediction": reference.outputs["prediction"] + by}
    return tabular(reference.inputs, outputs)


def test_a_tolerance_that_the_model_itself_misses_is_no_skew(
    tmp_path: Path, in_process: Any, left
) -> None:
    model, reference = linear()
    folder, out = log_sklearn(tmp_path / "model", model), tmp_path / "out" / "artifact"
    recorded, config = apart(reference, 2e-7), make_config(tolerance=1e-12)
    with pytest.raises(ParityError) as caught:
        package(REF, folder, recorded, config, room=None, out=out)
    assert caught.value.what.startswith("packaging.tolerance = 1e-12 is tighter than")
    assert "50 of 50 rows, by up to" in caught.value.what
    assert "set packaging.tolerance in its model.toml above" in caught.value.remedy
    assert "1e-05" in caught.value.remedy
    assert "skew" not in str(caught.value)
    assert left(tmp_path / "out") == []
    with pytest.raises(ParityError, match="differ, by up to") as caught:
        package(REF, folder, apart(reference, 0.1), config, room=None, out=out)
    assert "skew" in caught.value.remedy
    assert package(REF, folder, recorded, make_config(), room=None, out=out).engine


def test_a_tolerance_that_onnx_misses_is_named(tmp_path: Path, in_process: Any) -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    model = LinearRegression().fit(x, x.sum(axis=1))
    reference = tabular({"x": x}, {"prediction": model.predict(x)})
    folder, out = log_sklearn(tmp_path / "model", model), tmp_path / "out"
    config = make_config(tolerance=1e-12, engine="onnx")
    with pytest.raises(ParityError, match=r"onnx: differs on .*tolerance = 1e-12") as caught:
        package(REF, folder, reference, config, room=None, out=out)
    assert "set packaging.tolerance in its model.toml above" in caught.value.remedy
    assert 'packaging.engine = "native"' in caught.value.remedy
    native = make_config(tolerance=1e-12, engine="native")
    assert package(REF, folder, reference, native, room=None, out=out).engine == "sklearn"


def test_no_engine_can_be_built(tmp_path: Path, in_process: Any) -> None:
    from sklearn.isotonic import IsotonicRegression

    x = np.random.default_rng(0).normal(size=(60, 1)).astype(np.float32)
    model = IsotonicRegression(out_of_bounds="clip").fit(x, x[:, 0])
    folder = log_sklearn(tmp_path / "model", model)
    reference = tabular({"x": x}, {"prediction": model.predict(x)})
    with pytest.raises(PackagingError, match="onnx: not built: ") as caught:
        package(
            REF,
            folder,
            reference,
            make_config(engine="onnx"),
            room=None,
            out=tmp_path / "out",
        )
    assert not isinstance(caught.value, ParityError)


OWN = """
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

class Shifts(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.shift_ = float(np.mean(X))
        return self

    def transform(self, X):
        return X - self.shift_
"""


def test_a_pickled_model_with_a_class_of_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "shifts.py").write_text(OWN)
    trained = types.ModuleType("shifts")
    exec(OWN, vars(trained))  # noqa: S102
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "shifts", trained)
        model = make_pipeline(trained.Shifts(), LinearRegression()).fit(x, x[:, 0])
        folder = log_sklearn(tmp_path / "model", model, "pickle")
    reference = tabular({"x": x}, {"prediction": model.predict(x)})
    config, out = make_config(module="shifts.py"), tmp_path / "out"
    manifest = package(REF, folder, reference, config, room=room, out=out)
    assert manifest.engine == "sklearn"
    assert set(manifest.files) >= {"model.skops", "module.py"}
    assert manifest.source["format"] == "pickle"
    assert Predictor.open(out).replay().mismatched == 0
    with pytest.raises(UnsafeModelError, match=r"would import shifts\.Shifts"):
        package(REF, folder, reference, make_config(), room=room, out=tmp_path / "again")


def test_a_cloudpickled_model(tmp_path: Path, in_process: Any) -> None:
    model, reference = linear()
    folder = log_sklearn(tmp_path / "model", model, "cloudpickle")
    config, out = make_config(engine="onnx"), tmp_path / "out"
    assert package(REF, folder, reference, config, room=None, out=out).engine == "onnx"


class Reduced:
    """Unpickles as the call of a function with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


def harms(marker: Path) -> dict[str, bytes]:
    import subprocess

    touch = f"touch {marker}"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    model, _ = linear()
    model.note_ = Reduced(os.system, touch)
    return {
        "os.system": pickle.dumps(Reduced(os.system, touch)),
        "os.system, protocol 0": pickle.dumps(Reduced(os.system, touch), 0),
        "deep in a model": pickle.dumps(model),
        "subprocess": pickle.dumps(Reduced(subprocess.check_call, ["touch", str(marker)])),
        "eval": pickle.dumps(Reduced(eval, code)),
        "exec": pickle.dumps(Reduced(exec, code)),
        "on the stack": whole(call(named("builtins", "eval", on_stack=True), text(code))),
        "outside of the list": pickle.dumps(Reduced(marker.write_text, "x")),
        "another pickle": pickle.dumps(Reduced(pickle.loads, pickle.dumps(1))),
        "by attribute": whole(call(named("builtins", "getattr"), value(0), text("real"))),
        "dotted": whole(call(named("pathlib", "Path.touch", on_stack=True), text(str(marker)))),
        "behind its end": pickle.dumps(1) + pickle.dumps(Reduced(os.system, touch)),
    }


@pytest.mark.parametrize("kind", harms(Path("marker")))
def test_malicious_pickles_are_refused_and_not_run(tmp_path: Path, left, kind: str) -> None:
    marker = tmp_path / "marker"
    folder = write_pickled(tmp_path / "model", harms(marker)[kind])
    _, reference = linear()
    with pytest.raises(UnsafeModelError) as caught:
        package(REF, folder, reference, make_config(), room=None, out=tmp_path / "out")
    assert caught.value.where == str(folder / "model.pkl")
    assert "log it with a format that needs no pickle" in caught.value.remedy
    assert not marker.exists()
    assert left(tmp_path) == ["model"]


def test_the_harm_is_real(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for kind in ("os.system", "subprocess", "eval", "exec", "on the stack", "outside of the list"):
        pickle.loads(harms(marker)[kind])  # noqa: S301
        assert marker.exists(), kind
        marker.unlink()


def test_a_skops_file_does_not_say_itself_what_to_trust(
    tmp_path: Path, in_process: Any, left
) -> None:
    model, reference = linear()
    harmful = make_pipeline(FunctionTransformer(os.system), model)
    folder = log_sklearn(tmp_path / "model", harmful)
    assert "posix.system" in (folder / "MLmodel").read_text()
    with pytest.raises(UnsafeModelError) as caught:
        package(REF, folder, reference, make_config(), room=None, out=tmp_path / "out")
    assert caught.value.what == "opening it would load posix.system"
    assert caught.value.where == str(folder / "model.skops")
    assert "packaging.module" in caught.value.remedy
    assert left(tmp_path) == ["model"]


def test_torch_is_served_from_weights_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.packaging.nets import (
        SOURCE,
        classified,
        log_torch,
        make_net,
        make_rows,
        write_source,
    )

    module = write_source(tmp_path / "room")
    net, x = make_net(), make_rows()
    log_torch(tmp_path / "model", net, monkeypatch)
    config = make_config(module=module.name, engine="native")
    out = tmp_path / "out"
    manifest = package(
        REF, tmp_path / "model", classified(net, x), config, room=module.parent, out=out
    )
    assert manifest.engine == "torch"
    assert manifest.source["format"] == "torch"
    assert (out / "module.py").read_text() == SOURCE
    assert Predictor.open(out).replay().mismatched == 0


def test_a_reference_without_rows(tmp_path: Path) -> None:
    reference = tabular({"x": np.zeros((0, 2))}, {"prediction": np.zeros(0)})
    with pytest.raises(PackagingError, match="its reference has no rows") as caught:
        package(REF, tmp_path, reference, make_config(), room=None, out=tmp_path / "out")
    assert caught.value.where == "late-flights version 3"


@pytest.mark.parametrize("name", ["none.py", "../outside.py", "."])
def test_a_module_that_is_no_file_of_the_room(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.py").write_text("")
    (tmp_path / "room").mkdir()
    folder = write_pickled(tmp_path / "model", pickle.dumps(1))
    _, reference = linear()
    with pytest.raises(PackagingError, match="which is no file there") as caught:
        package(
            REF,
            folder,
            reference,
            make_config(module=name),
            room=tmp_path / "room",
            out=tmp_path / "out",
        )
    assert caught.value.where == str(tmp_path / "room" / "model.toml")


def test_an_unknown_flavor(tmp_path: Path) -> None:
    folder = write_mlmodel(tmp_path / "model", xgboost={})
    _, reference = linear()
    with pytest.raises(PackagingError, match="its flavors are xgboost"):
        package(REF, folder, reference, make_config(), room=None, out=tmp_path / "out")


def test_the_gates_rows_are_all_of_them(tmp_path: Path, in_process: Any) -> None:
    model, reference = linear()
    folder, out = log_sklearn(tmp_path / "model", model), tmp_path / "out"
    config = make_config(engine="native", reference_rows=5)
    manifest = package(REF, folder, reference, config, room=None, out=out)
    reference.save(tmp_path / "reference")
    fetched = types.SimpleNamespace(model=folder, reference=tmp_path / "reference")
    assert reference_of(fetched, manifest).rows == 50
    assert Predictor.open(out).reference.rows == 5
