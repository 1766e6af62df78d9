"""scikit-learn in the child process: open, run, convert."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from headgate.errors import UnsafeModelError
from headgate.packaging.candidates import USUAL_TOLERANCE
from headgate.packaging.exchange import Built, Job
from headgate.packaging.nulls import convert_ordinal_encoder, mark_nulls
from headgate.packaging.onnx_graph import rename_inputs, rename_outputs
from headgate.packaging.unpickling import install_source, load_pickle
from headgate.predictor import Batch, Field, Outputs, Reference, Signature, difference
from headgate.predictor.engines import onnx as onnx_engine
from headgate.predictor.engines import sklearn as sklearn_engine
from headgate.predictor.engines.sklearn import SklearnCall, SklearnOptions, cap_jobs
from headgate.predictor.engines.skops_io import skops_io
from headgate.predictor.engines.source import MODULE, load_source, names_of
from headgate.predictor.engines.trusted import TRUSTED, check_trees

__all__ = ["SklearnModel"]

_ARGMAX = {
    "AdaBoostClassifier",
    "BaggingClassifier",
    "CalibratedClassifierCV",
    "DecisionTreeClassifier",
    "ExtraTreeClassifier",
    "ExtraTreesClassifier",
    "GaussianNB",
    "GradientBoostingClassifier",
    "HistGradientBoostingClassifier",
    "LogisticRegression",
    "MLPClassifier",
    "RandomForestClassifier",
}
"""Classifiers whose ``predict`` is the likeliest class of ``predict_proba``, so that one call does.
For others (SVC, a tuned threshold …) the two may differ where the reference does not look."""


class SklearnModel:
    """A fitted estimator, and how it has to be called to reproduce what was recorded."""

    def __init__(self, job: Job, reference: Reference) -> None:
        self._signature = job.signature
        self._source = load_source(Path(job.module)) if job.module else None
        self._trusted = TRUSTED | (names_of(self._source) if self._source else frozenset())
        self._model = self._open(job)
        check_trees(self._model)
        cap_jobs(self._model, 1)
        self._options = _options(self._model, job, reference)
        self._call = SklearnCall(self._model, self._signature, self._options)

    def _open(self, job: Job) -> Any:
        if self._source is not None:
            install_source(self._source, job.room)
        if job.format == "pickle":
            return load_pickle(Path(job.file), job.room, self._source)
        skops = skops_io()

        trusted = {*self._trusted, *job.room}
        if unknown := sorted(set(skops.get_untrusted_types(file=job.file)) - trusted):
            raise UnsafeModelError(f"opening it would load {_some(unknown)}")
        return skops.load(job.file, trusted=sorted(trusted))

    def predict(self, batch: Batch) -> Outputs:
        """The model's own predictions."""
        return self._call(batch)

    def build(self, engine: str, folder: Path) -> Built:
        """Write ``model.onnx`` or ``model.skops``."""
        if engine == "onnx":
            content, others = _convert(self._model, self._signature, self._options)
            (folder / onnx_engine.MODEL).write_bytes(content)
            return Built(engine=engine, options={"inputs": others} if others else {})
        skops = skops_io()

        content = skops.dumps(self._model)
        named = set(skops.get_untrusted_types(data=content))
        if unknown := sorted(named - self._trusted):
            return Built(engine=engine, refused=f"skops would load {_some(unknown)}")
        (folder / sklearn_engine.MODEL).write_bytes(content)
        if named - TRUSTED and self._source:
            (folder / MODULE).write_bytes(Path(str(self._source.__file__)).read_bytes())
        return Built(engine=engine, options=msgspec.to_builtins(self._options))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _options(model: Any, job: Job, reference: Reference) -> SklearnOptions:
    """The first way to call the model that reproduces what was recorded, or nearly; else any."""
    first, close, error = None, None, None
    for options in _variants(model, job.signature):
        try:
            outputs = SklearnCall(model, job.signature, options)(reference.inputs)
        except Exception as raised:  # noqa: BLE001  # not every variant fits every model
            error = error or raised
            continue
        first = first or options
        if difference(outputs, reference.outputs, job.tolerance).ok.all():
            return _with_argmax(model, job.signature, options, reference.inputs, outputs)
        if difference(outputs, reference.outputs, USUAL_TOLERANCE).ok.all():
            close = close or options
    if first is None:
        raise error or ValueError("no way to call it")
    return close or first


