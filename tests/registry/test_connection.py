"""Addresses of registries: wrong ones end in one error, within seconds, and make nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from headgate.errors import RegistryError, RegistryUnreachableError
from headgate.registry import Registry
from headgate.registry.connection import masked, translated


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry of MLflow's database connection would be minutes: it is an error here."""

    def retried(*_: object) -> None:
        raise AssertionError("MLflow tries again")

    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", retried)


def refusal(root: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> RegistryError:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(RegistryError) as caught:
        Registry.open(root).events()
    assert caught.value.remedy
    assert "headgate doctor" not in caught.value.remedy
    assert "secret" not in str(caught.value)
    return caught.value


def test_nobody_there_is_said_quickly(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    for name in ("MAX_RETRIES", "TIMEOUT", "BACKOFF_FACTOR"):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "1")
    registry = Registry.open(root)
    with pytest.raises(RegistryUnreachableError, match="does not answer") as caught:
        registry.events()
    assert "secret" not in str(caught.value)
    assert "http://user:***@127.0.0.1:9" in str(caught.value)


def test_a_broken_database_is_no_traceback(root: Path) -> None:
    (root / ".headgate" / "mlflow.db").write_text("this is no database, " * 100)
    with pytest.raises(RegistryError, match="refused"):
        Registry.open(root).events()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("http://h:5000", "http://h:5000"),
        ("https://u:p@h:5000/x", "https://u:***@h:5000/x"),
        ("https://u@h:5000/x", "https://u@h:5000/x"),
        (
            "postgresql+psycopg://u:p@h/x?sslmode=require",
            "postgresql+psycopg://u:***@h/x?sslmode=require",
        ),
        ("http://u:p@[::bad", "http://u:***@[::bad"),
        ("postgresql://u:p/w@x@h/x", "postgresql://u:***@h/x"),
        ("postgresql:///x?user=u&password=p&host=h", "postgresql:///x?user=u&password=***&host=h"),
    ],
)
def test_masked(uri: str, shown: str) -> None:
    assert masked(uri) == shown


@pytest.mark.parametrize("uri", ["http://[::bad", "http://u:secret@[::bad", "http://u:secret@h:x"])
def test_what_is_no_address(root: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    error = refusal(root, monkeypatch, uri)
    assert "no address" in error.what
    assert error.where == masked(uri)
    assert "MLFLOW_TRACKING_URI" in error.remedy


@pytest.mark.parametrize(
    ("driver", "package"),
    [("psycopg2", "psycopg2-binary"), ("psycopg", "'psycopg[binary]'"), ("pg8000", "pg8000")],
)
def test_a_driver_that_is_not_installed(
    root: Path, monkeypatch: pytest.MonkeyPatch, driver: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    error = refusal(root, monkeypatch, f"postgresql+{driver}://u:secret@127.0.0.1:9/x")
    assert f"driver {driver} is not installed" in error.what
    assert f"`pip install {package}`" in error.remedy
    assert error.where == f"postgresql+{driver}://u:***@127.0.0.1:9/x"


@pytest.mark.parametrize("uri", ["postgresql+no://u:secret@h/x", "nonsense://u:secret@h/x"])
def test_an_address_of_no_known_kind(root: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    assert "refused" in refusal(root, monkeypatch, uri).what


def test_kinds_of_address_that_there_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refusal(root, monkeypatch, "foo://u:secret@h/x")
    assert error.where == "foo://u:***@h/x"
    assert "https:" in error.remedy
    assert "sqlite:" in error.remedy
    assert "://" not in error.what


def test_a_long_refusal_ends_between_words() -> None:
    said = "word " * 100
    with pytest.raises(RegistryError) as caught, translated("http://h"):
        raise OSError(said)
    assert caught.value.what.endswith(" word …")
    assert len(caught.value.what) < 350


def test_a_database_server_that_is_down(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy

    with socket.socket() as closed:  # bound, but not listening
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        url = f"postgresql://u:secret@127.0.0.1:{port}/x"
        # An engine wants its driver, but no driver is needed to learn that nobody listens.
        engine = SimpleNamespace(url=sqlalchemy.make_url(url), dispose=lambda: None)
        monkeypatch.setattr("mlflow.store.db.utils.create_sqlalchemy_engine", lambda _: engine)
        error = refusal(root, monkeypatch, url)
    assert isinstance(error, RegistryUnreachableError)
    assert f"no database listens on 127.0.0.1:{port}" in error.what


def test_a_database_that_is_a_folder(root: Path) -> None:
    (root / ".headgate" / "mlflow.db").unlink()
    (root / ".headgate" / "mlflow.db").mkdir()
    with pytest.raises(RegistryUnreachableError, match="cannot be opened") as caught:
        Registry.open(root).events()
    assert "permissions" in caught.value.remedy


def test_a_file_in_no_folder_makes_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refusal(root, monkeypatch, f"sqlite:///{root / 'mistyped' / 'dir' / 'x.db'}")
    assert f"there is no folder {root / 'mistyped' / 'dir'} " in error.what
    assert not (root / "mistyped").exists()


def test_a_file_is_made_in_a_folder_that_is_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'x.db'}")
    Registry.open(root)
    assert (root / "x.db").is_file()


def test_a_second_registry_is_as_much_its_own(root: Path) -> None:
    """The first one leaves its address in the environment."""
    import shutil

    Registry.open(root)
    shutil.rmtree(root / ".headgate")
    Registry.open(root)
    assert (root / ".headgate" / "mlflow.db").is_file()


def test_making_a_registry_is_silent(tmp_path: Path) -> None:
    unset = ("MLFLOW_TRACKING_URI", "_MLFLOW_SERVER_ARTIFACT_ROOT", "HEADGATE_HOME")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    code = (
        "import sys; from pathlib import Path; from headgate.registry import Registry; "
        "print(Registry.open(Path(sys.argv[1])).events())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
