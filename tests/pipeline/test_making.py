"""What a build tells while it packages."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
from predictor.factory import make_artifact

from headgate import packaging
from headgate.pipeline.live import _engine
from headgate.pipeline.make import _package
from headgate.records import ModelRef, Release


def test_what_runs_a_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = ModelRef(name="tumour", version="1", run_id="r", digest="sha256:0")
    asked: list[Any] = []

    def cached_package(*given: Any) -> Path:
        asked.extend(given)
        return make_artifact(tmp_path / "artifact")

    monkeypatch.setattr(packaging, "cached_package", cached_package)
    told: list[str] = []
    bundle: Any = types.SimpleNamespace(
        notify=told.append,
        room=lambda name: types.SimpleNamespace(config=f"config of {name}", path=tmp_path),
        fetch=lambda ref: f"files of {ref.name}",
    )
    assert _package(bundle, ref, tmp_path / "cache") == tmp_path / "artifact"
    assert told == ["packaging tumour version 1", "packaged tumour version 1: onnx"]
    assert asked == [tmp_path / "cache", ref, "files of tumour", "config of tumour", tmp_path]


def test_the_engine_of_a_live_model(tmp_path: Path) -> None:
    bento = tmp_path / "bentos" / packaging.BENTO_NAME / "0123456789ab"
    make_artifact(bento / "src" / packaging.BUNDLE / "tumour", engine="native")
    (bento / "bento.yaml").write_text("")
    here: Any = types.SimpleNamespace(store=tmp_path)
    release = Release(tag="headgate:0123456789ab", digest="d", models=())
    for name, engine in (("tumour", "sklearn"), ("other", "")):
        ref = ModelRef(name=name, version="1", run_id="r", digest="d")
        assert _engine(here, release, ref) == engine
    gone = Release(tag="headgate:ffffffffffff", digest="d", models=())
    assert _engine(here, gone, ModelRef(name="tumour", version="1", run_id="r", digest="d")) == ""