def _variants(model: Any, signature: Signature) -> Iterator[SklearnOptions]:
    nullable = any(field.dtype == "string" and field.nullable for field in signature.inputs)
    methods = ("predict",) if signature.task != "tensor" else ("predict", "transform")
    for method in methods:
        if not hasattr(model, method):
            continue
        for null in ("nan", "none") if nullable else ("nan",):
            yield SklearnOptions(frame=_frame(model, signature), null=null, method=method)


def _frame(model: Any, signature: Signature) -> tuple[str, ...]:
    """The columns of the data frame that the model wants, in its order; none for an array."""
    fitted = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
    if not signature.is_table:
        width = signature.inputs[0].shape[-1]
        return fitted if len(fitted) == width else ()
    if fitted and set(fitted) <= signature.input_names:
        return fitted
    if any(field.dtype == "string" for field in signature.inputs):
        return tuple(field.name for field in signature.inputs)
    return ()


def _with_argmax(
    model: Any, signature: Signature, options: SklearnOptions, inputs: Batch, outputs: Outputs
) -> SklearnOptions:
    final = model.steps[-1][1] if hasattr(model, "steps") else model
    if "probabilities" not in outputs or type(final).__name__ not in _ARGMAX:
        return options
    quick = msgspec.structs.replace(options, argmax=True)
    same = SklearnCall(model, signature, quick)(inputs)["label"] == outputs["label"]
    return quick if same.all() else options


def _convert(
    model: Any, signature: Signature, options: SklearnOptions
) -> tuple[bytes, dict[str, str]]:
    """The model as ONNX, and inputs that could not keep their names, with those they got.

    Integers enter as float32, or as int64 where that does not convert.
    """
    from skl2onnx import to_onnx, update_registered_converter
    from skl2onnx.shape_calculators.ordinal_encoder import (
        calculate_sklearn_ordinal_encoder_output_shapes,
    )
    from sklearn.preprocessing import OrdinalEncoder

    update_registered_converter(
        OrdinalEncoder,
        "SklearnOrdinalEncoder",
        calculate_sklearn_ordinal_encoder_output_shapes,
        convert_ordinal_encoder,
    )
    model = copy.deepcopy(model)
    mark_nulls(model, options.null)
    model = _wrap_columns(model, signature, options)
    names = [field.name for field in signature.outputs]
    extra = {id(model): {"zipmap": False}} if "probabilities" in names else None
    try:
        proto = to_onnx(model, initial_types=_types(signature, as_float=True), options=extra)
    except Exception as error:  # encoders over integers want them as such
        if not any(field.dtype in {"int32", "int64"} for field in signature.inputs):
            raise
        try:
            proto = to_onnx(model, initial_types=_types(signature, as_float=False), options=extra)
        except Exception:  # noqa: BLE001  # what is wrong with the usual types says more
            raise error from None
    if names == ["label"]:
        del proto.graph.output[1:]  # scores of some kind
    others = rename_inputs(proto, [field.name for field in signature.inputs], names)
    rename_outputs(proto, names)
    content: bytes = proto.SerializeToString()
    return content, others


def _wrap_columns(model: Any, signature: Signature, options: SklearnOptions) -> Any:
    """Put the columns of a table side by side for an estimator that wants them so."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline

    first = model.steps[0][1] if hasattr(model, "steps") else model
    if not signature.is_table or isinstance(first, ColumnTransformer):
        return model
    import pandas as pd

    names = list(options.frame) or [field.name for field in signature.inputs]
    row = pd.DataFrame([[0.0] * len(names)], columns=names)
    columns = ColumnTransformer([("columns", "passthrough", names)]).fit(row)
    return make_pipeline(columns, model)


def _types(signature: Signature, *, as_float: bool) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import (
        BooleanTensorType,
        FloatTensorType,
        Int64TensorType,
        StringTensorType,
    )

    def kind(field: Field) -> Any:
        if field.dtype == "string":
            return StringTensorType
        if field.dtype == "bool" and not as_float:
            return BooleanTensorType
        if field.dtype in {"int32", "int64", "uint8"} and not as_float:
            return Int64TensorType
        return FloatTensorType

    return [(field.name, kind(field)([None, *(field.shape or (1,))])) for field in signature.inputs]
