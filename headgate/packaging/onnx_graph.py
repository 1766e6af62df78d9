"""Giving an ONNX graph the names and the labels that the signature promises."""

from __future__ import annotations

import itertools
from typing import Any

from headgate.predictor import Signature

__all__ = ["map_labels", "rename_inputs", "rename_outputs"]


def rename_inputs(proto: Any, names: list[str], reserved: list[str]) -> dict[str, str]:
    """Name the graph's inputs ``names``, in their order: converters rewrite what is no identifier.

    A graph cannot have an input and an output of one name, so an input whose name is among
    ``reserved``, the names that its outputs will have, gets another. Returns those others by the
    names they stand for.

    Raises:
        ValueError: it has another number of inputs.
    """
    graph = proto.graph
    if len(graph.input) != len(names):
        raise ValueError(f"{len(graph.input)} inputs where {', '.join(names)} belong")
    used = _values(graph) | {*names, *reserved}
    others = {name: _unused(f"{name}_in", used) for name in names if name in reserved}
    wanted = [others.get(name, name) for name in names]
    _rename(graph, {node.name: name for node, name in zip(graph.input, wanted, strict=True)})
    return others


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
    _rename(graph, {output.name: name for output, name in zip(graph.output, names, strict=True)})


def _rename(graph: Any, renamed: dict[str, str]) -> None:
    """Give values of the graph other names, all at once; what has such a name makes room."""
    used = _values(graph) | set(renamed.values())
    for name in sorted(set(renamed.values()) - renamed.keys()):
        renamed[name] = _unused(f"{name}_inside", used)
    _apply(graph, renamed)


def _apply(graph: Any, renamed: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                # A branch sees the values around it, but for those that it names anew.
                own = _values(branch)
                _apply(branch, {old: new for old, new in renamed.items() if old not in own})
    for named in (*graph.input, *graph.initializer, *graph.output, *graph.value_info):
        named.name = renamed.get(named.name, named.name)


def _values(graph: Any) -> set[str]:
    named = (*graph.input, *graph.initializer, *graph.output)
    return {each.name for each in named} | {name for node in graph.node for name in node.output}


def _unused(name: str, used: set[str]) -> str:
    """``name``, or with the first number that makes it a new one; counts as used from now on."""
    tries = itertools.chain([name], (f"{name}{count}" for count in itertools.count(1)))
    found = next(each for each in tries if each not in used)
    used.add(found)
    return found


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
