"""The predictor's signature, from MLflow's and from the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from headgate.errors import HeadgateError, PackagingError
from headgate.packaging.source import Column
from headgate.predictor import Array, DType, Field, Reference, Signature, arrays_to_batch

__all__ = ["fit_reference", "signature_of"]

_AGAIN = "log the reference again with the inputs that the model was trained on"


def signature_of(columns: tuple[Column, ...], reference: Reference) -> Signature:
    """What the predictor takes and gives.

    Names, order and shapes are the reference's. A type is the wider one of the reference's and
    MLflow's; a column is nullable where MLflow says that it is optional, or the reference has
    nulls.

    Raises:
        PackagingError: the two contradict each other, or hold what no signature can say.
    """
    declared = {column.name: column for column in columns}
    if len(columns) == 1 and len(reference.inputs) == 1:
        declared = dict.fromkeys(reference.inputs, columns[0])
    elif columns and declared.keys() != reference.inputs.keys():
        differing = sorted(declared.keys() ^ reference.inputs.keys())
        raise PackagingError(
            f"either MLflow's signature or the reference lacks: {', '.join(differing)}",
            where="inputs",
            remedy=_AGAIN,
        )
    inputs = tuple(
        _input(name, array, declared.get(name)) for name, array in reference.inputs.items()
    )
    outputs = tuple(_output(name, array) for name, array in reference.outputs.items())
    if reference.task == "classification":
        _check_classes(outputs, reference.classes)
    classes = tuple(int(each) if isinstance(each, bool) else each for each in reference.classes)
    return Signature(inputs=inputs, outputs=outputs, task=reference.task, classes=classes)


def fit_reference(reference: Reference, signature: Signature) -> Reference:
    """The reference in the signature's names, types and shapes.

    Raises:
        PackagingError: a row of it does not pass the validation that a request has to pass.
    """
    try:
        inputs = arrays_to_batch(signature, reference.inputs)
    except HeadgateError as error:
        raise PackagingError(
            f"the reference holds a row that no request could hold: {error.what}",
            where=error.where,
            remedy=_AGAIN,
        ) from None
    outputs = {
        field.name: _cast(reference.outputs[field.name], field) for field in signature.outputs
    }
    return Reference(
        inputs=inputs,
        outputs=outputs,
        task=reference.task,
        labels=reference.labels,
        classes=signature.classes,
    )


def _input(name: str, array: Array, declared: Column | None) -> Field:
    dtype = _dtype(array, name)
    shape = array.shape[1:]
    if declared is not None:
        dtype = _wider(name, dtype, declared.dtype)
        if declared.shape and declared.shape != shape:
            raise PackagingError(
                f"shape {list(shape)} in the reference, {list(declared.shape)} in MLflow's signature",
                where=name,
                remedy=_AGAIN,
            )
    optional = declared is not None and not declared.required
    nulls = _has_nulls(array)
    if dtype in {"string", "float32", "float64"}:
        return Field(name=name, dtype=dtype, shape=shape, nullable=nulls or optional)
    if optional and dtype in {"int32", "int64"}:
        # pandas turns an integer column with nulls into floats, and so would the model see it.
        return Field(name=name, dtype="float64", shape=shape, nullable=True)
    return Field(name=name, dtype=dtype, shape=shape)


def _output(name: str, array: Array) -> Field:
    if name == "probabilities":
        return Field(name=name, dtype="float32", shape=array.shape[1:])
    dtype = _dtype(array, name)
    if name == "label" and dtype != "string":
        dtype = "int64"
    return Field(name=name, dtype=dtype, shape=array.shape[1:])


def _check_classes(outputs: tuple[Field, ...], classes: tuple[str | int, ...]) -> None:
    known = {field.name: field for field in outputs}
    if "label" not in known or not known.keys() <= {"label", "probabilities"}:
        raise PackagingError(
            f"a classifier's outputs are {', '.join(known)}",
            where="reference",
            remedy="record `label` and, where the model has them, `probabilities`",
        )
    likely = known.get("probabilities")
    if likely is not None and likely.shape != (len(classes),):
        raise PackagingError(
            f"probabilities of shape {list(likely.shape)} for {len(classes)} classes",
            where="reference",
            remedy="record one probability for each class",
        )


def _dtype(array: Array, name: str) -> DType:
    """The signature's name of an array's type; odd widths become the next one there is."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind in "OUS":
        return "string"
    if kind == "b":
        return "bool"
    if kind == "f":
        return "float64" if size > 4 else "float32"
    if kind == "u" and size == 1:
        return "uint8"
    if kind in "iu":
        return "int32" if size + (kind == "u") <= 4 else "int64"
    raise PackagingError(
        f"type {array.dtype}", where=name, remedy="use booleans, integers, floats or strings"
    )


def _wider(name: str, one: DType, other: str) -> DType:
    if one == other:
        return one
    if "string" in {one, other} or "bool" in {one, other}:
        raise PackagingError(
            f"{one} in the reference, {other} in MLflow's signature", where=name, remedy=_AGAIN
        )
    return _dtype(np.zeros(0, dtype=np.promote_types(one, other)), name)


def _has_nulls(array: Array) -> bool:
    if array.dtype.kind == "f":
        return bool(np.isnan(array).any())
    return array.dtype.kind == "O" and None in array.tolist()


def _cast(array: Array, field: Field) -> Array:
    values: Any = array
    if field.dtype == "string":
        values = np.array([*map(str, array.tolist()), None], dtype=object)[:-1]
    return np.asarray(values).astype(field.numpy, copy=False).reshape(len(array), *field.shape)
