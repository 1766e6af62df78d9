"""Packaged models that give back what they got: whatever arrives wrong shows in the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper
from serving.asgi import complete_root

from headgate.predictor import Field, Manifest, Parity, Signature, Task, write_artifact
from headgate.records import ModelRef

_ONNX = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "string": TensorProto.STRING,
}


def make_echoes(root: Path, models: dict[str, tuple[Field, ...]], **options: Any) -> Path:
    """A bundle of models of these inputs; each gives them back under the name ``<input>_out``."""
    bundle = root / ".headgate" / "bundle"
    for index, (name, inputs) in enumerate(models.items()):
        write_echo(bundle / str(index), name, inputs, **options)
        room = root / "models" / str(index)
        room.mkdir(parents=True)
        (room / "model.toml").write_text(
            f'name = "{name}"\n\n[slo]\np95_ms = 50\nmin_rps = 20\n', encoding="utf-8"
        )
    entries = [{"name": name, "path": str(index)} for index, name in enumerate(models)]
    (bundle / "bundle.json").write_text(json.dumps({"format": 1, "models": entries}))
    (root / "headgate.toml").write_text("[gate.profiles.quick]\nrate = 50\n")
    return complete_root(root)


def write_echo(
    path: Path,
    name: str,
    inputs: tuple[Field, ...],
    *,
    operation: str = "Identity",
    task: Task = "tensor",
) -> None:
    """One artifact, without reference rows."""
    outputs = tuple(Field(name=f"{f.name}_out", dtype=f.dtype, shape=f.shape) for f in inputs)
    graph = helper.make_graph(
        [helper.make_node(operation, [f.name], [f"{f.name}_out"]) for f in inputs],
        "echo",
        [helper.make_tensor_value_info(f.name, _ONNX[f.dtype], _shape(f)) for f in inputs],
        [helper.make_tensor_value_info(f"{f.name}_out", _ONNX[f.dtype], _shape(f)) for f in inputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    manifest = Manifest(
        ref=ModelRef(name=name, version="7", run_id="0" * 32, digest="sha256:" + "0" * 64),
        engine="onnx",
        signature=Signature(inputs=inputs, outputs=outputs, task=task),
        tolerance=1e-5,
        parity=Parity(rows=0, mismatched=0, largest=0.0),
    )
    write_artifact(path, manifest, {"model.onnx": model.SerializeToString()})


def _shape(field: Field) -> list[int | None]:
    return [None, *(field.shape or (1,))]
