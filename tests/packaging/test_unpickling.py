"""The second line: what the audit would have refused is refused once more where it is opened."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from headgate.errors import UnsafeModelError
from headgate.packaging.unpickling import (
    install_source,
    load_pickle,
    no_side_effects,
    pickle_module,
)
from headgate.predictor.engines.source import load_source
from tests.packaging.nets import make_net, save_whole, write_source
from tests.packaging.streams import call, named, text, whole


def load(folder: Path, data: bytes, room: tuple[str, ...] = (), source=None):
    (folder / "model.pkl").write_bytes(data)
    return load_pickle(folder / "model.pkl", room, source)


def test_a_model_is_read(tmp_path: Path) -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0, 2])
    assert load(tmp_path, pickle.dumps(model)).predict([[2.0]]).tolist() == pytest.approx([4])


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("subprocess", "Popen"), ("builtins", "eval"), ("builtins", "exec")],
)
def test_names_that_are_not_allowed_are_not_looked_up(
    tmp_path: Path, module: str, name: str
) -> None:
    code = f"__import__('os').mkdir({str(tmp_path / 'marker')!r})"
    data = whole(call(named(module, name), text(code)))
    with pytest.raises(UnsafeModelError, match=f"would import {module}.{name}"):
        load(tmp_path, data)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("module", "name", "says"),
    [
        ("torch.nn.modules.module", "OrderedDict", "collections's, not torch's"),
        ("sklearn.ensemble._forest", "Parallel", ""),
        ("sklearn.pipeline", "Bunch", ""),
        ("sklearn.utils._bunch", "Bunch", ""),
        ("sklearn.tree._classes", "Integral", "numbers's, not sklearn's"),
        ("sklearn.neighbors._base", "KDTree", ""),
    ],
)
def test_names_that_a_library_only_imported(
    tmp_path: Path, module: str, name: str, says: str
) -> None:
    data = whole(named(module, name))
    if not says:
        assert load(tmp_path, data).__name__ == name
        return
    with pytest.raises(UnsafeModelError, match=says):
        load(tmp_path, data)


def test_no_module_is_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.tree._classes as home

    monkeypatch.setattr(home, "Inner", types.ModuleType("Inner"), raising=False)
    with pytest.raises(UnsafeModelError, match="is a module"):
        load(tmp_path, whole(named("sklearn.tree._classes", "Inner")))


def test_the_rooms_classes_come_from_its_reviewed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from whatever else has that name where the model is opened."""
    source = load_source(write_source(tmp_path))
    other = types.ModuleType("net")
    other.Net = print
    monkeypatch.setitem(sys.modules, "net", other)
    data = whole(named("net", "Net"))
    assert load(tmp_path, data, ("net.Net",), source) is source.Net
    with pytest.raises(UnsafeModelError, match=r"would import net\.Net"):
        load(tmp_path, data)


def test_torch_takes_it_for_a_pickle_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_source(write_source(tmp_path))
    file = save_whole(tmp_path / "model.pth", make_net(), monkeypatch)
    module = pickle_module({"net.Net"}, source)
    opened = torch.load(file, weights_only=False, pickle_module=module)
    assert type(opened) is source.Net
    with pytest.raises(UnsafeModelError, match=r"net\.Net"):
        torch.load(file, weights_only=False, pickle_module=pickle_module((), None))


def test_a_skops_file_finds_the_rooms_classes(tmp_path: Path) -> None:
    name = "a_training_script_of_the_tests"
    source = load_source(write_source(tmp_path))
    try:
        install_source(source, {f"{name}.Net"})
        assert sys.modules[name].Net is source.Net
    finally:
        del sys.modules[name]


def test_programs_and_connections_are_not_started_meanwhile() -> None:
    with no_side_effects():
        np.zeros(3).sum()
        for start in (
            lambda: os.system("true"),  # noqa: S605
            lambda: subprocess.run(["true"], check=False),
            os.fork,
            lambda: socket.create_connection(("127.0.0.1", 9)),
            lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
        ):
            with pytest.raises(PermissionError, match="opening a model must not cause"):
                start()
    assert subprocess.run(["true"], check=False).returncode == 0


def test_the_ban_ends_with_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), no_side_effects():
        1 / 0  # noqa: B018
    assert subprocess.run(["true"], check=False).returncode == 0
