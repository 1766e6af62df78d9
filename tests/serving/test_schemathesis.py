"""Thousands of requests made from the OpenAPI document, valid and not: none is a fault of ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serving.asgi import make_root
from serving.tiny import metric, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CASES = 16
"""Of the random ones, for each operation, at most."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
HOOKS = '''
"""How bodies are sent that are no JSON, and which statuses came back."""

import atexit
import json
from pathlib import Path

import schemathesis

statuses = set()
atexit.register(lambda: Path("statuses").write_text(json.dumps(sorted(statuses))))


@schemathesis.hook
def after_call(ctx, case, response):
    statuses.add(response.status_code)


@schemathesis.serializer("text/csv", "application/jsonlines", "application/x-npy")
def plain(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
'''


def test_every_answer_is_as_described_and_none_is_a_server_error(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    (tmp_path / "hooks.py").write_text(HOOKS)
    with serving(tmp_path / "log", root) as server:
        url = f"http://{server.address}"
        command = [str(Path(sys.executable).with_name("st")), "run", f"{url}/docs.json"]
        # A deadline of next to nothing is missed, as it should be.
        command += ["--url", url, "-H", "X-Headgate-Deadline-Ms: 60000"]
        command += ["--checks", ",".join(CHECKS), "--max-examples", str(CASES), "--no-shrink"]
        command += ["--continue-on-failure", "--seed", "1", "--no-color"]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks"},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        told = done.stdout[-6000:]
        faults = metric(server.address, "headgate_requests_total", outcome="internal")
        ready = metric(server.address, "headgate_workers_ready")
    assert done.returncode == 0, told
    found = re.search(r"(\d[\d,]*) generated", done.stdout)
    assert found is not None, told
    assert int(found[1].replace(",", "")) > 2000, told
    assert (faults, ready) == (0, 1)
    statuses = set(json.loads((tmp_path / "statuses").read_text()))
    assert {200, 400, 405} <= statuses
    assert max(statuses) < 500
