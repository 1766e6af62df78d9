"""The registry on a real MLflow store."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from registry.makers import event, register, release

from headgate.errors import (
    ArtifactError,
    RegistryError,
    UnknownModelError,
)
from headgate.predictor import Reference
from headgate.records import Check, EventKind, Outcome, Release
from headgate.registry import Registry
from headgate.registry.events import EXPERIMENT


@pytest.fixture
def registry(root: Path) -> Registry:
    return Registry.open(root)


def test_an_empty_registry(registry: Registry) -> None:
    assert registry.latest("a") is None
    assert registry.versions("a") == []
    assert registry.events() == []


def test_versions_are_found_newest_last(registry: Registry) -> None:
    for number in range(1, 12):
        assert register("a", content=str(number)) == str(number)
    assert [each.version for each in registry.versions("a")] == [str(n) for n in range(1, 12)]
    newest = registry.latest("a")
    assert newest is not None
    assert newest.version == "11"
    assert registry.get("a", "11") == newest
    assert registry.get("a", "2").digest != newest.digest


def test_a_name_with_quotes(registry: Registry) -> None:
    assert registry.latest("it's") is None


@pytest.mark.parametrize("name", ["a", "b"])
def test_an_unknown_version_says_which_there_are(registry: Registry, name: str) -> None:
    register("a")
    with pytest.raises(UnknownModelError, match=r"registered: (1|no version)"):
        registry.get(name, "7")


def test_fetch(registry: Registry, tmp_path: Path) -> None:
    register("a")
    ref = registry.latest("a")
    assert ref is not None
    fetched = registry.fetch(ref, tmp_path / "cache" / "a")
    assert (fetched.model / "MLmodel").is_file()
    assert Reference.load(fetched.reference).rows == 3
    assert registry.fetch(ref, tmp_path / "cache" / "a") == fetched


def test_a_run_without_reference_says_how_to_log_one(registry: Registry, tmp_path: Path) -> None:
    register("a", reference=False)
    ref = registry.latest("a")
    assert ref is not None
    with pytest.raises(RegistryError, match="log_reference"):
        registry.fetch(ref, tmp_path / "a")


def test_an_altered_download_is_fetched_again(registry: Registry, tmp_path: Path) -> None:
    register("a")
    ref = registry.latest("a")
    assert ref is not None
    fetched = registry.fetch(ref, tmp_path / "a")
    (fetched.model / "weights.txt").write_text("altered")
    again = registry.fetch(ref, tmp_path / "a")
    assert (again.model / "weights.txt").read_text() == "weights"


def test_an_altered_registry_is_refused(registry: Registry, root: Path) -> None:
    register("a")
    ref = registry.latest("a")
    assert ref is not None
    next(root.rglob("mlartifacts/**/weights.txt")).write_text("altered")
    with pytest.raises(ArtifactError, match=r"models\.lock pins"):
        registry.fetch(ref, root / "a")
    assert not (root / "a").exists()
    assert list((root / ".headgate/cache/downloads").iterdir()) == []


def test_a_pin_of_another_registry_is_refused(registry: Registry, root: Path) -> None:
    register("a")
    ref = registry.latest("a")
    assert ref is not None
    elsewhere = msgspec.structs.replace(ref, run_id="another")
    missing = msgspec.structs.replace(ref, version="7")
    for _ in range(2):  # downloaded or not
        with pytest.raises(UnknownModelError, match=r"of run another, but .* MLFLOW_TRACKING_URI"):
            registry.fetch(elsewhere, root / "a")
        with pytest.raises(UnknownModelError, match="the registry holds no version 7 of a"):
            registry.fetch(missing, root / "a")
        registry.fetch(ref, root / "a")


@pytest.mark.parametrize("digest", ["sha256:", "sha256:../../x", "", f"sha256:{'0' * 63}/"])
def test_a_digest_that_is_none_deletes_nothing(registry: Registry, root: Path, digest: str) -> None:
    register("a")
    ref = registry.latest("a")
    assert ref is not None
    (root / "kept").mkdir()
    with pytest.raises(ArtifactError, match="no sha256"):
        registry.fetch(msgspec.structs.replace(ref, digest=digest), root / "kept")
    assert (root / "kept").is_dir()


def test_what_is_no_download_is_not_replaced(registry: Registry, root: Path) -> None:
    register("a")
    ref = registry.latest("a")
    assert ref is not None
    (root / "kept").mkdir()
    (root / "kept" / "precious.txt").write_text("mine")
    (root / "link").symlink_to(registry.fetch(ref, root / "fetched").model.parent)
    (root / "fetched" / "model" / "weights.txt").write_text("altered")
    for into in (root / "kept", root / "link"):
        with pytest.raises(ArtifactError, match="no download"):
            registry.fetch(ref, into)
    assert (root / "kept" / "precious.txt").read_text() == "mine"
    assert (root / "fetched" / "model" / "weights.txt").read_text() == "altered"


def test_events_come_back_in_order(registry: Registry) -> None:
    written = [event(2), event(1, EventKind.GATED), event(3, EventKind.ROLLED_BACK)]
    for each in written:
        registry.append(each, {"report.md": b"# Report"})
    assert registry.events() == sorted(written, key=lambda each: each.id)


def test_the_run_of_an_event_can_be_read_by_people(registry: Registry) -> None:
    import mlflow

    check = Check(
        name="p95", model="a", outcome=Outcome.PASS, reason="fine", samples=9, observed=12.5
    )
    gated = event(1, EventKind.GATED)
    assert gated.verdict is not None
    gated = msgspec.structs.replace(
        gated, verdict=msgspec.structs.replace(gated.verdict, checks=(check,))
    )
    registry.append(gated, {"report.md": b"# Report"})
    (run,) = mlflow.search_runs(experiment_names=[EXPERIMENT], output_format="list")
    assert run.info.run_name == "gated headgate:a"
    assert run.data.tags["headgate.verdict"] == "pass"
    assert run.data.metrics == {"a/p95": 12.5}
    assert run.info.status == "FINISHED"
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/report.md")
    assert text == "# Report"


def test_a_half_written_event_is_none(registry: Registry) -> None:
    registry.append(event(1), {})
    register("a")

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.tracking.MlflowClient.set_tag", kill)
        with pytest.raises(Killed):
            registry.append(event(2), {})
    assert [each.id for each in registry.events()] == [event(1).id]


def test_a_long_verdict_keeps_its_checks_in_the_attachment(registry: Registry) -> None:
    check = Check(name="p95", model="a", outcome=Outcome.PASS, reason="x" * 900, samples=9)
    gated = event(1, EventKind.GATED)
    assert gated.verdict is not None
    long = msgspec.structs.replace(gated.verdict, checks=(check,) * 20)
    registry.append(msgspec.structs.replace(gated, verdict=long), {})
    (found,) = registry.events()
    assert found.verdict == msgspec.structs.replace(long, checks=())


def test_many_events(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.registry.events._PAGE", 7)
    for number in range(30):
        registry.append(event(number), {})
    assert [each.why for each in registry.events()] == [f"reason {n}" for n in range(30)]


def test_labels_of_a_deleted_version_are_told_not_raised(registry: Registry) -> None:
    from mlflow.tracking import MlflowClient

    for name in "ab":
        register(name)
    gone, there = (registry.get(name, "1") for name in "ab")
    MlflowClient().delete_model_version("a", "1")
    of = release("r", gone, there)
    (tag,) = registry.append(event(1, EventKind.GATED, of), {})
    assert tag.startswith("tag headgate.verdict of a version 1 is not set: ")
    assert len(registry.events()) == 1
    assert registry.append(event(2, EventKind.PROMOTED, of), {}) == ()
    told = registry.follow_aliases(of, None)
    assert [line.partition(" is not set: ")[0] for line in told] == [
        "alias champion of a version 1",
        "tag headgate.release of a version 1",
    ]
    assert registry.versions("b")[0].aliases == ("champion",)
    MlflowClient().delete_registered_model("a")
    assert len(registry.follow_aliases(of, None)) == 3
    assert registry.follow_aliases(release("r", there), None) == ()


def test_an_event_that_is_not_written_is_an_error(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("no")

    monkeypatch.setattr("mlflow.tracking.MlflowClient.create_run", refuse)
    with pytest.raises(RegistryError, match="refused: no"):
        registry.append(event(1), {})


def test_labels_end_where_nobody_answers(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def hang_up(*_: object, **__: object) -> None:
        calls.append(1)
        raise ConnectionError("Connection refused")

    register("a")
    ref = registry.get("a", "1")
    monkeypatch.setattr("mlflow.tracking.MlflowClient.set_model_version_tag", hang_up)
    gated = event(1, EventKind.GATED, release("r", ref, ref, ref))
    assert len(registry.append(gated, {})) == len(calls) == 1


def test_appends_side_by_side_lose_nothing(root: Path) -> None:
    registries = [Registry.open(root) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda pair: pair[0].append(event(pair[1]), {}),
                zip(registries * 4, range(16), strict=True),
            )
        )
    assert len(registries[0].events()) == 16


def test_an_event_of_the_future_is_an_error(registry: Registry) -> None:
    from mlflow.tracking import MlflowClient

    registry.append(event(1), {})
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    run = client.search_runs([experiment.experiment_id])[0]
    client.set_tag(run.info.run_id, "headgate.event", '{"kind": "sung"}')
    with pytest.raises(RegistryError, match="newer Headgate"):
        registry.events()


def test_a_deleted_history_is_an_error(registry: Registry) -> None:
    from mlflow.tracking import MlflowClient

    registry.append(event(1), {})
    client = MlflowClient()
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    with pytest.raises(RegistryError, match="restore"):
        registry.events()


def test_aliases_follow_releases(registry: Registry) -> None:
    for _ in range(2):
        register("a")
    first, second = (registry.get("a", number) for number in "12")

    def aliases() -> dict[str, tuple[str, ...]]:
        return {each.version: each.aliases for each in registry.versions("a")}

    registry.follow_aliases(release("r1", first), None)
    assert aliases() == {"1": ("champion",), "2": ()}
    registry.follow_aliases(release("r1", first), release("r2", second))
    assert aliases() == {"1": ("champion",), "2": ("challenger",)}
    registry.follow_aliases(release("r2", second), None)
    assert aliases() == {"1": (), "2": ("champion",)}


def test_a_version_shows_what_its_live_release_was_judged(registry: Registry) -> None:
    from mlflow.tracking import MlflowClient

    register("a")
    register("b")
    register("b")
    a1, b1, b2 = registry.get("a", "1"), registry.get("b", "1"), registry.get("b", "2")
    first, second = release("r1", a1, b1), release("r2", a1, b2)

    def judge(number: int, of: Release, outcome: Outcome) -> None:
        gated = event(number, EventKind.GATED, of)
        assert gated.verdict is not None
        said = msgspec.structs.replace(gated.verdict, outcome=outcome)
        assert registry.append(msgspec.structs.replace(gated, verdict=said), {}) == ()

    def shown() -> list[str | None]:
        client = MlflowClient()
        found = [client.get_model_version(ref.name, ref.version) for ref in (a1, b1, b2)]
        return [each.tags.get("headgate.verdict") for each in found]

    judge(1, first, Outcome.PASS)
    assert registry.follow_aliases(first, None, Outcome.PASS) == ()
    judge(2, second, Outcome.FAIL)
    live = "pass in headgate:r1"
    assert shown() == [live, live, "fail in headgate:r2"]
    judge(3, second, Outcome.PASS)
    assert shown() == [live, live, "pass in headgate:r2"]
    judge(4, release("r3", a1, b2), Outcome.INCONCLUSIVE)
    assert shown() == [live, live, "pass in headgate:r2"]
    registry.follow_aliases(second, None, Outcome.PASS)
    assert shown() == ["pass in headgate:r2", live, "pass in headgate:r2"]
    judge(5, second, Outcome.FAIL)
    assert shown() == ["fail in headgate:r2", live, "fail in headgate:r2"]
    registry.follow_aliases(first, None, Outcome.PASS)
    assert shown() == [live, live, "fail in headgate:r2"]


@pytest.mark.e2e
def test_over_http(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on a tracking server in a process of its own."""
    import socket
    import time
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    store = root / ".headgate" / "mlflow.db"
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--backend-store-uri", f"sqlite:///{store}"),
            *("--artifacts-destination", str(tmp_path / "served"), "--workers", "1"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        registry = Registry.open(root)
        register("a")
        ref = registry.latest("a")
        assert ref is not None
        assert registry.fetch(ref, root / "fetched").reference.is_dir()
        registry.append(event(1, EventKind.GATED), {"report.md": b"# Report"})
        registry.follow_aliases(release("r", ref), None)
        assert [each.id for each in registry.events()] == [event(1).id]
        assert registry.versions("a")[0].aliases == ("champion",)
    finally:
        import os
        import signal

        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
