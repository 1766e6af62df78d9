"""torch in the child process: open, run, convert."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from headgate.packaging.candidates import USUAL_TOLERANCE
from headgate.packaging.exchange import Built, Job
from headgate.packaging.onnx_graph import map_labels, rename_inputs
from headgate.packaging.unpickling import no_side_effects, pickle_module
from headgate.predictor import Batch, Outputs, Reference, Signature, difference
from headgate.predictor.engines import onnx as onnx_engine
from headgate.predictor.engines.source import MODULE, load_source
from headgate.predictor.engines.torch import (
    WEIGHTS,
    TorchCall,
    TorchOptions,
    make_module,
)

__all__ = ["TorchModel"]

EXAMPLE_ROWS = 4
"""Rows the exporter traces with. More than one: it takes 1 for a constant."""


class TorchModel:
    """A trained module, and what makes probabilities of its output."""

    def __init__(self, job: Job, reference: Reference) -> None:
        torch.set_num_threads(1)
        self._job = job
        self._reference = reference
        self._module, self._weights = _open(job)
        self._options = _options(self._module, job, reference)
        self._call = TorchCall(self._module, job.signature, self._options)

    def predict(self, batch: Batch) -> Outputs:
        """The model's own predictions."""
        return self._call(batch)

    def build(self, engine: str, folder: Path) -> Built:
        """Write ``model.onnx``, or ``model.safetensors`` and ``module.py``."""
        if engine == "onnx":
            rows = np.arange(EXAMPLE_ROWS) % self._reference.rows
            example = self._reference.take(rows).inputs
            content, others = _convert(self._module, self._job.signature, self._options, example)
            (folder / onnx_engine.MODEL).write_bytes(content)
            return Built(engine=engine, options={"inputs": others} if others else {})
        if not self._job.module:
            return Built(
                engine=engine, refused="packaging.module in its model.toml names no module file"
            )
        from safetensors.torch import save_model

        source = Path(self._job.module)
        fresh = make_module(load_source(source))
        fresh.load_state_dict(self._weights, strict=True)
        save_model(fresh, str(folder / WEIGHTS))
        (folder / MODULE).write_bytes(source.read_bytes())
        return Built(engine=engine, options=msgspec.to_builtins(self._options))


class _Head(torch.nn.Module):  # type: ignore[misc]
    """The module with its answer turned into ``label`` (a class's number) and ``probabilities``."""

    def __init__(self, module: Any, probabilities: str) -> None:
        super().__init__()
        self.module = module
        self.softmax = probabilities == "softmax"

    def forward(self, *inputs: Any) -> Any:
        likely = self.module(*inputs)
        if self.softmax:
            likely = torch.softmax(likely, dim=-1)
        return likely.argmax(dim=-1), likely


class _Named(torch.nn.Module):  # type: ignore[misc]
    """The module with its answer as a tuple in the order of the signature."""

    def __init__(self, module: Any, names: list[str]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *inputs: Any) -> Any:
        answer = self.module(*inputs)
        if isinstance(answer, dict):
            return tuple(answer[name] for name in self.names)
        return tuple(answer) if isinstance(answer, tuple | list) else (answer,)


def _open(job: Job) -> tuple[Any, dict[str, Any]]:
    """The module in evaluation mode, and its weights by name."""
    if job.format == "pt2":
        with no_side_effects():
            program = torch.export.load(job.file)
        return program.module(check_guards=False), dict(program.state_dict)
    source = load_source(Path(job.module)) if job.module else None
    with no_side_effects():
        module = torch.load(
            job.file,
            map_location="cpu",
            weights_only=False,
            pickle_module=pickle_module(job.room, source),
        )
    module.eval()
    return module, module.state_dict()


def _options(module: Any, job: Job, reference: Reference) -> TorchOptions:
    """Whether the module answers with logits or with probabilities; logits if neither fits nearly."""
    close = None
    for kind in ("softmax", "identity"):
        options = TorchOptions(probabilities=kind)
        outputs = TorchCall(module, job.signature, options)(reference.inputs)
        if difference(outputs, reference.outputs, job.tolerance).ok.all():
            return options
        if difference(outputs, reference.outputs, USUAL_TOLERANCE).ok.all():
            close = close or options
    return close or TorchOptions()


def _convert(
    module: Any, signature: Signature, options: TorchOptions, example: Batch
) -> tuple[bytes, dict[str, str]]:
    """The module as ONNX, and inputs that could not keep their names, with those they got."""
    names = [field.name for field in signature.outputs]
    classifier = signature.task == "classification"
    head = _Head(module, options.probabilities) if classifier else _Named(module, names)
    head.training = False  # an exported program refuses eval(); it was exported in that mode
    inputs = [field.name for field in signature.inputs]
    with contextlib.redirect_stdout(None):
        program = torch.onnx.export(
            head,
            tuple(torch.from_numpy(example[name]) for name in inputs),
            input_names=[f"input {number}" for number in range(len(inputs))],
            output_names=names,
            dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),),
            dynamo=True,
            verbose=False,
        )
    proto = program.model_proto
    if classifier:
        map_labels(proto, signature)
    others = rename_inputs(proto, inputs, names)
    content: bytes = proto.SerializeToString()
    return content, others
