"""A ``.pt2`` archive is graph and tensors, or it is not opened."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headgate.packaging.exported import ForbiddenContentError, check_exported
from tests.packaging.nets import export, make_net, make_rows
from tests.packaging.streams import call, named, text, whole

Records = dict[str, bytes]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """What a real archive holds."""
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    export(path, make_net(), torch.from_numpy(make_rows(4)))
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check(records: Records) -> list[str]:
    """The records that were handed on as pickles."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    pickled: list[str] = []
    with zipfile.ZipFile(file) as archive:
        check_exported(archive, lambda name, _: pickled.append(name))
    return pickled


def refuses(records: Records, says: str) -> None:
    with pytest.raises(ForbiddenContentError, match=says):
        check(records)


def altered(records: Records, alter: Callable[[Any], None]) -> Records:
    """The archive with its graph altered."""
    (name,) = [name for name in records if "/models/" in name]
    graph = json.loads(records[name])
    alter(graph)
    return {**records, name: json.dumps(graph).encode()}


def nodes(graph: Any) -> Any:
    return graph["graph_module"]["graph"]["nodes"]


def test_a_real_archive_passes_and_only_the_samples_are_pickled(records: Records) -> None:
    assert check(records) == ["model/data/sample_inputs/model.pt"]


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.mine.call.default",
        "torch.ops.higher_order.call_torchbind",
        "torch.ops.higher_order.triton_kernel_wrapper_mutation",
        "torch.ops.aten.linear.default.__globals__",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "math.sys.exit",
        "#mine:thing",
        "",
    ],
)
def test_only_known_operators_are_called(records: Records, target: str) -> None:
    refuses(
        altered(records, lambda graph: nodes(graph)[0].update(target=target)), f"calls {target}"
    )
    refuses(
        altered(
            records,
            lambda graph: nodes(graph)[0]["inputs"][0].update(arg={"as_operator": target}),
        ),
        f"calls {target}",
    )


@pytest.mark.parametrize("target", ["_operator.add", "torch.ops.higher_order.cond"])
def test_operators_between_numbers_and_branches_pass(records: Records, target: str) -> None:
    check(altered(records, lambda graph: nodes(graph)[0].update(target=target)))


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "().__class__",
        "s0.__class__",
        "[x for x in 'a']",
        "lambda: 0",
        "Symbol('__import__(1)')",
        "Add(1, 'exit()')",
        "f'{s0}'",
        "eval('1')",
        "Symbol(name)(1)",
        "s0 if 1 else 2",
        "__class__",
        "(",
        "1" * 5000 + "(",
        "(" * 5000,
    ],
)
def test_shape_expressions_are_numbers_and_symbols(records: Records, expression: str) -> None:
    def alter(graph: Any) -> None:
        nodes(graph)[0]["inputs"][0]["arg"] = {"as_expr": {"expr_str": expression}}

    refuses(altered(records, alter), "has the shape expression")
    refuses(
        altered(records, lambda graph: graph["range_constraints"].update({expression: {}})),
        "has the shape expression",
    )


@pytest.mark.parametrize(
    "expression",
    ["s0", "2*s0 + 1", "Mul(Integer(2), Symbol('s0', positive=True, integer=True))", "s0 // 2"],
)
def test_usual_shape_expressions_pass(records: Records, expression: str) -> None:
    check(
        altered(
            records,
            lambda graph: nodes(graph)[0]["inputs"][0].update(
                arg={"as_expr": {"expr_str": expression}}
            ),
        )
    )


@pytest.mark.parametrize(
    "context",
    [
        {"__enum__": True, "fqn": "antigravity:x", "name": "y"},
        {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []},
    ],
)
def test_nested_inputs_import_nothing(records: Records, context: dict[str, Any]) -> None:
    plain = json.dumps([context])
    hidden = plain.replace("__enum__", r"\u005f_enum__").replace("factory_m", r"factory\u005fm")
    assert json.loads(plain) == json.loads(hidden)
    for context_text in (plain, hidden):
        spec = json.dumps(
            [1, {"type": "builtins.dict", "context": context_text, "children_spec": []}]
        )
        for key in ("in_spec", "out_spec"):

            def alter(graph: Any, key: str = key, spec: str = spec) -> None:
                graph["graph_module"]["module_call_graph"][0]["signature"][key] = spec

            refuses(altered(records, alter), "imports by name")


