"""scikit-learn, unconverted: a skops file, loaded with our own list of trusted types.

Classes of the model's own come from the source in its room, which is part of the artifact.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headgate.errors import ArtifactError
from headgate.predictor.engines.skops_io import skops_io
from headgate.predictor.engines.source import MODULE, load_source, names_of
from headgate.predictor.engines.trusted import TRUSTED, check_trees

if TYPE_CHECKING:
    from headgate.predictor.artifact import Manifest
    from headgate.predictor.signature import Array, Batch, Field, Outputs, Signature

__all__ = ["MODEL", "SklearnCall", "SklearnEngine", "SklearnOptions", "cap_jobs"]

MODEL = "model.skops"


class SklearnOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the manifest's ``options`` hold for this engine."""

    frame: tuple[str, ...] = ()
    """Column names of the data frame the model wants; without them it gets an array."""
    null: str = "nan"
    """What null is among strings: ``nan`` or ``none``. Encoders tell the two apart."""
    method: str = "predict"
    """What is called where the task is no classification."""
    argmax: bool = False
    """The label is the likeliest class, so that ``predict`` need not be called as well."""


class SklearnEngine:
    """One fitted estimator or pipeline. scikit-learn's ``predict`` keeps no state."""

    def __init__(self, path: Path, manifest: Manifest, threads: int) -> None:
        """Raises :class:`ArtifactError` where the file is not what packaging writes."""
        skops = skops_io()
        from skops.io.exceptions import UntrustedTypesFoundException
        from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

        own = path / MODULE
        trusted = TRUSTED | (names_of(load_source(own)) if own.is_file() else frozenset())
        try:
            self._model = skops.load(path / MODEL, trusted=sorted(trusted))
            check_trees(self._model)
        except (UntrustedTypesFoundException, ValueError) as error:
            raise ArtifactError(
                str(error).partition("\n")[0],
                where=str(path / MODEL),
                remedy="build again with `headgate build`",
            ) from None
        self._call = SklearnCall(
            self._model, manifest.signature, msgspec.convert(manifest.options, SklearnOptions)
        )
        self._threads = threads
        cap_jobs(self._model, threads)
        self._controller = ThreadpoolController()
        self._capped = threading.local()

    def predict(self, batch: Batch) -> Outputs:
        """See :class:`headgate.predictor.engines.Engine`."""
        if not hasattr(self._capped, "limit"):
            # OpenMP counts its threads for each thread that calls it, so each is capped once.
            self._capped.limit = self._controller.limit(limits=self._threads)
        return self._call(batch)


class SklearnCall:
    """From a batch to the arrays an estimator wants, and from its answers to outputs."""

    def __init__(self, model: Any, signature: Signature, options: SklearnOptions) -> None:
        self._model = model
        self._signature = signature
        self._options = options
        self._null = None if options.null == "none" else np.nan
        self._classes = np.array(signature.classes, dtype=signature.outputs[0].numpy)
        self._names = {field.name for field in signature.outputs}
        if options.frame:
            import pandas as pd

            self._pandas = pd

    def __call__(self, batch: Batch) -> Outputs:
        """Predict a valid batch."""
        features = self._features(batch)
        if self._signature.task != "classification":
            (field,) = self._signature.outputs
            return {
                field.name: _shaped(getattr(self._model, self._options.method)(features), field)
            }
        outputs: Outputs = {}
        if "probabilities" in self._names:
            likely = np.asarray(self._model.predict_proba(features))
            if self._options.argmax:
                outputs["label"] = self._classes[likely.argmax(axis=1)]
            outputs["probabilities"] = likely.astype(np.float32, copy=False)
        if "label" not in outputs:
            field = next(field for field in self._signature.outputs if field.name == "label")
            outputs["label"] = _shaped(self._model.predict(features), field)
        return outputs

    def _features(self, batch: Batch) -> Any:
        columns = {
            field.name: self._column(field, batch[field.name]) for field in self._signature.inputs
        }
        if self._options.frame:
            if not self._signature.is_table:
                (array,) = columns.values()
                return self._pandas.DataFrame(array, columns=list(self._options.frame))
            # Without a type pandas would turn strings into its own and every null into NaN.
            return self._pandas.DataFrame(
                {
                    name: self._pandas.Series(columns[name], dtype=columns[name].dtype)
                    for name in self._options.frame
                }
            )
        if not self._signature.is_table:
            (array,) = columns.values()
            return array
        return np.column_stack(list(columns.values()))

    def _column(self, field: Field, array: Array) -> Array:
        if field.dtype != "string" or self._null is None:
            return array
        values: list[Any] = array.tolist()
        if None in values:
            array = np.empty(len(values), dtype=object)
            array[:] = [self._null if value is None else value for value in values]
        return array


def _shaped(values: Any, field: Field) -> Array:
    array = np.asarray(values)
    return array.astype(field.numpy, copy=False).reshape(len(array), *field.shape)


def cap_jobs(model: Any, threads: int) -> None:
    """``n_jobs`` of a training machine is no good advice for a server."""
    jobs = {
        name: threads
        for name, value in model.get_params(deep=True).items()
        if value is not None and (name == "n_jobs" or name.endswith("__n_jobs"))
    }
    if jobs:
        model.set_params(**jobs)
