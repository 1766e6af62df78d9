"""The house as drawn: which room may import which, and how light a start is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "headgate"

GROUND = {"errors", "records", "config", "stats"}
ROOMS = {"registry", "packaging", "image", "serving", "gate", "rollout"}
LAYERS = [
    GROUND,
    {"predictor"},
    ROOMS,
    {"pipeline"},
    {"cli", "options", "render", "doctor", "snippets"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """The parts of headgate that a file imports, the type checker's imports left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("headgate.")}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_import_rule(path: Path) -> None:
    room = _room(path)
    assert room in LEVEL, f"{room} has no place in the house"
    for other in _imports(path) & set(LEVEL) - {room}:
        lower = LEVEL[other] < LEVEL[room]
        # Among the ground and among the faces, the order is the files' own.
        sibling = LEVEL[other] == LEVEL[room] and not {room, other} & ROOMS
        assert lower or sibling, f"{room} must not import {other}"


def test_service_imports_only_serving() -> None:
    assert _imports(ROOT / "service.py") <= {"serving"}


def test_service_is_readable_at_a_glance() -> None:
    assert len((ROOT / "service.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("module", ["headgate", "headgate.cli", "headgate.serving.launcher"])
def test_start_is_light(module: str) -> None:
    """No command waits for libraries that it may never need."""
    heavy = "{'mlflow', 'torch', 'sklearn', 'pandas', 'bentoml', 'onnx', 'locust', 'numpy'}"
    code = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []


def test_all_names_are_sorted_and_there() -> None:
    import importlib

    for path in FILES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name.startswith("headgate.predictor.engines"):
            continue  # each imports the library it is for
        if name == "headgate.gate.generator":
            continue  # Locust's import replaces the locks of this process
        module = importlib.import_module(name)
        names = getattr(module, "__all__", None)
        if names is not None:
            assert len(set(names)) == len(names), name
            for each in names:
                assert hasattr(module, each), f"{name}.{each}"
