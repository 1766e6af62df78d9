"""What is packaged, read strictly: what cannot be served is refused before anything is opened."""

from __future__ import annotations

import json
import shutil

import pytest
from predictor.factory import make_artifact, make_bundle

from headgate.errors import ArtifactError, ConfigError, ServingError
from headgate.serving.bundle import open_bundle

TENSOR, TABLE = "breast-cancer", "late-flights"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "root")


def folder(root):
    return root / ".headgate" / "bundle"


def write_index(root, *models, version=1):
    index = {"format": version, "models": [{"name": name, "path": path} for name, path in models]}
    (folder(root) / "bundle.json").write_text(json.dumps(index))


def rename(root, old, new):
    """Give a packaged model and its room another name."""
    manifest = folder(root) / old / "predictor.json"
    manifest.write_text(manifest.read_text().replace(f'"{old}"', f'"{new}"'))
    room = root / "models" / old.replace("-", "_") / "model.toml"
    room.write_text(room.read_text().replace(f'"{old}"', f'"{new}"'))


def test_models_come_in_the_order_of_the_index_with_their_settings(root):
    write_index(root, (TABLE, TABLE), (TENSOR, TENSOR))
    bundle = open_bundle(root)
    assert [model.name for model in bundle.models] == [TABLE, TENSOR]
    model = bundle.models[1]
    assert model.path == folder(root) / TENSOR
    assert model.ref.version == "1"
    assert model.manifest.engine == "onnx"
    assert model.config.serving.deadline_ms == 2000
    assert not model.wants_gpu
    assert bundle.server.port == 3000


def test_a_bento_says_what_it_carries(root):
    assert open_bundle(root).labels == {
        "headgate.models": f"{TENSOR},{TABLE}",
        **{
            f"headgate.model.{name}.{key}": value
            for name in (TENSOR, TABLE)
            for key, value in {
                "version": "1",
                "run_id": "0" * 32,
                "digest": "sha256:" + "0" * 64,
            }.items()
        },
    }


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("flight-delay", "flight_delay"),
        ("a.b-c d", "a_b_c_d"),
        ("ümlaut", "model__mlaut"),
        ("2nd", "model_2nd"),
        ("readyz", "model_readyz"),
        ("worker", "model_worker"),
        ("v2", "model_v2"),
        ("Readyz", "Readyz"),
    ],
)
def test_what_its_typed_endpoint_is_called(root, name, method):
    rename(root, TENSOR, name)
    write_index(root, (name, TENSOR))
    assert open_bundle(root).models[0].method == method


def test_gpu(root):
    room = root / "models" / "breast_cancer" / "model.toml"
    room.write_text(room.read_text() + "\n[resources]\ngpu = 1\n")
    assert open_bundle(root).models[0].wants_gpu


@pytest.mark.parametrize(("value", "threads"), [(None, 3), ("1", 1), ("12", 12)])
def test_threads(root, monkeypatch, value, threads):
    text = (root / "headgate.toml").read_text()
    (root / "headgate.toml").write_text("[server]\nthreads = 3\n" + text)
    monkeypatch.delenv("HEADGATE_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("HEADGATE_THREADS", value)
    assert open_bundle(root).threads == threads


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "²", "many"])
def test_no_number_of_threads(root, monkeypatch, value):
    monkeypatch.setenv("HEADGATE_THREADS", value)
    with pytest.raises(ConfigError, match=r"HEADGATE_THREADS: .* is no number of threads"):
        _ = open_bundle(root).threads


def test_nothing_is_packaged(tmp_path):
    with pytest.raises(ServingError, match="nothing is packaged yet: run `make ship`"):
        open_bundle(tmp_path)


def test_no_model_is_packaged(root):
    write_index(root)
    with pytest.raises(ServingError, match="no model is packaged"):
        open_bundle(root)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "models": [], "more": 1}', "\xff"]
)
def test_an_index_that_is_none(root, text):
    (folder(root) / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match="build again with `headgate build`"):
        open_bundle(root)


def test_an_index_that_cannot_be_read(root):
    (folder(root) / "bundle.json").unlink()
    (folder(root) / "bundle.json").mkdir()
    with pytest.raises(ArtifactError, match="build again"):
        open_bundle(root)


def test_an_index_of_another_format(root):
    write_index(root, (TENSOR, TENSOR), version=2)
    with pytest.raises(ArtifactError, match="format 2, not 1"):
        open_bundle(root)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "link"])
def test_a_model_outside_of_the_bundle(root, path, tmp_path):
    make_artifact(tmp_path / "elsewhere")
    (folder(root) / "link").symlink_to(tmp_path / "elsewhere")
    write_index(root, (TENSOR, path))
    with pytest.raises(ArtifactError, match="leads out of it"):
        open_bundle(root)


def test_a_model_that_is_not_there(root):
    write_index(root, (TENSOR, "gone"))
    with pytest.raises(ArtifactError, match="gone"):
        open_bundle(root)


def test_another_model_than_the_index_says(root):
    write_index(root, (TENSOR, TABLE))
    with pytest.raises(ArtifactError, match=f"it holds '{TABLE}', not '{TENSOR}'"):
        open_bundle(root)


def test_a_model_without_a_room(root):
    shutil.rmtree(root / "models" / "breast_cancer")
    with pytest.raises(ConfigError, match=f"{TENSOR}: a packaged model has no model.toml"):
        open_bundle(root)


def test_two_rooms_of_one_name(root):
    shutil.copytree(root / "models" / "breast_cancer", root / "models" / "copy")
    with pytest.raises(ConfigError, match=f"name '{TENSOR}' is taken by another folder"):
        open_bundle(root)


def test_a_setting_that_is_wrong(root):
    room = root / "models" / "breast_cancer" / "model.toml"
    room.write_text(room.read_text() + "\n[serving]\n")
    with pytest.raises(ConfigError, match=r"breast_cancer.model\.toml"):
        open_bundle(root)


def test_a_model_twice(root):
    write_index(root, (TENSOR, TENSOR), (TENSOR, TENSOR))
    with pytest.raises(ArtifactError, match=f"it lists '{TENSOR}' twice"):
        open_bundle(root)


def test_two_models_of_one_path(root):
    rename(root, TABLE, "breast_cancer")
    write_index(root, (TENSOR, TENSOR), ("breast_cancer", TABLE))
    with pytest.raises(ConfigError, match="would both be served as /breast_cancer"):
        open_bundle(root)