@pytest.mark.parametrize(
    "name",
    [
        "model/data/aotinductor/model/model.so",
        "model/data/constants/custom_obj_0",
        "model/data/constants/opaque_obj_0",
        "model/code.py",
        "model/models/model.pkl",
        "model/serialized_exported_program.json",
        "model/data/weights/../../evil",
    ],
)
def test_unknown_records_are_refused(records: Records, name: str) -> None:
    refuses({**records, name: b"x"}, "is no record of graph or tensors")


def test_pickled_weights_are_handed_on(records: Records) -> None:
    """The loader unpickles a weight if only one entry of several says so."""
    (config,) = [name for name in records if name.endswith("model_weights_config.json")]
    entries = json.loads(records[config])["config"]
    first = entries["mean"]["path_name"]
    for other in (first, first.upper()):
        doubled = {**entries, "again": {**entries["mean"], "use_pickle": True, "path_name": other}}
        found = check({**records, config: json.dumps({"config": doubled}).encode()})
        assert f"model/data/weights/{first}" in found
    unnamed = {"layers.0.bias": entries["layers.0.bias"]}
    found = check({**records, config: json.dumps({"config": unnamed}).encode()})
    assert f"model/data/weights/{first}" in found


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_graph_that_is_no_json(records: Records, content: bytes) -> None:
    (name,) = [name for name in records if "/models/" in name]
    refuses({**records, name: content}, "is no JSON")


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"config": [1]}', b'{"config": {"a": 1}}'])
def test_an_odd_list_of_weights_leaves_them_all_suspect(records: Records, content: bytes) -> None:
    (config,) = [name for name in records if name.endswith("model_weights_config.json")]
    weights = [name for name in records if "/weights/weight_" in name]
    assert set(weights) <= set(check({**records, config: content}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name(records: Records) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in [*records.items(), *records.items()]:
            archive.writestr(name, content)
    with zipfile.ZipFile(file) as archive, pytest.raises(ForbiddenContentError, match="two rec"):
        check_exported(archive, lambda *_: None)


def load_with_torch(path: Path, records: Records) -> None:
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in records.items():
        record = name.partition("/")[2]
        if not record.startswith(".data/") and record != "byteorder":
            writer.write_record(record, content, len(content))
    writer.write_end_of_file()
    with contextlib.suppress(Exception):  # whatever comes of what the harm left behind
        torch.export.load(path).module(check_guards=False)(torch.ones(4, 4))


def test_torch_does_evaluate_shape_expressions(tmp_path: Path, records: Records) -> None:
    marker = tmp_path / "marker"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"

    def alter(graph: Any) -> None:
        sizes = graph["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0] = {"as_expr": {"expr_str": code, "hint": {"as_int": 4}}}

    evil = altered(records, alter)
    load_with_torch(tmp_path / "model.pt2", evil)
    assert marker.exists()
    refuses(evil, "has the shape expression")


def test_torch_does_unpickle_weights(tmp_path: Path, records: Records) -> None:
    marker = tmp_path / "marker"
    path = call(named("pathlib", "PosixPath"), text(str(marker)))
    code = call(named("pathlib", "Path.touch", on_stack=True), path)
    (config,) = [name for name in records if name.endswith("model_weights_config.json")]
    entries = json.loads(records[config])["config"]
    first = next(iter(entries.values()))["path_name"]
    entries["again"] = {**entries["mean"], "path_name": first, "use_pickle": True}
    evil = {
        **records,
        config: json.dumps({"config": entries}).encode(),
        f"model/data/weights/{first}": torch_saved(whole(code)),
    }
    load_with_torch(tmp_path / "model.pt2", evil)
    assert marker.exists()
    assert f"model/data/weights/{first}" in check(evil)


def torch_saved(data: bytes) -> bytes:
    """As ``torch.save`` has it, in as many bytes as four-byte numbers could be."""
    records = {"data.pkl": data, "version": b"3", "byteorder": b"little", "filler": b""}
    while True:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in records.items():
                archive.writestr(f"archive/{name}", content)
        if len(file.getvalue()) % 4 == 0:
            return file.getvalue()
        records["filler"] += b" "


def test_samples_are_pickles_that_are_looked_at(records: Records) -> None:
    handed: dict[str, bytes] = {}
    file = io.BytesIO()
    evil = pickle.dumps(print)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, evil if "sample_inputs" in name else content)
    with zipfile.ZipFile(file) as archive:
        check_exported(archive, handed.__setitem__)
    assert handed == {"model/data/sample_inputs/model.pt": evil}
