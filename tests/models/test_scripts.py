"""The training scripts as a user runs them, and what packaging makes of what they register."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.config import load_model_config
from headgate.errors import ParityError
from headgate.packaging import package
from headgate.predictor import Manifest, Predictor, Reference, rows_to_batch
from headgate.records import ModelRef
from headgate.registry.versions import Fetched, Versions

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.e2e


class Shelf:
    """The only version of a model in a store, fetched."""

    def __init__(self, uri: str, name: str, folder: Path) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(uri)
        self.room = ROOT / "models" / name
        self.out = folder / "predictor"
        versions = Versions(self.client, folder / "scratch")
        ref = versions.latest(name)
        assert ref is not None
        assert ref.version == "1"
        self.ref: ModelRef = ref
        self.run: Any = self.client.get_run(ref.run_id)
        self.fetched: Fetched = versions.fetch(ref, folder / "fetched")
        self.reference = Reference.load(self.fetched.reference)

    def package(self) -> Manifest:
        config = load_model_config(self.room / "model.toml")
        assert config.name == self.ref.name
        return package(
            self.ref, self.fetched.model, self.reference, config, room=self.room, out=self.out
        )

    def example(self) -> dict[str, Any]:
        """What the packaged model says to the request body in ``examples/``."""
        predictor = Predictor.open(self.out)
        body = json.loads((ROOT / "examples" / f"{self.ref.name}.json").read_bytes())
        assert list(body) == ["instances"]
        batch = rows_to_batch(predictor.signature, body["instances"])
        outputs = predictor.predict(batch)
        assert len(outputs["label"]) == len(body["instances"])
        return outputs


@pytest.fixture
def shelf(run_script: Callable[[Path], Any], tmp_path: Path) -> Callable[..., Shelf]:
    def make(script: str, name: str, says: str) -> Shelf:
        trained = run_script(ROOT / script)
        assert says in trained.output
        return Shelf(trained.uri, name, tmp_path)

    return make


def pins(shelf: Shelf) -> list[str]:
    lines = (shelf.fetched.model / "requirements.txt").read_text().split()
    assert all("==" in line for line in lines), lines
    return [line.partition("==")[0] for line in lines]


def test_flight_delay(shelf: Callable[..., Shelf]) -> None:
    found = shelf("models/flight-delay/train.py", "flight-delay", "9,430 left out")
    metrics, params = found.run.data.metrics, found.run.data.params
    assert 0.7 < metrics["roc_auc"] < 0.76
    for name in ("roc_auc", "average_precision"):
        assert metrics[name] > metrics[f"base_rate_{name}"] + 0.05
    assert params["left_out"] == "9430"
    assert len(params["data_sha256"]) == 64
    assert {"scikit-learn", "pandas", "skops"} <= set(pins(found))
    assert found.reference.rows == 2000
    assert found.reference.labels is not None

    manifest = found.package()
    assert manifest.engine == "onnx"
    assert manifest.parity.mismatched == 0
    assert manifest.parity.rows == 2000
    assert manifest.parity.largest < 1e-6
    nullable = {field.name for field in manifest.signature.inputs if field.nullable}
    assert {"manufacturer", "engine", "plane_age", "wind_gust"} <= nullable
    assert not {"carrier", "origin", "dest", "hour"} & nullable
    assert np.isfinite(found.example()["probabilities"]).all()


def test_digits(shelf: Callable[..., Shelf]) -> None:
    found = shelf("models/digits/train.py", "digits", "accuracy on 360 held-out digits")
    assert found.run.data.metrics["accuracy"] >= 0.975
    assert len(found.run.data.params["data_sha256"]) == 64
    assert "torch" in pins(found)
    reference = found.reference
    assert reference.rows == 360
    assert reference.classes == tuple(range(10))
    right = float((reference.outputs["label"] == reference.labels).mean())
    assert right == pytest.approx(found.run.data.metrics["accuracy"])

    manifest = found.package()
    assert manifest.engine == "onnx"
    assert manifest.parity.mismatched == 0
    (image,) = manifest.signature.inputs
    assert image.shape == (1, 8, 8)
    native = next(each for each in manifest.candidates if each.engine == "torch")
    assert native.parity is not None, native.reason
    assert native.parity.mismatched == 0
    assert found.example()["label"].tolist() == [7]


def test_the_slow_version_is_right_but_slow(shelf: Callable[..., Shelf]) -> None:
    found = shelf("demo/slow.py", "flight-delay", "good enough")
    manifest = found.package()
    assert manifest.parity.mismatched == 0
    chosen = next(each for each in manifest.candidates if each.chosen)
    assert chosen.one_row_ms is not None
    promised = load_model_config(found.room / "model.toml").slo.p95_ms
    assert chosen.one_row_ms > promised, "whatever serves it, one row alone takes longer"


def test_the_skewed_version_is_caught_by_parity(shelf: Callable[..., Shelf]) -> None:
    found = shelf("demo/skewed.py", "flight-delay", "nothing here looks wrong")
    with pytest.raises(ParityError, match=r"rows differ.*got .*probabilities") as caught:
        found.package()
    assert "training-serving skew" in caught.value.remedy
    assert not found.out.exists()
