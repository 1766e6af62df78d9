"""Names are the user's: converters rewrite what is no identifier, and none of it is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from headgate.packaging import package
from headgate.predictor import Predictor, Reference
from tests.packaging.makers import REF, Tried, log_sklearn, make_config, tabular, try_sklearn
from tests.packaging.pipelines import one_hot

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_the_model_of_the_documentation_becomes_onnx(tmp_path: Path, in_process: Any) -> None:
    """docs/your-own-model.md: its columns are called "mean radius" and the like."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X_train, X_test, y_train, _ = train_test_split(X, y, random_state=0)
    model = RandomForestClassifier(100, random_state=0).fit(X_train, y_train)
    reference = tabular(
        {name: X_test[name].to_numpy() for name in X_test},
        {"label": model.predict(X_test), "probabilities": model.predict_proba(X_test)},
        (0, 1),
    )
    folder, out = log_sklearn(tmp_path / "model", model), tmp_path / "out"
    manifest = package(REF, folder, reference, make_config(), room=None, out=out)
    assert {each.engine: each.parity.mismatched for each in manifest.candidates} == {
        "onnx": 0,
        "sklearn": 0,
    }
    assert graph_of(out)["mean radius"] == "tensor(float)"
    predictor = Predictor.open(out)
    assert predictor.engine == "onnx"
    assert predictor.signature.inputs[0].name == "mean radius"


def graph_of(path: Path) -> dict[str, str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path / "model.onnx"))
    return {node.name: node.type for node in session.get_inputs()}


NAMES = {
    "spaces": ["area error", "mean radius", "a  b"],
    "one safe name for all": ["a b", "a_b", "a-b", "a.b", "a b1", "a_b1"],
    "unicode": ["größe", "Gewicht in kg²", "日本 語", "🎈", "ﬁ"],
    "numbers and signs": ["1", "2nd", "+x", "50%", "'", '"', "a/b", "\n", "_", "__"],
    "names of the graph's own": [
        "variable",
        "merged_columns",
        "transformed_column",
        "output_label",
    ],
    "names of its operators": ["Concat", "LinearRegressor", "float_input", "input", "X", "coef"],
    "names of outputs": ["label", "probabilities", "prediction"],
    "and what takes their place": ["prediction", "prediction_in", "prediction_inside", "variable"],
}


def table(names: list[str]) -> pd.DataFrame:
    numbers = np.random.default_rng(0).normal(size=(80, len(names)))
    return pd.DataFrame(numbers, columns=names)


def tried(folder: Path, model: Any, frame: pd.DataFrame) -> Tried:
    inputs = {name: frame[name].to_numpy() for name in frame}
    outputs = {"prediction": model.predict(frame)}
    classes = []
    if hasattr(model, "predict_proba"):
        classes = model.classes_.tolist()
        outputs = {"label": outputs["prediction"], "probabilities": model.predict_proba(frame)}
    return try_sklearn(folder, model, tabular(inputs, outputs, classes))


def weights(frame: pd.DataFrame) -> np.ndarray:
    """Every column counts differently, so that two that change places are found."""
    return frame.to_numpy() @ (1.0 + np.arange(frame.shape[1]))


@pytest.mark.parametrize("kind", NAMES)
def test_a_regressor_keeps_its_columns(tmp_path: Path, kind: str) -> None:
    frame = table(NAMES[kind])
    found = tried(tmp_path, LinearRegression().fit(frame, weights(frame)), frame)
    assert found.reason("onnx") == "the same answers"
    taken = set(graph_of(found.judged["onnx"].path))
    assert taken - {"prediction_in", "prediction_in1"} == set(NAMES[kind]) - {
        "prediction",
        "prediction_in",
    }


@pytest.mark.parametrize("kind", NAMES)
def test_so_does_a_classifier_that_selects_them(tmp_path: Path, kind: str) -> None:
    """Strings beside numbers, one column of them all unused."""
    frame = table(NAMES[kind])
    first, *others = NAMES[kind]
    late = np.where(weights(frame) > 0, "late", "on time")
    frame[first] = pd.Series(np.where(frame[first] > 0, "up", "down"), dtype=object)
    frame["not used"] = 1.0
    columns = make_column_transformer((one_hot(), [first]), ("passthrough", others))
    found = tried(tmp_path, make_pipeline(columns, LogisticRegression()).fit(frame, late), frame)
    assert found.reason("onnx") == "the same answers"
    batch = {name: frame[name].to_numpy()[:5] for name in frame}
    labels = found.predictor("onnx").predict(batch)["label"].tolist()
    assert labels == found.predictor("sklearn").predict(batch)["label"].tolist()


def test_the_manifest_says_which_input_got_another_name(tmp_path: Path) -> None:
    frame = table(["prediction", "x"])
    found = tried(tmp_path, LinearRegression().fit(frame, weights(frame)), frame)
    assert found.predictor("onnx").manifest.options == {"inputs": {"prediction": "prediction_in"}}
    frame = table(["w", "x"])
    folder = tmp_path / "other"
    folder.mkdir()
    found = tried(folder, LinearRegression().fit(frame, weights(frame)), frame)
    assert found.predictor("onnx").manifest.options == {}


def test_one_tensor_of_any_name(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    model = LinearRegression().fit(x, x.sum(axis=1))
    for name in ("the pixels", "prediction"):
        folder = tmp_path / name
        folder.mkdir()
        reference = tabular({name: x}, {"prediction": model.predict(x)})
        assert try_sklearn(folder, model, reference).reason("onnx") == "the same answers"


@pytest.mark.parametrize(
    "names", [("the pixels", "größe"), ("label", "label_in"), ("input 1", "label_index")]
)
def test_a_torch_module_keeps_its_inputs(tmp_path: Path, names: tuple[str, str]) -> None:
    import torch

    from tests.packaging.nets import export, make_net, make_rows, try_torch

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_net()

        def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return self.net(one - 2 * other)

    net, one, other = Two().eval(), make_rows(), make_rows()[::-1].copy()
    file = export(tmp_path / "net.pt2", net, torch.from_numpy(one), torch.from_numpy(other))
    with torch.no_grad():
        likely = torch.softmax(net(torch.from_numpy(one), torch.from_numpy(other)), -1).numpy()
    reference = Reference(
        inputs=dict(zip(names, (one, other), strict=True)),
        outputs={
            "label": np.array(["a", "b", "c", None], dtype=object)[likely.argmax(1)],
            "probabilities": likely,
        },
        task="classification",
        classes=("a", "b", "c"),
    )
    assert try_torch(tmp_path / "w", file, reference, wanted=("onnx",)).reason("onnx") == (
        "the same answers"
    )
