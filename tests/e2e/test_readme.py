"""Every command that the documentation shows, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from e2e.conftest import ROOT, Clone

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# These would start this very suite, or only repeat what the other blocks do.
ELSEWHERE = ("make test", "make check", "make demo")


def commands(page: Path) -> list[str]:
    """The lines after ``$`` in the page's console blocks, continued lines joined."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    text = "".join(blocks).replace("\\\n", " ")
    return [line[2:].strip() for line in text.splitlines() if line.startswith("$ ")]


@pytest.mark.e2e
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_run(page: Path, clone: Clone) -> None:
    found = commands(page)
    for command in found:
        if command in ELSEWHERE:
            continue
        # A trailing comment may say which exit code is meant: `# exits 1`.
        line, _, told = command.partition("  # exits ")
        done = clone.run(
            line.replace("localhost:3000", f"localhost:{clone.port}"), exits=int(told or 0)
        )
        if line.startswith("curl"):
            assert '"error"' not in done.stdout, done.stdout
    clone.headgate("up")


def test_the_readme_has_commands() -> None:
    assert len(commands(ROOT / "README.md")) > 10
