"""An `app.py` goes into the Bento with what it needs, and answers from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving.refusals import ROW
from serving.tiny import get, serving

from headgate.errors import ConfigError, PackagingError
from headgate.packaging import bento_path, build_bento
from tests.packaging.test_bento import MODELS, make_root

APP = f"""
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from headgate.serving import predict


async def late(request):
    return JSONResponse(await predict("late-flights", [{ROW!r}]))


app = Starlette(routes=[Route("/late", late)])
"""
NEEDS = """
# what app.py needs
Orjson==3.13.0  # as serving has it
uvicorn
fastapi==0.165.0
-i https://example.com/simple
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_root(tmp_path_factory.mktemp("clone"))
    (root / "app.py").write_text(APP)
    (root / "requirements" / "app.txt").write_text(NEEDS)
    return root


@pytest.mark.e2e
def test_it_is_in_the_bento_and_answers(root: Path, tmp_path: Path) -> None:
    release, _ = build_bento(root, tmp_path / "store", MODELS)
    bento = bento_path(tmp_path / "store", release.tag)
    assert (bento / "src" / "app.py").read_text() == APP
    wanted = (bento / "env" / "python" / "requirements.txt").read_text().splitlines()
    assert "fastapi==0.165.0" in wanted
    assert sum(line.lower().startswith("orjson") for line in wanted) == 1
    assert "uvicorn" not in wanted
    with serving(tmp_path / "log", bento) as server:
        status, body = get(server.address, "/app/late")
        assert status == 200, body
        assert b"probabilities" in body


@pytest.mark.e2e
def test_another_release_is_another_app(root: Path, tmp_path: Path) -> None:
    first, _ = build_bento(root, tmp_path / "store", MODELS)
    (root / "app.py").write_text(f"{APP}\n# changed\n")
    second, new = build_bento(root, tmp_path / "store", MODELS)
    assert new
    assert first.digest != second.digest


def test_a_version_that_serving_has_otherwise_is_refused(root: Path, tmp_path: Path) -> None:
    from serving.asgi import make_service

    own = root / "requirements" / "app.txt"
    before = own.read_text()
    own.write_text("UVICORN==0.1\n")
    try:
        with pytest.raises(ConfigError, match=r"it wants UVICORN==0\.1, and serving has uvicorn=="):
            make_service(root)
        with pytest.raises(PackagingError, match=r"it wants UVICORN==0\.1"):
            build_bento(root, tmp_path / "store", MODELS)
    finally:
        own.write_text(before)
