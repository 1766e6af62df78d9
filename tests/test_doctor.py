"""`headgate doctor` on bundles with something wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate import doctor
from headgate.doctor import Finding, examine
from headgate.records import ModelRef
from headgate.registry import write_lock

LOOKS = ["python", "packages", "settings", "models", "disk", "registry", "host", "port", "gpu"]
SLO = "[slo]\np95_ms = 5\nmin_rps = 1\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose registry wants a driver that nobody has."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+nodriver://h/x")
    monkeypatch.delenv("HEADGATE_HOME", raising=False)
    monkeypatch.delenv("HEADGATE_PORT", raising=False)
    write(tmp_path)
    return tmp_path


def write(root: Path, host: str = "127.0.0.1") -> None:
    text = f'[server]\nhost = "{host}"\n[gate.profiles.quick]\nrate = 1\n'
    (root / "headgate.toml").write_text(text)


def room(root: Path, name: str) -> None:
    folder = root / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(f'name = "{name}"\n{SLO}')


def pin(root: Path, *names: str) -> None:
    digest = f"sha256:{'0' * 64}"
    refs = [ModelRef(name=name, version="1", run_id="r", digest=digest) for name in names]
    write_lock(root, refs)


def found(root: Path) -> dict[str, Finding]:
    findings = {each.name: each for each in examine(root)}
    assert list(findings) == LOOKS
    return findings


def test_a_state_folder_below_a_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "file").touch()
    monkeypatch.setenv("HEADGATE_HOME", str(root / "file" / "x"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    findings = found(root)
    assert "file is no folder" in findings["disk"].detail
    assert "HEADGATE_HOME" in findings["registry"].detail
    assert not findings["disk"].ok
    assert not findings["registry"].ok
    assert findings["settings"].ok
    assert findings["host"].ok


def test_broken_settings_hide_nothing_else(root: Path) -> None:
    (root / "headgate.toml").write_text("[server]\nprot = 1")
    room(root, "a")
    findings = found(root)
    assert "server.prot" in findings["settings"].detail
    assert findings["models"].ok
    assert findings["disk"].ok
    assert "registry" not in findings["settings"].detail
    for name in ("host", "port"):  # it is told once
        assert findings[name].detail == "not looked at — see settings"
        assert not findings[name].ok


def test_a_model_that_is_pinned_but_has_no_room(root: Path) -> None:
    room(root, "a")
    pin(root, "a", "b", "c")
    finding = found(root)["models"]
    assert not finding.ok
    assert finding.detail.startswith(f"{root / 'models.lock'}: pins b, c, but no room")
    assert "delete the [[model]] entry" in finding.detail


def test_what_is_not_pinned_yet(root: Path) -> None:
    for name in "abc":
        room(root, name)
    pin(root, "b")
    finding = found(root)["models"]
    assert finding.ok
    assert finding.detail.endswith("models.lock pins 1; `headgate ship` pins a, c")
    pin(root, "a", "b", "c")
    assert found(root)["models"].detail.endswith("models.lock pins 3")


def test_a_bundle_without_rooms(root: Path) -> None:
    finding = found(root)["models"]
    assert not finding.ok
    assert "model.toml and train.py" in finding.detail


@pytest.mark.parametrize("host", ["not a host", "", "x" * 70])
def test_a_host_that_is_none(root: Path, host: str) -> None:
    write(root, host)
    finding = found(root)["host"]
    assert not finding.ok
    assert "server.host" in finding.detail
    assert "127.0.0.1" in finding.detail


def test_a_bad_host_is_seen_while_a_server_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_port", lambda _: "headgate:a serves on 127.0.0.1:3000")
    write(root, "not a host")
    findings = found(root)
    assert findings["port"].ok
    assert not findings["host"].ok


@pytest.mark.parametrize("name", ["", "../../x"])
def test_a_name_no_model_may_have(root: Path, name: str) -> None:
    room = root / "models" / "a"
    room.mkdir(parents=True)
    (room / "model.toml").write_text(f'name = "{name}"\n{SLO}')
    findings = found(root)
    assert findings["settings"].ok
    assert not findings["models"].ok
    assert "letter or digit first" in findings["models"].detail


def test_a_lock_that_reaches_out(root: Path) -> None:
    pin = 'name = "a"\nversion = "1"\nrun_id = "r"\ndigest = "sha256:../../x"\n'
    (root / "models.lock").write_text(f"[[model]]\n{pin}")
    assert "sha256:../../x" in found(root)["models"].detail


def test_it_does_not_recommend_itself(root: Path) -> None:
    finding = found(root)["registry"]
    assert not finding.ok
    assert "headgate doctor" not in finding.detail


def test_a_missing_library_hides_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: Path) -> str:
        raise ModuleNotFoundError(name="mlflow")

    monkeypatch.setattr(doctor, "_registry", absent)
    assert found(root)["registry"].detail.startswith("mlflow is not installed")
