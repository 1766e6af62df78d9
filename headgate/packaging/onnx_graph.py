"""Giving an ONNX graph the names and the labels that the signature promises."""

from __future__ import annotations

from typing import Any

from headgate.predictor import Signature

__all__ = ["map_labels", "rename_outputs"]


def rename_outputs(proto: Any, names: list[str]) -> None:
    """Name the graph's outputs ``names``, in their order.

    Raises:
        ValueError: it has another number of outputs, or an input of one of these names.
    """
    graph = proto.graph
    if len(graph.output) != len(names):
        raise ValueError(f"{len(graph.output)} outputs where {', '.join(names)} belong")
    if clashing := {node.name for node in graph.input} & set(names):
        raise ValueError(f"an input and an output are both named {', '.join(sorted(clashing))}")
    renamed = {output.name: name for output, name in zip(graph.output, names, strict=True)}
    for name in names:
        # A value inside the graph may have that name already.
        renamed.setdefault(name, f"{name}_inside")
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for named in (*graph.initializer, *graph.output):
        named.name = renamed.get(named.name, named.name)


def map_labels(proto: Any, signature: Signature) -> None:
    """Turn the output ``label`` from the number of a class into the class itself."""
    from onnx import TensorProto, helper

    classes = signature.classes
    if classes == tuple(range(len(classes))):
        return
    texts = isinstance(classes[0], str)
    (label,) = [output for output in proto.graph.output if output.name == "label"]
    for node in proto.graph.node:
        node.input[:] = ["label_index" if name == "label" else name for name in node.input]
        node.output[:] = ["label_index" if name == "label" else name for name in node.output]
    values = {"values_strings": list(classes)} if texts else {"values_int64s": list(classes)}
    proto.graph.node.append(
        helper.make_node(
            "LabelEncoder",
            ["label_index"],
            ["label"],
            domain="ai.onnx.ml",
            keys_int64s=list(range(len(classes))),
            **values,
        )
    )
    label.type.tensor_type.elem_type = TensorProto.STRING if texts else TensorProto.INT64
    if all(each.domain != "ai.onnx.ml" for each in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
