"""ONNX Runtime on CPU: what most models become, and the cheapest call there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headgate.errors import ArtifactError

if TYPE_CHECKING:
    from headgate.predictor.artifact import Manifest
    from headgate.predictor.signature import Array, Batch, Field, Outputs

__all__ = ["MODEL", "NULL", "OnnxEngine", "OnnxOptions"]

MODEL = "model.onnx"
NULL = "\ue000null\ue000"
"""What null is inside the graph: ONNX strings have none. Private-use characters, so that no
text means it; one that spells it out all the same becomes :data:`_NOT_NULL`."""
_NOT_NULL = "\ue000text\ue000"

_TYPES = {
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(string)": np.dtype(object),
}

Convert = Callable[["Array"], "Array"]


class OnnxOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the manifest's ``options`` hold for this engine."""

    inputs: dict[str, str] = {}
    """The graph's name of an input, where an output has the input's own; else they are the same."""


class OnnxEngine:
    """One session; ONNX Runtime allows concurrent runs of it."""

    def __init__(self, path: Path, manifest: Manifest, threads: int, device: str = "cpu") -> None:
        """Raises :class:`ArtifactError` where the graph does not fit the signature."""
        import onnxruntime as ort

        self._session = session = ort.InferenceSession(
            str(path / MODEL), _options(ort, threads), providers=_providers(ort, path, device)
        )
        # Its Python wrapper checks every call again: 2 of 13 µs for one row of a small forest.
        self._run: Any = getattr(session, "_sess", session).run
        graph = {node.name: node.type for node in session.get_inputs()}
        others = msgspec.convert(manifest.options, OnnxOptions).inputs
        fields = [
            (others.get(field.name, field.name), field) for field in manifest.signature.inputs
        ]
        self._names = [field.name for field in manifest.signature.outputs]
        produced = {node.name for node in session.get_outputs()}
        if graph.keys() != {name for name, _ in fields} or not produced.issuperset(self._names):
            raise ArtifactError(
                f"the graph takes {sorted(graph)} and gives {sorted(produced)}",
                where=str(path / MODEL),
                remedy="build again with `headgate build`",
            )
        self._inputs = [
            (field.name, name, _conversion(field, graph[name])) for name, field in fields
        ]
        self._outputs = [
            (field.name, field.numpy, field.shape) for field in manifest.signature.outputs
        ]
        self._single = self._inputs[0] if len(self._inputs) == 1 else None

    def predict(self, batch: Batch) -> Outputs:
        """See :class:`headgate.predictor.engines.Engine`."""
        if self._single is not None:
            name, entry, convert = self._single
            feed = {entry: batch[name] if convert is None else convert(batch[name])}
        else:
            feed = {
                entry: batch[name] if convert is None else convert(batch[name])
                for name, entry, convert in self._inputs
            }
        outputs = {}
        for (name, dtype, shape), array in zip(
            self._outputs, self._run(self._names, feed, None), strict=True
        ):
            if array.dtype is not dtype:
                array = array.astype(dtype, copy=False)  # noqa: PLW2901
            if array.shape[1:] != shape:
                array = array.reshape(-1, *shape)  # noqa: PLW2901
            outputs[name] = array
        return outputs


def _providers(ort: Any, path: Path, device: str) -> list[str]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise ArtifactError(
            f"this ONNX Runtime cannot run on {device}",
            where=str(path / MODEL),
            remedy='install onnxruntime-gpu, or open it with device="cpu"',
        )
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Batches differ in size, so a memory pattern is planned for nothing.
    options.enable_mem_pattern = False
    # Idle threads sleep instead of spinning on a core that another process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return options


def _conversion(field: Field, graph_type: str) -> Convert | None:
    """From the batch's array to the graph's: columns are ``(n, 1)``, numbers are cast once."""
    target = _TYPES.get(graph_type)
    if target is None or (target.kind == "O") != (field.dtype == "string"):
        raise ArtifactError(f"the graph takes {graph_type} for {field.dtype}", where=field.name)
    column = field.shape == ()
    if target.kind == "O":
        return _string_column if column else _strings
    if field.numpy == target:
        return _column if column else None
    if column:
        return lambda array: array.reshape(-1, 1).astype(target)
    return lambda array: array.astype(target)


def _column(array: Array) -> Array:
    return array.reshape(-1, 1)


def _string_column(array: Array) -> Array:
    return _strings(array).reshape(-1, 1)


def _strings(array: Array) -> Array:
    values: list[Any] = array.reshape(-1).tolist()
    if None not in values and NULL not in values:
        return array
    encoded = [NULL if v is None else _NOT_NULL if v == NULL else v for v in values]
    return np.array(encoded, dtype=object).reshape(array.shape)
