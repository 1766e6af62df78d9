"""Every command, file and answer that the documentation shows, held to what it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import ROOT, Clone, widened
from e2e.test_image import skip_where_none_is_built

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# These would start this very suite, or only repeat what the other blocks do.
ELSEWHERE = ("make test", "make check", "make demo")

pytestmark = pytest.mark.e2e


def commands(page: Path) -> list[str]:
    """The lines after ``$`` in the page's console blocks, continued lines joined."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    text = "".join(blocks).replace("\\\n", " ")
    return [line[2:].strip() for line in text.splitlines() if line.startswith("$ ")]


def files(page: Path) -> dict[str, str]:
    """The blocks that a comment before them makes the content of a file."""
    found = re.findall(
        r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
    )
    return dict(found)


def plain_command(line: str) -> list[str]:
    """The arguments of a `headgate` that wants nothing of a shell: it need not import MLflow anew."""
    program = ".venv/bin/headgate "
    if not line.startswith(program) or set(line) & set("|&;<>$`"):
        return []
    return shlex.split(line.removeprefix(program))


def run_page(page: Path, clone: Clone) -> dict[str, str]:
    """Write the page's files and run its commands; returns what each printed."""
    for name, content in files(page).items():
        (clone.root / name).parent.mkdir(parents=True, exist_ok=True)
        (clone.root / name).write_text(widened(content))
    printed = {}
    for command in commands(page):
        if command in ELSEWHERE:
            continue
        line, _, told = command.partition("  # answers ")
        line = line.replace("localhost:3000", f"localhost:{clone.port}")
        line = line.replace("localhost:3001", f"localhost:{clone.port + 1}")
        line = line.replace("--port 3000", f"--port {clone.port}")
        # Where packages are reached from the machine, but not from a container's own network.
        line = line.replace(
            "headgate containerize", "headgate containerize --option=--network=host"
        )
        if line.startswith("curl"):
            line = line.replace("curl", "curl -w '\\n%{http_code}'", 1)
        done = clone.headgate(*plain) if (plain := plain_command(line)) else clone.run(line)
        printed[command] = done.stdout
        if line.startswith("curl"):
            body, _, status = done.stdout.rpartition("\n")
            assert status == (told or "200"), f"{line}\n{body}"
            printed[command] = body
    return printed


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
@pytest.mark.timeout(600)
def test_commands_run(page: Path, clone: Clone) -> None:
    if page.name == "the-image.md":
        skip_where_none_is_built()
    run_page(page, clone)
    written = [clone.root / name for name in files(page)]
    for path in written:
        if path.parent.parent == clone.root / "models":
            shutil.rmtree(path.parent, ignore_errors=True)
        else:
            path.unlink()
    if written:
        clone.headgate("ship")  # without it again
        assert len(clone.json("status")["models"]) == 2


@pytest.mark.timeout(600)
def test_the_readme_shows_what_one_sees(clone: Clone) -> None:
    page = ROOT / "README.md"
    printed = run_page(page, clone)
    clone.headgate("up")
    assert len(printed) > 15
    (shown,) = re.findall(r"^```json\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    answer = next(out for command, out in printed.items() if command.startswith("curl"))
    assert shape(json.loads(answer)) == shape(json.loads(shown))


def shape(answer: Any) -> Any:
    """What kind of answer it is, whatever its figures and its number of rows."""
    if isinstance(answer, dict):
        return {name: shape(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [shape(value) for value in answer[:1]]
    return type(answer)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
