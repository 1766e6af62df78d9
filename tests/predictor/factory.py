"""Small real predictors for tests, made without MLflow: a forest on the breast cancer data
(one float32 tensor of 30 numbers) and a table with strings, nulls and numbers.

Run as a program it writes a bundle: ``python -m tests.predictor.factory ROOT``.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headgate.predictor import (
    Batch,
    Field,
    Manifest,
    Outputs,
    Parity,
    Reference,
    Signature,
    write_artifact,
)
from headgate.records import ModelRef

Kind = Literal["tensor", "table"]
EngineKind = Literal["onnx", "native"]

NAMES = {"tensor": "breast-cancer", "table": "late-flights"}
"""The registered name of each kind."""
CARRIERS = ("UA", "DL", "AA", "B6")


def make_artifact(
    path: Path,
    kind: Kind = "tensor",
    engine: EngineKind = "onnx",
    *,
    name: str | None = None,
    version: str = "1",
    reference_rows: int = 64,
) -> Path:
    """Write a predictor artifact to ``path``, whose folder is made; returns ``path``."""
    built = _built(kind, engine, reference_rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(built, path)
    manifest = json.loads((path / "predictor.json").read_text())
    manifest["ref"]["name"] = name or NAMES[kind]
    manifest["ref"]["version"] = version
    (path / "predictor.json").write_text(json.dumps(manifest, indent=2))
    return path


def make_bundle(
    root: Path, kinds: tuple[Kind, ...] = ("tensor", "table"), engine: EngineKind = "onnx"
) -> Path:
    """Write ``root/.headgate/bundle``, ``root/models/*/model.toml`` and ``root/headgate.toml``."""
    bundle = root / ".headgate" / "bundle"
    for kind in kinds:
        name = NAMES[kind]
        make_artifact(bundle / name, kind, engine)
        room = root / "models" / name.replace("-", "_")
        room.mkdir(parents=True)
        (room / "model.toml").write_text(
            f'name = "{name}"\n\n[slo]\np95_ms = 50\nmin_rps = 20\n\n'
            f"[serving]\ndeadline_ms = 2000\n"
        )
    models = [{"name": NAMES[kind], "path": NAMES[kind]} for kind in kinds]
    (bundle / "bundle.json").write_text(json.dumps({"format": 1, "models": models}))
    (root / "headgate.toml").write_text("[gate.profiles.quick]\nrate = 50\n")
    return root


def forest() -> tuple[Any, np.ndarray, np.ndarray]:
    """A fitted forest of 20 trees and the data: float32 ``(569, 30)`` and labels 0 or 1."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_breast_cancer(return_X_y=True)
    x = x.astype(np.float32)
    model = RandomForestClassifier(20, max_depth=6, random_state=0, n_jobs=1).fit(x, y)
    return model, x, y


def table_frame(rows: int = 400) -> tuple[Any, np.ndarray]:
    """A data frame with strings, nulls and numbers, and labels ``"late"`` or ``"on time"``."""
    import pandas as pd

    random = np.random.default_rng(0)
    carrier = random.choice(np.array([*CARRIERS, None], dtype=object), rows)
    distance = random.integers(100, 3000, rows)
    wind = np.where(random.random(rows) < 0.1, np.nan, random.gamma(2, 5, rows).round(1))
    score = np.nan_to_num(wind, nan=9) / 8 + (carrier == "B6") - distance / 2000
    frame = pd.DataFrame({"carrier": carrier, "distance": distance, "wind": wind})
    return frame, np.where(score + random.normal(0, 0.4, rows) > 0.5, "late", "on time")


def table_pipeline() -> Any:
    """An unfitted pipeline for :func:`table_frame`."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    columns = ColumnTransformer(
        [
            ("carrier", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
            ("distance", "passthrough", ["distance"]),
            ("wind", SimpleImputer(strategy="median"), ["wind"]),
        ]
    )
    return make_pipeline(columns, RandomForestClassifier(10, max_depth=5, random_state=0, n_jobs=1))


TABLE_SIGNATURE = Signature(
    inputs=(
        Field(name="carrier", dtype="string", nullable=True),
        Field(name="distance", dtype="int64"),
        Field(name="wind", dtype="float64", nullable=True),
    ),
    outputs=(
        Field(name="label", dtype="string"),
        Field(name="probabilities", dtype="float32", shape=(2,)),
    ),
    task="classification",
    classes=("late", "on time"),
)
TENSOR_SIGNATURE = Signature(
    inputs=(Field(name="x", dtype="float32", shape=(30,)),),
    outputs=(
        Field(name="label", dtype="int64"),
        Field(name="probabilities", dtype="float32", shape=(2,)),
    ),
    task="classification",
    classes=(0, 1),
)


@functools.cache
def _built(kind: Kind, engine: EngineKind, reference_rows: int) -> Path:
    """An artifact built once a process; callers copy it."""
    signature = TENSOR_SIGNATURE if kind == "tensor" else TABLE_SIGNATURE
    model, batch, features = _tensor() if kind == "tensor" else _table()
    outputs: Outputs = {
        "label": model.predict(features).astype(signature.outputs[0].numpy),
        "probabilities": model.predict_proba(features).astype(np.float32),
    }
    reference = Reference(
        inputs=batch, outputs=outputs, task="classification", classes=signature.classes
    )
    if engine == "onnx":
        files, options = {"model.onnx": _onnx(model, kind)}, {}
    else:
        import skops.io

        files = {"model.skops": skops.io.dumps(model)}
        frame = [field.name for field in signature.inputs] if kind == "table" else []
        options = {"frame": frame, "argmax": True}
    target = Path(tempfile.mkdtemp(prefix="headgate-factory-")) / "artifact"
    write_artifact(
        target,
        Manifest(
            ref=ModelRef(
                name=NAMES[kind], version="1", run_id="0" * 32, digest="sha256:" + "0" * 64
            ),
            engine="onnx" if engine == "onnx" else "sklearn",
            options=options,
            signature=signature,
            tolerance=1e-5,
            parity=Parity(rows=reference.rows, mismatched=0, largest=0.0),
        ),
        files,
        reference.sample(reference_rows) if reference_rows else None,
    )
    return target


def _tensor() -> tuple[Any, Batch, Any]:
    model, x, _ = forest()
    return model, {"x": x}, x


def _table() -> tuple[Any, Batch, Any]:
    frame, labels = table_frame()
    model = table_pipeline().fit(frame, labels)
    batch = {name: frame[name].to_numpy() for name in ("distance", "wind")}
    carrier = frame["carrier"]
    strings = np.where(carrier.isna(), None, carrier.astype(object)).astype(object)
    return model, {"carrier": strings, **batch}, frame


def _onnx(model: Any, kind: Kind) -> bytes:
    import copy

    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    from headgate.predictor.engines.onnx import NULL

    number = FloatTensorType([None, 1])
    if kind == "tensor":
        types = [("x", FloatTensorType([None, 30]))]
    else:
        types = [("carrier", StringTensorType([None, 1])), ("distance", number), ("wind", number)]
        model = copy.deepcopy(model)
        encoder = model[0].named_transformers_["carrier"]
        known = encoder.categories_[0]
        encoder.categories_ = [
            np.array([c if isinstance(c, str) else NULL for c in known], dtype=object)
        ]
    proto = to_onnx(model, initial_types=types, options={"zipmap": False}, target_opset=17)
    for node, name in zip(proto.graph.output, ("label", "probabilities"), strict=True):
        assert node.name == name or _rename(proto, node.name, name)
    return proto.SerializeToString()


def _rename(proto: Any, old: str, new: str) -> bool:
    for node in proto.graph.node:
        node.output[:] = [new if output == old else output for output in node.output]
        node.input[:] = [new if value == old else value for value in node.input]
    for output in proto.graph.output:
        output.name = new if output.name == old else output.name
    return True


if __name__ == "__main__":
    make_bundle(Path(sys.argv[1]))
