"""Unconverted models: own list of types, own source, no pickle; broken trees are refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from predictor.factory import TABLE_SIGNATURE, forest, make_artifact

from headgate.errors import ArtifactError
from headgate.predictor import (
    Field,
    Manifest,
    Parity,
    Predictor,
    Signature,
    rows_to_batch,
    write_artifact,
)
from headgate.predictor.engines.source import load_source, names_of
from headgate.predictor.engines.trusted import check_trees
from headgate.records import ModelRef

ROOT = Path(__file__).parents[2]
REF = ModelRef(name="net", version="3", run_id="r", digest="sha256:0")
SOURCE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.tied = self.layer

    def forward(self, x):
        return self.layer(x)
"""


def torch_artifact(path: Path, source: str = SOURCE, **options: object) -> torch.nn.Module:
    from safetensors.torch import save_model

    file = path.parent / "net.py"
    file.write_text(source)
    torch.manual_seed(0)
    module = load_source(file).Net()
    save_model(module, str(path.parent / "weights"))
    signature = Signature(
        inputs=(Field(name="x", dtype="float32", shape=(3,)),),
        outputs=(
            Field(name="label", dtype="string"),
            Field(name="probabilities", dtype="float32", shape=(2,)),
        ),
        task="classification",
        classes=("no", "yes"),
    )
    write_artifact(
        path,
        Manifest(
            ref=REF,
            engine="torch",
            signature=signature,
            tolerance=1e-5,
            parity=Parity(rows=0, mismatched=0, largest=0),
            options=options,
        ),
        {"model.safetensors": path.parent / "weights", "module.py": source.encode()},
    )
    return module


def test_torch_serves_weights_and_source(tmp_path) -> None:
    module = torch_artifact(tmp_path / "a")
    predictor = Predictor.open(tmp_path / "a", threads=1)
    assert torch.get_num_threads() == 1
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    x.setflags(write=False)
    outputs = predictor.predict({"x": x})
    with torch.inference_mode():
        expected = torch.softmax(module(torch.tensor(x)), -1).numpy()
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    assert outputs["label"].tolist() == [("no", "yes")[i] for i in expected.argmax(1)]
    assert list(tmp_path.rglob("__pycache__")) == []


def test_torch_can_take_the_answer_as_probabilities(tmp_path) -> None:
    module = torch_artifact(tmp_path / "a", probabilities="identity")
    x = np.ones((1, 3), dtype=np.float32)
    outputs = Predictor.open(tmp_path / "a").predict({"x": x})
    with torch.inference_mode():
        np.testing.assert_allclose(outputs["probabilities"], module(torch.tensor(x)).numpy())


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (SOURCE.replace("Linear(3, 2)", "Linear(3, 3)"), "the weights do not fit"),
        (SOURCE + "\nclass Other(torch.nn.Module): ...\n", "2 classes of torch.nn.Module"),
        ("import torch\n", "0 classes of torch.nn.Module"),
        (SOURCE.replace("def __init__(self)", "def __init__(self, width)"), "1 classes"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(tmp_path, source, says) -> None:
    torch_artifact(tmp_path / "a")
    (tmp_path / "a" / "module.py").write_text(source)
    rehash(tmp_path / "a")
    with pytest.raises(ArtifactError, match=says) as caught:
        Predictor.open(tmp_path / "a")
    assert caught.value.remedy


def test_build_wins_over_classes(tmp_path) -> None:
    source = SOURCE + "\nclass Other(torch.nn.Module): ...\n\ndef build():\n    return Net()\n"
    torch_artifact(tmp_path / "a", source)
    assert Predictor.open(tmp_path / "a").engine == "torch"


def test_torch_on_a_gpu_that_is_not_there_is_said(tmp_path, monkeypatch) -> None:
    torch_artifact(tmp_path / "a")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArtifactError, match="torch sees no GPU"):
        Predictor.open(tmp_path / "a", device="cuda")


def rehash(path: Path) -> None:
    """Make an altered artifact pass for whole, as somebody who could alter it would."""
    from headgate.predictor.artifact import _hashes

    manifest = json.loads((path / "predictor.json").read_text())
    manifest["files"] = _hashes(path)
    (path / "predictor.json").write_text(json.dumps(manifest))


class Evil:
    def __reduce__(self):
        import os

        return os.getpid, ()


@pytest.mark.parametrize("kind", ["function", "class"])
def test_skops_types_that_nobody_reviewed_are_refused(tmp_path, kind) -> None:
    import os

    import skops.io
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    path = make_artifact(tmp_path / "a", "tensor", "native")
    model, _, _ = forest()
    step = FunctionTransformer(os.system) if kind == "function" else Evil()
    content = skops.io.dumps(make_pipeline(step, model))
    (path / "model.skops").write_bytes(content)
    rehash(path)
    with pytest.raises(ArtifactError, match="Untrusted") as caught:
        Predictor.open(path)
    assert "\n" not in str(caught.value)


