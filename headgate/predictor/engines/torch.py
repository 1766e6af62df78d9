"""torch, unconverted: weights in a safetensors file and the source of the module they fit.

Nothing is unpickled. The source comes from the model's room, where it was reviewed; it is
part of the artifact, so its hash is part of the release.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headgate.errors import ArtifactError
from headgate.predictor.engines.source import MODULE, load_source

if TYPE_CHECKING:
    from headgate.predictor.artifact import Manifest
    from headgate.predictor.signature import Batch, Outputs, Signature

__all__ = ["WEIGHTS", "TorchCall", "TorchEngine", "TorchOptions", "make_module"]

WEIGHTS = "model.safetensors"


class TorchOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the manifest's ``options`` hold for this engine."""

    probabilities: str = "softmax"
    """Classifiers only: what makes probabilities of the module's output, or ``identity``."""


class TorchEngine:
    """One module in evaluation mode."""

    def __init__(self, path: Path, manifest: Manifest, threads: int, device: str = "cpu") -> None:
        """Raises :class:`ArtifactError` where weights and module do not fit, or no such device."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        torch.set_num_threads(threads)
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise ArtifactError(
                "torch sees no GPU", where=str(path), remedy='open it with device="cpu"'
            )
        module = make_module(load_source(path / MODULE))
        try:
            load_model(module, path / WEIGHTS, strict=True)
        except (RuntimeError, SafetensorError) as error:
            raise ArtifactError(
                f"the weights do not fit {MODULE}: {error}",
                where=str(path / WEIGHTS),
                remedy="set packaging.module to the file that defines the trained module",
            ) from None
        options = msgspec.convert(manifest.options, TorchOptions)
        self._call = TorchCall(module.eval().to(device), manifest.signature, options, device)

    def predict(self, batch: Batch) -> Outputs:
        """See :class:`headgate.predictor.engines.Engine`."""
        return self._call(batch)


class TorchCall:
    """From a batch to tensors, and from a module's answer to outputs."""

    def __init__(
        self,
        module: Callable[..., Any],
        signature: Signature,
        options: TorchOptions,
        device: str = "cpu",
    ) -> None:
        import torch

        self._torch = torch
        self._module = module
        self._signature = signature
        self._options = options
        self._device = device
        self._inputs = [field.name for field in signature.inputs]
        self._classes = np.array(signature.classes, dtype=signature.outputs[0].numpy)

    def __call__(self, batch: Batch) -> Outputs:
        """Predict a valid batch."""
        torch = self._torch
        with torch.inference_mode():
            tensors = [
                torch.from_numpy(np.require(batch[name], requirements=["C", "W"])).to(self._device)
                for name in self._inputs
            ]
            answer = self._module(*tensors)
            if self._signature.task == "classification":
                likely = answer
                if self._options.probabilities == "softmax":
                    likely = torch.softmax(answer, dim=-1)
                label = likely.argmax(dim=-1).cpu().numpy()
                return {
                    "label": self._classes[label],
                    "probabilities": likely.to(torch.float32).cpu().numpy(),
                }
            return self._named(answer)

    def _named(self, answer: Any) -> Outputs:
        fields = self._signature.outputs
        if not isinstance(answer, dict):
            each = answer if isinstance(answer, tuple | list) else (answer,)
            answer = dict(zip([field.name for field in fields], each, strict=True))
        outputs = {}
        for field in fields:
            array = answer[field.name].cpu().numpy()
            outputs[field.name] = array.astype(field.numpy, copy=False).reshape(-1, *field.shape)
        return outputs


def make_module(source: types.ModuleType) -> Any:
    """A fresh ``torch.nn.Module``: from ``build()``, or of the only class there is.

    Raises:
        ArtifactError: neither is there.
    """
    import torch

    if callable(build := getattr(source, "build", None)):
        return build()
    found = [
        each
        for each in vars(source).values()
        if isinstance(each, type)
        and issubclass(each, torch.nn.Module)
        and each.__module__ == source.__name__
    ]
    try:
        (only,) = found
        return only()
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"{len(found)} classes of torch.nn.Module and no build() ({error})",
            where=str(source.__file__),
            remedy="define `def build() -> torch.nn.Module` there",
        ) from None
