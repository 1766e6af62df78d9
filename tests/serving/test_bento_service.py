"""What `service.py` makes of a bundle, and what `bentofile.yaml` puts into a Bento."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pathspec
import pytest
import yaml
from predictor.factory import make_bundle
from serving.asgi import ROOT, complete_root, make_root, make_service, serving_app
from serving.echo import make_echoes

from headgate.errors import HeadgateError
from headgate.predictor import Field


def test_the_root_s_service_is_the_entry_service(tmp_path):
    root = make_root(tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The `__get_pydantic_core_schema__`")
        found = runpy.run_path(str(root / "service.py"))["service"]
    assert type(found).__name__ == "HeadgateService"
    assert found.name == "headgate"
    assert sorted(found.apis) == ["breast_cancer", "late_flights"]
    assert len((ROOT / "service.py").read_text().splitlines()) <= 60


def test_a_service_says_what_it_carries(tmp_path):
    root = make_root(tmp_path)
    (root / "headgate.toml").write_text(
        '[gate.profiles.quick]\nrate = 50\n[server]\nhost = "127.0.0.9"\nport = 4321\nworkers = 3\n'
    )
    service = make_service(root)
    assert service.labels["headgate.models"] == "breast-cancer,late-flights"
    assert service.labels["headgate.model.late-flights.version"] == "1"
    assert service.labels["headgate.model.late-flights.digest"] == "sha256:" + "0" * 64
    assert service.config["workers"] == 3
    assert service.config["http"] == {"host": "127.0.0.9", "port": 4321}
    assert service.config["logging"] == {"access": {"enabled": False}}
    assert f"- `late-flights` version 1, run `{'0' * 32}`, `sha256:" in service.doc


def test_a_description_is_told(tmp_path):
    root = make_root(tmp_path, kinds=("table",))
    room = root / "models" / "late_flights" / "model.toml"
    room.write_text('description = "Late or not."\n' + room.read_text())
    service = make_service(root)
    assert service.doc.strip().endswith(": Late or not.")
    assert service.apis["late_flights"].func.__doc__ == "Late or not."


@pytest.mark.filterwarnings("ignore:path is deprecated:DeprecationWarning")
@pytest.mark.parametrize("engine", ["onnx", "native"])
def test_the_image_has_what_serving_needs_and_nothing_else(tmp_path, engine):
    service = make_service(complete_root(make_bundle(tmp_path, ("table",), engine)))
    packages = service.image.freeze(tmp_path / "bento", []).python_requirements.splitlines()
    names = {re.split(r"[=<>\[ ;]", line)[0].lower() for line in packages}
    pinned = [line for line in packages if not re.match(r"[\w.\[\]-]+==", line)]
    assert pinned == []
    assert {"onnxruntime", "orjson", "uvloop"} <= names
    assert ({"scikit-learn", "pandas"} <= names) == (engine == "native")
    assert not names & {"mlflow", "torch", "locust"}
    assert "pandas" not in names or engine == "native"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / ".headgate/bundle/bundle.json").unlink(), "run `make ship`"),
        (lambda root: (root / ".headgate/bundle/bundle.json").write_text("{"), "headgate build"),
        (lambda root: (root / "models/late_flights/model.toml").unlink(), "late-flights"),
        (lambda root: (root / "headgate.toml").write_text("[servr]\n"), "servr"),
    ],
)
def test_a_bundle_that_cannot_be_served_ends_the_process_with_one_line(tmp_path, spoil, says):
    root = make_root(tmp_path, kinds=("table",))
    spoil(root)
    with pytest.raises(SystemExit) as end:
        make_service(root)
    assert says in str(end.value)
    assert len(str(end.value).splitlines()) == 1
    assert end.value.__suppress_context__


def test_a_worker_that_cannot_open_its_model_ends_with_one_line(tmp_path):
    root = make_root(tmp_path, kinds=("table",))
    (root / ".headgate/bundle/late-flights/model.onnx").write_bytes(b"not a graph")
    with pytest.raises(SystemExit, match=r"model\.onnx: is altered"), serving_app(root):
        """Never served."""


def test_the_release_is_the_one_that_the_launcher_names(tmp_path, monkeypatch):
    root = make_echoes(tmp_path, {"echo": (Field(name="x", dtype="bool"),)})
    for release, told in (("headgate:abc", "headgate:abc"), ("", "dev")):
        with serving_app(root, release=release) as asked:
            assert asked.get("/v2").json()["version"] == told


def test_the_release_is_else_that_of_the_bento(tmp_path):
    from bentoml import Tag

    from headgate.serving.bento import _release

    class Bento:
        tag = Tag("headgate", "0123456789ab")
        doc = "# What it serves"

    service = make_service(make_echoes(tmp_path, {"echo": (Field(name="x", dtype="bool"),)}))
    service.bento = Bento()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HEADGATE_RELEASE", raising=False)
        assert _release(service) == "headgate:0123456789ab"
    assert service.doc == "# What it serves"
    assert service.openapi_spec.info.version == "0123456789ab"


@pytest.fixture(scope="module")
def bentofile():
    return yaml.safe_load((ROOT / "bentofile.yaml").read_text())


def test_the_bentofile_keeps_to_this_generation_of_bentoml(bentofile):
    assert set(bentofile) == {"service", "name", "include", "exclude"}
    assert bentofile["service"] == "service:service"
    assert bentofile["name"] == "headgate"


IMPORTS = """
import json, sys
import headgate.serving.bento, headgate.serving.front, headgate.serving.worker
import headgate.serving.middleware, headgate.serving.launcher, headgate.serving.launch.child
import headgate.predictor.engines.onnx
import headgate.predictor.engines.sklearn, headgate.predictor.engines.torch
files = [module.__file__ for name, module in sys.modules.items() if name.startswith("headgate")]
print(json.dumps(sorted(files)))
"""


def test_a_bento_has_all_that_serving_imports_and_no_more_than_it_needs(bentofile, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTS],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    needed = [Path(file).relative_to(ROOT).as_posix() for file in json.loads(done.stdout)]
    assert "headgate/serving/hotpath.py" in needed
    include = pathspec.PathSpec.from_lines("gitignore", bentofile["include"])
    exclude = pathspec.PathSpec.from_lines("gitignore", bentofile["exclude"])
    assert [name for name in needed if not include.match_file(name)] == []
    files = [
        path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "headgate").rglob("*.py"))
    ]
    rooms = {name.split("/")[1] for name in files if include.match_file(name)}
    assert rooms <= {
        "__init__.py",
        "config.py",
        "errors.py",
        "predictor",
        "records.py",
        "serving",
        "stats",
    }
    for name in (
        "headgate.toml",
        "models.lock",
        "models/a/model.toml",
        ".headgate/bundle/a/b.onnx",
    ):
        assert include.match_file(name)
    for name in ("models/a/train.py", ".headgate/mlflow.db", ".git/config", "tests/conftest.py"):
        assert not include.match_file(name)
    assert exclude.match_file("headgate/serving/__pycache__/hotpath.cpython-311.pyc")


def test_every_pattern_of_the_bentofile_finds_something(bentofile, tmp_path):
    make_root(tmp_path)
    (tmp_path / "models.lock").touch()
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "headgate").rglob("*.py")]
    files += [
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    ]
    optional = {"/app.py", "/requirements/app.txt"}
    for pattern in optional.symmetric_difference(bentofile["include"]):
        matcher = pathspec.PathSpec.from_lines("gitignore", [pattern])
        assert any(matcher.match_file(name) for name in files), pattern


def test_an_error_that_is_ours_is_no_traceback(tmp_path):
    from headgate.serving.bento import packaged

    with pytest.raises(SystemExit) as end:
        packaged(tmp_path)
    assert str(end.value) == "nothing is packaged yet: run `make ship`"
    assert isinstance(end.value.__context__, HeadgateError)
