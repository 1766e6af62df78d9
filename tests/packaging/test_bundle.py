"""The bundle that serving reads appears complete or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from predictor.factory import make_artifact

from headgate.errors import ArtifactError, PackagingError
from headgate.packaging import assemble_bundle
from headgate.predictor import Predictor


def test_artifacts_are_put_side_by_side(tmp_path: Path) -> None:
    one = make_artifact(tmp_path / "a", "tensor", name="one")
    two = make_artifact(tmp_path / "b", "table", name="two", version="7")
    target = tmp_path / "bundle"
    assemble_bundle(target, [("two", two), ("one", one)])
    assert json.loads((target / "bundle.json").read_text()) == {
        "format": 1,
        "models": [{"name": "two", "path": "two"}, {"name": "one", "path": "one"}],
    }
    assert Predictor.open(target / "two").ref.version == "7"
    assemble_bundle(target, [("one", one)])
    assert sorted(path.name for path in target.iterdir()) == ["bundle.json", "one"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "bundle"]


def test_an_altered_artifact_leaves_the_old_bundle(tmp_path: Path) -> None:
    one = make_artifact(tmp_path / "a", "tensor")
    target = tmp_path / "bundle"
    assemble_bundle(target, [("one", one)])
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    with (one / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="is altered"):
        assemble_bundle(target, [("one", one)])
    (one / "predictor.json").unlink()
    with pytest.raises(ArtifactError, match="no packaged predictor"):
        assemble_bundle(target, [("one", one)])
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "bundle.json"])
def test_names_that_no_folder_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackagingError, match="no name for a folder") as caught:
        assemble_bundle(tmp_path / "bundle", [(name, tmp_path)])
    assert caught.value.where == repr(name)
    assert not (tmp_path / "bundle").exists()


def test_two_of_one_name(tmp_path: Path) -> None:
    one = make_artifact(tmp_path / "a", "tensor")
    with pytest.raises(PackagingError, match="twice in one bundle"):
        assemble_bundle(tmp_path / "bundle", [("one", one), ("one", one)])
