"""Nothing of a model is opened before every file of it that could run code was looked at."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
import torch
from sklearn.linear_model import LinearRegression

from headgate.errors import ConfigError, UnsafeModelError
from headgate.packaging.audit import audit_model, room_names
from headgate.packaging.source import Format, Source
from tests.packaging.nets import export, make_net, make_rows, save_whole
from tests.packaging.streams import call, named, text, whole

HARMLESS = pickle.dumps({"a": 1})


def evil(tmp_path: Path) -> bytes:
    command = f"touch {tmp_path / 'marker'}"
    return whole(call(named("os", "system"), text(command)))


def source(kind: Format, file: str) -> Source:
    flavor = "sklearn" if kind in {"skops", "pickle"} else "torch"
    return Source(flavor=flavor, format=kind, file=file, versions={})  # type: ignore[arg-type]


def write(folder: Path, **files: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def zipped(**records: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"model/{name.replace('__', '.')}", content)
    return file.getvalue()


def refuses(folder: Path, said: Source, says: str) -> UnsafeModelError:
    with pytest.raises(UnsafeModelError, match=says) as caught:
        audit_model(folder, said)
    assert str(folder) in caught.value.where
    assert "skops" in caught.value.remedy or "log the model again" in caught.value.remedy
    assert not (folder.parent / "marker").exists()
    return caught.value


def test_what_was_looked_at_is_told(tmp_path: Path) -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0, 1])
    folder = write(
        tmp_path / "m",
        model__pkl=pickle.dumps(model),
        MLmodel=b"flavors: {}",
        python_env__yaml=b"a: 1",
        extra__skops=skops.io.dumps(model),
        notes=b"\x80",
    )
    (folder / "data").mkdir()
    torch.save({"w": torch.ones(2)}, folder / "data" / "weights.pth")
    looked_at = audit_model(folder, source("pickle", "model.pkl"))
    assert looked_at == ("data/weights.pth", "extra.skops", "model.pkl")
    assert audit_model(folder, source("skops", "extra.skops")) == ("data/weights.pth", "model.pkl")


@pytest.mark.parametrize("name", ["model.pkl", "model.bin", "model.skops", "model", "a.json"])
@pytest.mark.parametrize("protocol", [0, 4])
def test_the_model_is_looked_at_whatever_it_is_called(
    tmp_path: Path, name: str, protocol: int
) -> None:
    data = b"cos\nsystem\n." if protocol == 0 else evil(tmp_path)
    folder = write(tmp_path / "m")
    (folder / name).write_bytes(data)
    error = refuses(folder, source("pickle", name), r"unpickling it would import os\.system")
    assert name in error.where


def test_pickles_beside_the_model_are_looked_at_too(tmp_path: Path) -> None:
    for name, data in (
        ("old.pkl", b"cos\nsystem\n."),
        ("cache.joblib", b"cos\nsystem\n."),
        ("notes.txt", evil(tmp_path)),
        ("weights.bin", zipped(data__pkl=evil(tmp_path))),
    ):
        folder = write(tmp_path / name, model__skops=b"PK")
        (folder / name).write_bytes(data)
        refuses(folder, source("skops", "model.skops"), r"os\.system")


def test_a_pickle_with_an_archive_at_its_end_is_a_pickle(tmp_path: Path) -> None:
    both = evil(tmp_path) + zipped(notes=b"harmless")
    assert zipfile.is_zipfile(io.BytesIO(both))
    folder = write(tmp_path / "m", model__pkl=both)
    refuses(folder, source("pickle", "model.pkl"), "something follows its end")
    folder = write(tmp_path / "n", model__pth=both)
    refuses(folder, source("torch", "model.pth"), "an archive with something before it")


def test_an_archive_behind_another_is_refused(tmp_path: Path) -> None:
    """Readers that go by the beginning would see the first, others the last."""
    both = zipped(data__pkl=evil(tmp_path)) + zipped(data__pkl=HARMLESS)
    folder = write(tmp_path / "m", model__pth=both)
    refuses(folder, source("torch", "model.pth"), "an archive with something before it")


@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL", "data.PKL"])
def test_torch_finds_its_pickle_whatever_the_case_of_its_name(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "m", model__pth=zipped(**{name: evil(tmp_path)}))
    refuses(folder, source("torch", "model.pth"), r"os\.system")


def test_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    data = zipped(**{"data.pkl": evil(tmp_path), "DATA.pkl": HARMLESS})
    folder = write(tmp_path / "m", model__pth=data)
    refuses(folder, source("torch", "model.pth"), "two records of one name")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04 and nothing more", "File is not a zip file"),
        (zipped(constants__pkl=HARMLESS), "TorchScript"),
        (zipped(CONSTANTS__pkl=HARMLESS), "TorchScript"),
        (b"no archive", "no pickle"),
        (pickle.dumps(1) + evil(Path("never")), "something follows its end"),
    ],
)
def test_what_torch_would_open_and_nobody_can_follow(
    tmp_path: Path, content: bytes, says: str
) -> None:
    folder = write(tmp_path / "m", model__pth=content)
    refuses(folder, source("torch", "model.pth"), says)


def test_torchs_own_old_format_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    torch.save({"w": torch.ones(2)}, folder / "model.pth", _use_new_zipfile_serialization=False)
    refuses(folder, source("torch", "model.pth"), "something follows its end")


def test_a_link_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (folder / "model.pkl").symlink_to("/dev/zero")
    refuses(folder, source("pickle", "model.pkl"), "a link")


def test_a_whole_torch_module_needs_the_rooms_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "m")
    save_whole(folder / "model.pth", make_net(), monkeypatch)
    said = source("torch", "model.pth")
    refuses(folder, said, r"would import net\.Net")
    assert audit_model(folder, said, {"net.Net"}) == ("model.pth",)


def test_an_exported_program_and_its_older_form(tmp_path: Path) -> None:
    """Without the marks of the present format the loader goes over to the older one's records."""
    folder = write(tmp_path / "m")
    export(folder / "model.pt2", make_net(), torch.from_numpy(make_rows(4)))
    assert audit_model(folder, source("pt2", "model.pt2")) == ("model.pt2",)
    older = zipped(version=b"8.1", **{"serialized_exported_program.json": b"{}"})
    folder = write(tmp_path / "n", model__pt2=older)
    refuses(folder, source("pt2", "model.pt2"), "is no record of graph or tensors")


def test_arrays_of_objects_are_pickles_too(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([1, "a"], dtype=object), allow_pickle=True)
    folder = write(tmp_path / "m", model__skops=b"", extra__npy=file.getvalue())
    # numpy does not open it unless it is told to, and nobody tells it.
    assert audit_model(folder, source("skops", "model.skops")) == ()


def test_the_rooms_names_are_read_and_not_run(tmp_path: Path) -> None:
    module = tmp_path / "net.py"
    module.write_text(
        "raise SystemExit\nclass Net: ...\ndef build(): ...\nif 1:\n    class Hidden: ...\n"
    )
    assert room_names(module, functions=False) == {"net.Net", "__main__.Net"}
    assert room_names(module, functions=True) >= {"net.build", "__main__.build", "net.Net"}
    assert room_names(None, functions=True) == frozenset()


@pytest.mark.parametrize("content", [b"class (", b"\x00", None])
def test_a_module_that_is_no_python_is_a_setting_gone_wrong(tmp_path: Path, content) -> None:
    module = tmp_path / "net.py"
    if content is not None:
        module.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot be read") as caught:
        room_names(module, functions=False)
    assert caught.value.where == str(module)
    assert "packaging.module" in caught.value.remedy
