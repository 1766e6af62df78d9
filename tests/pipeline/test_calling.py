"""`headgate client`: which release, which address, which row."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serving.asgi import make_root

from headgate import cli
from headgate.errors import UnknownModelError
from headgate.pipeline import callee

TAG = "headgate:0123456789ab"


class Here:
    """A bundle of which one Bento lies in the store."""

    def __init__(self, folder: Path, *, running: bool, live: bool = True) -> None:
        bento = folder / "store" / "bentos" / "headgate" / TAG.partition(":")[2]
        if not bento.exists():
            make_root(bento / "src")
            (bento / "bento.yaml").touch()
        self.store = folder / "store"
        self.address, self.grpc_address = "127.0.0.1:3000", "127.0.0.1:3001"
        there = SimpleNamespace(release=TAG, http="127.0.0.1:4000", grpc="")
        self.platform = SimpleNamespace(running=lambda: there if running else None)
        self._live = SimpleNamespace(tag=TAG) if live else None

    def state(self) -> Any:
        return SimpleNamespace(live=self._live)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundle")


def test_what_serves_is_asked_where_it_serves(folder: Path) -> None:
    bundle: Any = Here(folder, running=True, live=False)
    found = callee(bundle, "late-flights")
    assert (found.http, found.grpc, found.running) == ("127.0.0.1:4000", "", True)
    assert (found.release, found.version) == (TAG, "1")
    assert set(found.row) == {"carrier", "distance", "wind"}


def test_while_nothing_serves_it_is_what_is_live_and_where_it_would_be(folder: Path) -> None:
    bundle: Any = Here(folder, running=False)
    found = callee(bundle, "breast-cancer")
    assert (found.http, found.grpc, found.running) == ("127.0.0.1:3000", "127.0.0.1:3001", False)
    assert len(found.row) == 30


def test_a_model_that_it_has_not_is_told_so(folder: Path) -> None:
    bundle: Any = Here(folder, running=True)
    with pytest.raises(UnknownModelError, match="it has breast-cancer, late-flights"):
        callee(bundle, "early-flights")


def run(
    bundle: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
) -> tuple[int, str, str]:
    monkeypatch.setattr(cli, "_bundle", lambda: bundle)
    monkeypatch.setattr(sys, "argv", ["headgate", "client", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed, said = capsys.readouterr()
    assert "Traceback" not in said
    return int(ended.value.code or 0), printed, said


def test_the_command_prints_code_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed, said = run(Here(folder, running=True), monkeypatch, capsys, "late-flights")
    assert (code, said) == (0, "")
    assert printed.startswith("curl -sS http://127.0.0.1:4000/v1/models/late-flights:predict ")
    away = Here(folder, running=False)
    code, printed, said = run(away, monkeypatch, capsys, "late-flights", "--lang", "python")
    assert code == 0
    compile(printed, "snippet", "exec")
    assert "headgate up" in said
    code, printed, _ = run(away, monkeypatch, capsys, "late-flights", "--lang", "grpcurl", "--json")
    told = json.loads(printed)
    assert (told["lang"], told["release"], told["running"]) == ("grpcurl", TAG, False)
    assert "127.0.0.1:3001" in told["code"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["early-flights"], "it has breast-cancer, late-flights"),
        (["late-flights", "--lang", "grpcurl"], "grpc_port"),
        (["late-flights", "--lang", "cobol"], "cobol"),
        ([], "model"),
    ],
)
def test_wrong_usage_ends_with_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    bundle = Here(folder, running=True)
    code, printed, said = run(bundle, monkeypatch, capsys, *arguments)
    assert (code, printed) == (2, "")
    assert says in said
