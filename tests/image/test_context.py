"""What an image is built from."""

from __future__ import annotations

import os
from pathlib import Path

from headgate.image import image_labels, stage
from headgate.records import ModelRef, Release


def make_bento(folder: Path) -> Path:
    (folder / "src" / "headgate" / "__pycache__").mkdir(parents=True)
    (folder / "src" / "headgate" / "__pycache__" / "x.pyc").write_bytes(b"old")
    (folder / "src" / "service.py").write_text("service = 1\n")
    (folder / "bento.yaml").write_text("name: headgate\n")
    return folder


def found(folder: Path) -> dict[str, tuple[int, float, bytes]]:
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            path.stat().st_mtime,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def test_equal_files_are_staged_equally(tmp_path: Path) -> None:
    """Whenever they were written, and with whatever mask."""
    first, second = make_bento(tmp_path / "a"), make_bento(tmp_path / "b")
    os.utime(second / "bento.yaml", (1e9, 1e9))
    (second / "src" / "service.py").chmod(0o600)
    second.chmod(0o700)
    for bento in (first, second):
        stage(bento, bento.with_suffix(".staged"))
    staged = found(first.with_suffix(".staged"))
    assert staged == found(second.with_suffix(".staged"))
    assert {time for _, time, _ in staged.values()} == {0}
    assert sorted(staged) == ["bento.yaml", "src", "src/headgate", "src/service.py"]
    assert oct(staged["src"][0]) == "0o40755"
    assert oct(staged["src/service.py"][0]) == "0o100644"


def test_an_image_says_what_is_in_it() -> None:
    model = ModelRef(name="m", version="3", run_id="r", digest="sha256:m")
    release = Release(tag="headgate:12", digest="sha256:b", models=(model,))
    assert image_labels(release, "c0ffee") == {
        "org.opencontainers.image.title": "headgate",
        "org.opencontainers.image.version": "12",
        "org.opencontainers.image.revision": "c0ffee",
        "headgate.release": "headgate:12",
        "headgate.digest": "sha256:b",
        "headgate.model.m.version": "3",
        "headgate.model.m.digest": "sha256:m",
    }
    assert "org.opencontainers.image.revision" not in image_labels(release)
