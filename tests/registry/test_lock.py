from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import ConfigError
from headgate.records import ModelRef
from headgate.registry import read_lock, write_lock

REFS = (
    ModelRef(name="b", version="3", run_id="r1", digest="sha256:1"),
    ModelRef(name='odd "name" \\ é', version="12", run_id="r2", digest="sha256:2"),
)


def test_no_file_pins_nothing(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == ()


@pytest.mark.parametrize("refs", [(), REFS[:1], REFS])
def test_what_is_written_is_read(tmp_path: Path, refs: tuple[ModelRef, ...]) -> None:
    write_lock(tmp_path, refs)
    assert read_lock(tmp_path) == refs
    assert [path.name for path in tmp_path.iterdir()] == ["models.lock"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[model]]", "name"),
        ("[[model]", "models.lock"),
        ('models = "x"', "models"),
        ('[[model]]\nname = "a"\nversion = 1\nrun_id = "r"\ndigest = "sha256:1"', "version"),
        ('[[model]]\nname = "a"\nversion = "1"\nrun_id = "r"\ndigest = "md5:1"', "no sha256"),
        ('[[model]]\nname = "a"\nversion = "1"\nrun_id = "r"\ndigest = "sha256:1"\n' * 2, "twice"),
        ("\xff", "models.lock"),
    ],
)
def test_a_bad_lock_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "models.lock").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=says) as caught:
        read_lock(tmp_path)
    assert "headgate lock" in str(caught.value)


def test_a_failed_write_keeps_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lock(tmp_path, REFS)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_lock(tmp_path, ())
    assert read_lock(tmp_path) == REFS
    assert [path.name for path in tmp_path.iterdir()] == ["models.lock"]
