"""Null inside an ONNX graph, which has none: a string that no text spells.

scikit-learn tells NaN (or None) from the literal strings ``"nan"`` and ``"None"``; skl2onnx
writes NaN as ``"nan"``. So null travels as :data:`headgate.predictor.engines.onnx.NULL`, and
before the conversion every place in the fitted model that knows null is made to know that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headgate.predictor import Array
from headgate.predictor.engines.onnx import NULL
from headgate.predictor.engines.trusted import parts_of

__all__ = ["convert_ordinal_encoder", "mark_nulls"]


def mark_nulls(model: Any, null: str) -> None:
    """Replace null among the model's strings by :data:`NULL`, in place.

    ``null`` says which of NaN (``nan``) and None (``none``) stands for it in this model.
    """
    from sklearn.impute import SimpleImputer

    for part in parts_of(model):
        if isinstance(part, SimpleImputer):
            if _is_text(getattr(part, "statistics_", None)) and _is_null(part.missing_values, null):
                part.missing_values = NULL
        elif isinstance(getattr(part, "categories_", None), list):
            part.categories_ = [_marked(known, null) for known in part.categories_]


def _marked(known: Array, null: str) -> Array:
    if not _is_text(known):
        return known
    marked = known.astype(object)
    marked[:] = [_mark(value, null) for value in known.tolist()]
    return marked


def _mark(value: Any, null: str) -> Any:
    if isinstance(value, str):
        return value
    # Of NaN and None, the one that never reaches this model would be taken for its name.
    return NULL if _is_null(value, null) else f"{NULL}{value!r}"


def _is_text(values: Array | None) -> bool:
    if values is None or values.dtype.kind != "O":
        return False
    return any(isinstance(each, str) for each in values.tolist())


def _is_null(value: Any, null: str) -> bool:
    return value is None if null == "none" else isinstance(value, float) and np.isnan(value)


def convert_ordinal_encoder(scope: Any, operator: Any, container: Any) -> None:
    """ONNX for an ``OrdinalEncoder`` over strings; others go to skl2onnx's own converter.

    skl2onnx's gives NaN the next free number even where the encoder says otherwise
    (``encoded_missing_value``, which None is not given), and 0 for ``unknown_value=0`` only by accident. Here each
    category maps to the very float that the encoder gives, anything else to ``unknown_value``.
    """
    from skl2onnx.common.data_types import StringTensorType
    from skl2onnx.operator_converters.ordinal_encoder import convert_sklearn_ordinal_encoder

    encoder = operator.raw_operator
    texts = all(isinstance(each.type, StringTensorType) for each in operator.inputs)
    if not texts or encoder.handle_unknown != "use_encoded_value" or encoder._infrequent_enabled:  # noqa: SLF001
        convert_sklearn_ordinal_encoder(scope, operator, container)
        return
    columns = _columns(scope, operator, container)
    codes = []
    for index, (column, categories) in enumerate(zip(columns, encoder.categories_, strict=True)):
        values = np.arange(len(categories), dtype=np.float32)
        if (missing := encoder._missing_indices.get(index)) is not None:  # noqa: SLF001
            values[missing] = encoder.encoded_missing_value
        codes.append(scope.get_unique_variable_name("code"))
        container.add_node(
            "LabelEncoder",
            column,
            codes[-1],
            op_domain="ai.onnx.ml",
            op_version=2,
            name=scope.get_unique_operator_name("LabelEncoder"),
            keys_strings=[str(each).encode() for each in categories],
            values_floats=values,
            default_float=float(encoder.unknown_value),
        )
    joined = scope.get_unique_variable_name("codes")
    container.add_node(
        "Concat", codes, joined, axis=1, name=scope.get_unique_operator_name("Concat")
    )
    floats = np.issubdtype(encoder.dtype, np.floating)
    container.add_node(
        "Cast",
        joined,
        operator.outputs[0].full_name,
        to=1 if floats else 7,  # TensorProto.FLOAT, TensorProto.INT64
        name=scope.get_unique_operator_name("Cast"),
    )


def _columns(scope: Any, operator: Any, container: Any) -> list[str]:
    """The name of each column of each input, one value a row."""
    names = []
    for each in operator.inputs:
        width = each.get_second_dimension()
        if width == 1:
            names.append(each.full_name)
            continue
        for index in range(width):
            at = scope.get_unique_variable_name("at")
            container.add_initializer(at, 7, [1], [index])
            names.append(scope.get_unique_variable_name("column"))
            container.add_node(
                "Gather",
                [each.full_name, at],
                names[-1],
                axis=1,
                name=scope.get_unique_operator_name("Gather"),
            )
    return names
