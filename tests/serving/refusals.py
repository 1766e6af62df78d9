"""Requests that are fine, and what is said about one beside them that is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serving.asgi import Asked, make_root

ROW = {"carrier": "UA", "distance": 1000, "wind": 5.5}
X = [0.5] * 30
MAX_ROWS = 50
MAX_BYTES = 65_536

V1, TYPED, OIP = "/v1/models/late-flights:predict", "/late_flights", "/v2/models/late-flights/infer"
V1_X, TYPED_X, OIP_X = (
    "/v1/models/breast-cancer:predict",
    "/breast_cancer",
    "/v2/models/breast-cancer/infer",
)
PREDICTIONS, PREDICTIONS_X = "/predictions/late-flights", "/predictions/breast-cancer"
INVOCATIONS = "/invocations?model=late-flights"
LONG = "x" * 20_000


def strict_root(path: Path) -> Path:
    """A bundle with low limits."""
    root = make_root(path, serving=f"max_request_rows = {MAX_ROWS}\n")
    (root / "headgate.toml").write_text(
        f"[gate.profiles.quick]\nrate = 50\n[server]\nmax_body_mb = {MAX_BYTES / 2**20}\n"
    )
    return root


def tensors(**columns: list[Any]) -> list[dict[str, Any]]:
    kinds = {"carrier": "BYTES", "distance": "INT64", "wind": "FP64"}
    return [
        {"name": name, "datatype": kinds[name], "shape": [len(data)], "data": data}
        for name, data in columns.items()
    ]


GOOD = {
    V1: json.dumps({"instances": [ROW]}),
    TYPED: json.dumps({"instances": [ROW]}),
    OIP: json.dumps({"inputs": tensors(carrier=["UA"], distance=[1000], wind=[5.5])}),
    V1_X: json.dumps({"instances": [X]}),
    TYPED_X: json.dumps({"instances": [X]}),
    OIP_X: json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 30], "data": X}]}),
    PREDICTIONS: json.dumps([ROW]),
    PREDICTIONS_X: json.dumps([X]),
}


def refused(asked: Asked, path: str, status: int = 400, **request: Any) -> tuple[str, str, str]:
    """Where, what and the remedy, as said about a request beside others that are answered."""
    good = asked.post(path, content=GOOD[path])
    assert good.status_code == 200, good.text
    before, answer, after = asked.all(
        asked.client.post(path, content=GOOD[path]),
        asked.client.post(path, **request),
        asked.client.post(path, content=GOOD[path]),
    )
    assert (before.status_code, after.status_code) == (200, 200)
    assert before.content == after.content == good.content
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-headgate-release"] == "test:1"
    assert answer.headers["x-headgate-model-version"] == "1"
    assert len(answer.content) < 1000
    where, what, remedy = told(path, answer.json(), status)
    assert where
    assert what
    assert remedy
    return where, what, remedy


def told(path: str, said: dict[str, Any], status: int) -> tuple[str, str, str]:
    """Where, what and the remedy, as the protocol of the path has them."""
    if path.startswith(("/v1", "/late", "/breast")):
        assert set(said) == {"error", "where", "remedy"}
        return said["where"], said["error"], said["remedy"]
    # The others have one string for it.
    if path.startswith("/v2"):
        assert set(said) == {"error"}
        text = said["error"]
    elif path.startswith("/invocations"):
        assert set(said) == {"error_code", "message"}
        text = said["message"]
    else:
        assert set(said) == {"code", "type", "message"}
        assert said["code"] == status
        text = said["message"]
    where, _, rest = text.partition(": ")
    what, _, remedy = rest.rpartition(" — ")
    return where, what, remedy


def short(value: object) -> str | None:
    """The name of a test's case."""
    return value[:20] if isinstance(value, str) else None