def test_a_models_own_classes_come_from_its_source(tmp_path) -> None:
    import skops.io
    from sklearn.pipeline import make_pipeline

    path = make_artifact(tmp_path / "a", "tensor", "native")
    source = (
        "from sklearn.base import BaseEstimator, TransformerMixin\n\n"
        "class Halve(TransformerMixin, BaseEstimator):\n"
        "    def fit(self, X, y=None): return self\n"
        "    def transform(self, X): return X / 2\n"
        "    def __sklearn_is_fitted__(self): return True\n"
    )
    (tmp_path / "own.py").write_text(source)
    own = load_source(tmp_path / "own.py")
    assert names_of(own) == {f"{own.__name__}.Halve"}
    model, x, y = forest()
    pipeline = make_pipeline(own.Halve(), model).fit(x, y)
    (path / "model.skops").write_bytes(skops.io.dumps(pipeline))
    rehash(path)
    with pytest.raises(ArtifactError, match="Untrusted"):
        Predictor.open(path)
    (path / "module.py").write_text(source)
    rehash(path)
    outputs = Predictor.open(path).predict({"x": x[:9]})
    assert outputs["label"].tolist() == pipeline.predict(x[:9]).tolist()


def broken_forest(damage: str):
    model, _, _ = forest()
    tree = model.estimators_[3].tree_
    state = tree.__getstate__()
    nodes = state["nodes"].copy()
    inner = int(np.flatnonzero(nodes["left_child"] != -1)[-1])
    column, value = {
        "outside": ("left_child", 10**6),
        "back": ("right_child", 0),
        "feature": ("feature", 500),
        "negative": ("left_child", -7),
    }[damage]
    nodes[column][inner] = value
    tree.__setstate__({**state, "nodes": nodes})
    return model


@pytest.mark.parametrize("damage", ["outside", "back", "feature", "negative"])
def test_trees_that_point_outside_themselves_are_refused(damage) -> None:
    with pytest.raises(ValueError, match="a tree"):
        check_trees(broken_forest(damage))


def test_boosted_trees_are_checked_too() -> None:
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier

    _, x, y = forest()
    few = HistGradientBoostingClassifier(max_iter=5).fit(x[:, :4], y)
    assert check_trees(few) == 5
    assert check_trees(GradientBoostingClassifier(n_estimators=4).fit(x[:, :4], y)) == 4
    nodes = few._predictors[2][0].nodes
    for column, value in (("left", 10**6), ("right", 0), ("feature_idx", 4)):
        kept = nodes[column][0]
        nodes[column][0] = value
        with pytest.raises(ValueError, match="a tree"):
            check_trees(few)
        nodes[column][0] = kept
    assert check_trees(few) == 5


def test_a_tree_out_of_place_is_refused() -> None:
    model, _, _ = forest()
    model.stray = model.estimators_[0].tree_
    assert check_trees(model) == 20
    model.estimators_[0].tree_ = None
    with pytest.raises(ValueError, match="belongs to no estimator"):
        check_trees(model)


def test_equal_sources_are_one_module_and_broken_ones_none(tmp_path) -> None:
    import sys

    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("class A: ...\n")
    assert load_source(tmp_path / "a.py") is load_source(tmp_path / "b.py")
    (tmp_path / "c.py").write_text("class B: ...\n1 / 0\n")
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        load_source(tmp_path / "c.py")
    assert set(sys.modules) == before


ONLY_WHAT_SERVES = """
import importlib.metadata, json, pathlib, re, sys

pinned, path, batch = json.loads(sys.argv[1])
owners = importlib.metadata.packages_distributions()
plain = lambda name: re.sub("[-_.]+", "-", name).lower()
missing = {top for top, names in owners.items() if not {*pinned} & {*map(plain, names)}}
missing -= {"headgate"}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())

from headgate.predictor import Predictor, rows_to_batch

predictor = Predictor.open(pathlib.Path(path))
rows = rows_to_batch(predictor.signature, batch)
print(json.dumps(predictor.predict(rows)["label"].tolist()))
assert "mlflow" in missing and "torch" in missing
"""


def pins(name: str) -> dict[str, str]:
    """What one of the lists under requirements/ pins: distribution → version."""
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    found = (re.match(r"([\w.-]+)==(\S+)", line) for line in lines)
    return {canonicalize_name(each[1]): each[2] for each in found if each}


def test_a_native_table_opens_where_only_what_is_pinned_is_installed(tmp_path) -> None:
    path = make_artifact(tmp_path / "a", "table", "native")
    rows = [{"carrier": name, "distance": 700, "wind": None} for name in ("B6", "never seen", None)]
    expected = Predictor.open(path).predict(rows_to_batch(TABLE_SIGNATURE, rows))["label"]
    installed = [*pins("serve.txt"), *pins("serve-sklearn.txt")]
    asked = json.dumps([installed, str(path), rows])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ONLY_WHAT_SERVES, asked],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected.tolist()


@pytest.mark.parametrize("engine", ["sklearn"])
def test_an_engines_extra_and_its_pins_install_the_same(engine) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = list(extras["optional-dependencies"][engine])
    wanted: set[str] = set()
    while waiting:
        needed = Requirement(waiting.pop())
        name = canonicalize_name(needed.name)
        if name in wanted or (needed.marker and not needed.marker.evaluate({"extra": ""})):
            continue
        wanted.add(name)
        waiting += metadata.requires(name) or []
    pinned, everywhere = pins(f"serve-{engine}.txt"), pins("constraints.txt")
    assert wanted - pins("serve.txt").keys() == pinned.keys()
    assert {name: everywhere[name] for name in pinned} == pinned
