"""What a ``.pt2`` archive of ``torch.export`` would run when it is opened or called.

It looks like data, but its loader looks operators up by dotted name from ``torch`` (and
``torch.os.system`` is one), evaluates shape expressions with :func:`sympy.sympify`, makes
guards into Python code, imports the classes of nested inputs, unpickles some records and loads
compiled libraries. One without the marks of the present format is read as an older one.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any

__all__ = ["ForbiddenContentError", "check_exported"]

_TEXT = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|\.data/\w+|version|extra/.*|\.format_version|\.storage_alignment)"
)
_GRAPH = re.compile(r"[^/]+/models/[^/]+\.json")
_CONFIG = re.compile(r"[^/]+/data/(weights|constants)/[^/]+_config\.json")
_PAYLOAD = re.compile(r"[^/]+/data/(weights|constants)/(weight|tensor)_\d+")
_SAMPLE = re.compile(r"[^/]+/data/sample_inputs/[^/]+\.pt")
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|quantized|torchvision)\.(?!from_file\b|save\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|map_impl|scan|while_loop|wrap_with_autocast|wrap_with_set_grad_enabled)"
)
_OPERATORS = re.compile(
    r"add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|or_|pow|sub|truediv"
)
_EXPRESSIONS = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Abs|Mod|FloorDiv|PythonMod|ModularIndexing"
    r"|CleanDiv|CeilDiv|CeilToInt|FloorToInt|IntTrueDiv|FloatTrueDiv|TruncToInt|ToFloat"
    r"|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Identity"
)
_EXPRESSION_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword,
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_IMPORTING = re.compile(r"__enum__|default_factory_module|\\u")
"""What the loader of nested inputs and outputs imports a module for, spelt out or escaped."""
_SYMBOL = re.compile(r"[A-Za-z](?!\w*__)\w{0,39}")


class ForbiddenContentError(ValueError):
    """The archive holds something that could run code."""


def check_exported(archive: zipfile.ZipFile, check_zip: Callable[[str, bytes], None]) -> None:
    """Hold that the archive is graph and tensors only; ``check_zip`` looks at pickled tensors.

    Raises:
        ForbiddenContentError: it is not.
    """
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if len(names) != len(set(names)):
        raise ForbiddenContentError("two records of one name")
    raw = _raw_records(archive, names)
    for name in names:
        if _TEXT.fullmatch(name) or _CONFIG.fullmatch(name) or name.lower() in raw:
            continue
        if _GRAPH.fullmatch(name):
            _check_graph(name, _json(archive, name))
        elif _SAMPLE.fullmatch(name) or _PAYLOAD.fullmatch(name):
            check_zip(name, archive.read(name))
        else:
            raise ForbiddenContentError(f"{name} is no record of graph or tensors")


def _raw_records(archive: zipfile.ZipFile, names: list[str]) -> set[str]:
    """Records that the loader reads as plain bytes of a tensor, and never as a pickle."""
    raw: set[str] = set()
    pickled: set[str] = set()
    for name in names:
        if not _CONFIG.fullmatch(name):
            continue
        folder = name.rpartition("/")[0]
        for entry in _mapping(_mapping(_json(archive, name)).get("config")).values():
            record = f"{folder}/{_mapping(entry).get('path_name')}"
            kind = raw if _mapping(entry).get("use_pickle") is False else pickled
            kind.add(record.lower())  # torch finds records whatever the case of their names
    return {record for record in raw - pickled if _PAYLOAD.fullmatch(record)}


def _check_graph(where: str, value: Any) -> None:
    """Look at every object of the graph, wherever it is nested."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            _check_object(where, part)
            waiting.extend(part.values())


def _check_object(where: str, part: dict[str, Any]) -> None:
    target = part.get("target") if "inputs" in part else None
    for operator in (target, part.get("as_operator")):
        if operator is not None and not _is_operator(str(operator)):
            raise ForbiddenContentError(f"{where} calls {operator}")
    expression = part.get("expr_str")
    if expression is not None:
        _check_expression(where, expression)
    for specification in (part.get("in_spec"), part.get("out_spec")):
        if specification is not None and _IMPORTING.search(str(specification)):
            raise ForbiddenContentError(f"{where} imports by name: {specification!r:.200}")
    for symbol in _mapping(part.get("range_constraints")):
        _check_expression(where, symbol)


def _check_expression(where: str, text: Any) -> None:
    """An expression over symbols and numbers, in calls of known functions of sympy's."""
    try:
        tree = ast.parse(str(text), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        raise ForbiddenContentError(f"{where} has the shape expression {text!r:.80}") from None
    for node in ast.walk(tree):
        known = isinstance(node, _EXPRESSION_NODES)
        if isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and bool(_EXPRESSIONS.fullmatch(node.func.id))
        elif isinstance(node, ast.Name):
            known = bool(_SYMBOL.fullmatch(node.id))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # The name of a Symbol. Other functions would evaluate it, and find a name.
            known = bool(_SYMBOL.fullmatch(node.value))
        if not known:
            raise ForbiddenContentError(f"{where} has the shape expression {text!r:.80}")


def _is_operator(target: str) -> bool:
    if target.startswith("_operator."):
        return bool(_OPERATORS.fullmatch(target.removeprefix("_operator.")))
    return bool(_TARGET.fullmatch(target))


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    try:
        return json.loads(archive.read(name))
    except (ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise ForbiddenContentError(f"{name} is no JSON ({error})") from None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
