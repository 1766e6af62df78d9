from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import ConfigError
from headgate.records import ModelRef
from headgate.registry import read_lock, write_lock

DIGEST = "sha256:" + "0123456789abcdef" * 4
REFS = (
    ModelRef(name="b", version="3", run_id="r1", digest=DIGEST),
    ModelRef(name="a.b_c D-e", version="12", run_id="", digest=DIGEST),
)
PIN = f'[[model]]\nname = "a"\nversion = "1"\nrun_id = "r"\ndigest = "{DIGEST}"\n'


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
        (PIN.replace("sha256", "md5"), "sha256: and 64"),
        (PIN.replace(DIGEST, "sha256:"), "digest 'sha256:' of model 'a'"),
        (PIN.replace(DIGEST, "sha256:../../x"), "sha256: and 64"),
        (PIN.replace(DIGEST, DIGEST + "\\n"), "sha256: and 64"),
        (PIN.replace(DIGEST, DIGEST.upper()), "sha256: and 64"),
        (PIN.replace('"a"', '"../a"'), "name '../a'"),
        (PIN.replace('"a"', '""'), "name ''"),
        (PIN.replace('"1"', '"../1"'), "version '../1'"),
        (PIN.replace('"1"', '"\\u00b2"'), "version"),
        (PIN.replace('"r"', '"../r"'), "run_id '../r'"),
        (PIN * 2, "twice"),
        ("\xff", "models.lock"),
    ],
)
def test_a_bad_lock_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "models.lock").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=says) as caught:
        read_lock(tmp_path)
    assert "headgate lock" in caught.value.remedy
    assert caught.value.where == str(tmp_path / "models.lock")


def test_a_failed_write_keeps_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lock(tmp_path, REFS)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_lock(tmp_path, ())
    assert read_lock(tmp_path) == REFS
    assert [path.name for path in tmp_path.iterdir()] == ["models.lock"]
