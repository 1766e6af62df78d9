"""Bundle to Bento: named by its content, built once, whole or not there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from predictor.factory import NAMES, make_bundle

from headgate.errors import InputError, PackagingError
from headgate.packaging import bento as building
from headgate.packaging import bento_path, build_bento, list_bentos, read_release
from headgate.records import ModelRef, Release

ROOT = Path(__file__).parents[2]
MODELS = tuple(
    ModelRef(name=NAMES[kind], version="1", run_id="0" * 32, digest="sha256:" + "0" * 64)
    for kind in ("tensor", "table")
)


def make_root(folder: Path) -> Path:
    """A clone's sources, with two tiny models packaged."""
    make_bundle(folder)
    for name in ("service.py", "bentofile.yaml", "models.lock"):
        shutil.copy(ROOT / name, folder / name)
    unwanted = shutil.ignore_patterns("__pycache__", "packaging", "gate", "registry", "pipeline")
    shutil.copytree(ROOT / "headgate", folder / "headgate", ignore=unwanted)
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    for name in (".git/config", ".venv/lib/site.py", "tests/test_it.py", ".headgate/mlflow.db"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("no part of a Bento")
    (folder / "headgate" / "__pycache__").mkdir()
    (folder / "headgate" / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"x")
    return folder


BUILD = """
import sys
from pathlib import Path
from headgate.packaging import build_bento
build_bento(Path(sys.argv[1]), Path(sys.argv[2]), ())
"""


def kill_a_build(root: Path, store: Path) -> None:
    """Start a build in a process of its own and kill all of it when BentoML is at work."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(root), str(store)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while not list(store.glob(".build.*/store")):
        assert process.poll() is None
        assert time.monotonic() < until
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Release, bool]:
    """The store and what was built, where a build had been killed before."""
    store = tmp_path_factory.mktemp("home") / "store"
    kill_a_build(root, store)
    assert list_bentos(store) == []
    assert list(store.glob(".build.*"))
    release, new = build_bento(root, store, MODELS)
    return store, release, new


def test_a_killed_build_is_swept_and_made_anew(built: tuple[Path, Release, bool]) -> None:
    store, release, new = built
    assert new
    assert sorted(path.name for path in store.iterdir()) == ["bentos"]
    version = release.tag.removeprefix("headgate:")
    assert sorted(path.name for path in (store / "bentos" / "headgate").iterdir()) == sorted(
        [version, "latest"]
    )
    assert [path.name for path in list_bentos(store)] == [version]


def test_a_bento_is_named_by_its_digest(built: tuple[Path, Release, bool]) -> None:
    store, release, _ = built
    assert release.digest.startswith("sha256:")
    assert release.tag == f"headgate:{release.digest.removeprefix('sha256:')[:12]}"
    assert release.models == MODELS
    assert read_release(bento_path(store, release.tag)) == release


def test_its_labels_say_which_models_it_serves(built: tuple[Path, Release, bool]) -> None:
    store, release, _ = built
    labels = yaml.safe_load((bento_path(store, release.tag) / "bento.yaml").read_text())["labels"]
    expected = {"headgate.models": ",".join(model.name for model in MODELS)}
    for model in MODELS:
        for key in ("version", "run_id", "digest"):
            expected[f"headgate.model.{model.name}.{key}"] = getattr(model, key)
    assert expected.items() <= labels.items()


def test_only_what_serving_needs_is_in_it(built: tuple[Path, Release, bool]) -> None:
    store, release, _ = built
    source = bento_path(store, release.tag) / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert {"service.py", "headgate.toml", ".headgate/bundle/bundle.json"} <= files
    assert f".headgate/bundle/{MODELS[0].name}/model.onnx" in files
    assert not [name for name in files if "pycache" in name or "mlflow.db" in name]
    assert not [name for name in files if name.startswith((".git", ".venv", "tests"))]


def test_the_same_again_is_not_built_again(
    root: Path, built: tuple[Path, Release, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, release, _ = built
    monkeypatch.setattr(building, "_build", None)
    assert build_bento(root, store, MODELS) == (release, False)


def digest_of(root: Path) -> str:
    return building.tree_digest(root, building._included(root))


def test_the_digest_depends_on_contents_only(
    root: Path, tmp_path: Path, built: tuple[Path, Release, bool]
) -> None:
    """Not on where the files lie, when they were written, or what lies beside them."""
    other = tmp_path / "elsewhere"
    shutil.copytree(root, other, copy_function=shutil.copyfile)
    assert digest_of(other) == built[1].digest
    (other / "README.md").write_text("x")
    (other / ".headgate" / "live.json").write_text("x")
    (other / "headgate" / "notes.pyc").write_text("x")
    os.utime(other / "service.py", (1, 1))
    assert digest_of(other) == built[1].digest
    model = other / ".headgate" / "bundle" / MODELS[0].name / "model.onnx"
    changes = {
        "service.py": b"\n",
        "headgate/errors.py": b"\n",
        "requirements/serve.txt": b"\n",
        model.relative_to(other).as_posix(): b"\0",
    }
    seen = {built[1].digest}
    for name, more in changes.items():
        with (other / name).open("ab") as file:
            file.write(more)
        seen.add(digest_of(other))
    (other / "headgate" / "errors.py").rename(other / "headgate" / "records.py")
    seen.add(digest_of(other))
    assert len(seen) == 6


@pytest.mark.parametrize("damage", ["no bento.yaml", "no src", "a file of src", "one more"])
def test_half_a_bento_is_built_again(
    root: Path, built: tuple[Path, Release, bool], tmp_path: Path, damage: str, monkeypatch
) -> None:
    whole, release, _ = built
    store, version = tmp_path / "store", release.tag.removeprefix("headgate:")
    bento = store / "bentos" / "headgate" / version
    shutil.copytree(whole / "bentos" / "headgate" / version, bento)
    if damage == "no bento.yaml":
        (bento / "bento.yaml").unlink()
    elif damage == "no src":
        shutil.rmtree(bento / "src")
    elif damage == "a file of src":
        (bento / "src" / "service.py").unlink()
    else:
        (bento / "src" / "more.py").write_text("")
    assert bool(list_bentos(store)) is not damage.startswith("no ")
    if damage.startswith("no "):
        with pytest.raises(InputError, match="no such release"):
            bento_path(store, release.tag)
    made: list[str] = []

    def build(root: Path, files: list[str], folder: Path, version: str) -> Path:
        made.append(version)
        shutil.copytree(whole / "bentos" / "headgate" / version, folder / "built")
        return folder / "built"

    monkeypatch.setattr(building, "_build", build)
    assert build_bento(root, store, MODELS) == (release, True)
    assert made == [version]
    assert read_release(bento_path(store, version)) == release
    assert [path.name for path in store.iterdir()] == ["bentos"]


def test_a_bundle_that_changes_meanwhile_is_no_release(
    root: Path, built: tuple[Path, Release, bool], tmp_path: Path, monkeypatch
) -> None:
    whole, release, _ = built

    def build(root: Path, files: list[str], folder: Path, version: str) -> Path:
        shutil.copytree(whole / "bentos" / "headgate" / version, folder / "built")
        (folder / "built" / "src" / "service.py").write_text("x")
        return folder / "built"

    monkeypatch.setattr(building, "_build", build)
    with pytest.raises(PackagingError, match="its sources digest to sha256:") as caught:
        build_bento(root, tmp_path / "store", MODELS)
    assert caught.value.where == release.tag
    assert list_bentos(tmp_path / "store") == []
    assert list((tmp_path / "store").iterdir()) == []


def test_what_bentoml_refuses_is_said(tmp_path: Path) -> None:
    root, store = tmp_path / "root", tmp_path / "store"
    root.mkdir()
    (root / "service.py").write_text("raise SystemExit('there is no model to serve')\n")
    (root / "bentofile.yaml").write_text("service: 'service:service'\ninclude: ['/service.py']\n")
    with pytest.raises(PackagingError) as caught:
        build_bento(root, store, ())
    assert "bentoml build failed: " in caught.value.what
    assert "there is no model to serve" in caught.value.what
    assert caught.value.where == str(root / "bentofile.yaml")
    assert list_bentos(store) == []
    assert list(store.iterdir()) == []


@pytest.mark.parametrize(
    "content", [None, "a: [", "service: x\n", "include: 5\n", "- a\n", "include: []\nexclude: 7\n"]
)
def test_a_bentofile_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "bentofile.yaml").write_text(content)
    with pytest.raises(PackagingError, match="cannot be read") as caught:
        build_bento(tmp_path, tmp_path / "store", ())
    assert caught.value.where == str(tmp_path / "bentofile.yaml")
    assert "restore it" in caught.value.remedy


LABELS = {
    "headgate.models": "m",
    "headgate.model.m.version": "1",
    "headgate.model.m.run_id": "r",
    "headgate.model.m.digest": "sha256:0",
}


def write_bento(folder: Path, content: object, *, source: bool = True) -> Path:
    folder.mkdir(parents=True)
    if source:
        (folder / "src").mkdir()
        (folder / "src" / "service.py").write_text("x")
    raw = content if isinstance(content, bytes) else yaml.safe_dump(content).encode()
    (folder / "bento.yaml").write_bytes(raw)
    return folder


def test_a_release_is_read_from_its_bento(tmp_path: Path) -> None:
    bento = write_bento(tmp_path / "b", {"name": "headgate", "version": "abc", "labels": LABELS})
    release = read_release(bento)
    assert release.tag == "headgate:abc"
    assert release.models == (ModelRef(name="m", version="1", run_id="r", digest="sha256:0"),)
    (bento / "src" / "__pycache__").mkdir()
    (bento / "src" / "__pycache__" / "service.pyc").write_text("x")
    (bento / "src" / "bentofile.yaml").write_text("BentoML's own")
    assert read_release(bento) == release
    (bento / "src" / "service.py").write_text("y")
    assert read_release(bento).digest != release.digest


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"a: [",
        b"",
        [1],
        {"name": "n", "version": "1"},
        {"name": "n", "version": "1", "labels": None},
        {"name": "n", "version": "1", "labels": {"headgate.models": 5}},
        {"name": "n", "version": "1", "labels": {"headgate.models": "m"}},
        {"name": "n", "version": "1", "labels": {**LABELS, "headgate.model.m.version": 1}},
        {"name": "n", "version": "1", "labels": {**LABELS, "headgate.models": ""}},
        {"version": "1", "labels": LABELS},
    ],
)
def test_a_folder_that_is_no_bento_of_ours(tmp_path: Path, content: object) -> None:
    bento = write_bento(tmp_path / "b", content)
    with pytest.raises(PackagingError, match="not a Bento made by Headgate") as caught:
        read_release(bento)
    assert caught.value.where == str(bento)
    assert "headgate build" in caught.value.remedy
    assert "\n" not in caught.value.what


def test_a_folder_without_a_bento(tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match="not a Bento made by Headgate"):
        read_release(tmp_path)
    whole = {"name": "n", "version": "1", "labels": LABELS}
    bento = write_bento(tmp_path / "b", whole, source=False)
    with pytest.raises(PackagingError, match="not a Bento made by Headgate"):
        read_release(bento)


def test_bentos_are_listed_oldest_first_and_found_by_prefix(tmp_path: Path) -> None:
    folder = tmp_path / "bentos" / "headgate"
    assert list_bentos(tmp_path) == []
    with pytest.raises(InputError, match="no such release") as caught:
        bento_path(tmp_path, "headgate:abc")
    assert caught.value.remedy == "built here: none, run `headgate build`"
    for age, name in enumerate(("abcd11", "abcd22", "ab")):
        bento = write_bento(folder / name, {})
        os.utime(bento / "bento.yaml", (1000 - age, 1000 - age))
    (folder / "empty").mkdir()
    (folder / "latest").write_text("abcd11")
    assert [path.name for path in list_bentos(tmp_path)] == ["ab", "abcd22", "abcd11"]
    assert bento_path(tmp_path, "headgate:abcd2").name == "abcd22"
    assert bento_path(tmp_path, "ab").name == "ab"
    with pytest.raises(InputError, match="fits several: abcd22, abcd11"):
        bento_path(tmp_path, "abc")
    for tag in ("", "headgate:", "abcd3", "empty", "latest", "../headgate/ab"):
        with pytest.raises(InputError, match="no such release"):
            bento_path(tmp_path, tag)
