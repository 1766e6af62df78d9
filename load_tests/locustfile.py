"""Traffic of real reference rows; no limits here, the gate has those.

By hand, with Locust's web page:  locust -f load_tests/locustfile.py --host http://localhost:3000
Under `headgate gate` it carries out what the gate tells it: open loop, every answer kept.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from urllib.parse import quote

from locust import FastHttpUser, constant_throughput, task

from headgate.gate.link import LOAD
from headgate.predictor import Reference, read_manifest
from headgate.predictor.rows import batch_to_rows

BUNDLE = Path(__file__).resolve().parents[1] / ".headgate" / "bundle"


def requests() -> list[tuple[str, bytes]]:
    """Path and body of one request for each reference row of each packaged model."""
    found = []
    for folder in sorted(path.parent for path in BUNDLE.glob("*/predictor.json")):
        manifest = read_manifest(folder)
        reference = Reference.load(folder / "reference")
        path = f"/v1/models/{quote(manifest.ref.name)}:predict"
        rows = batch_to_rows(manifest.signature, reference.inputs)
        found += [(path, json.dumps({"instances": [row]}).encode()) for row in rows]
    if not found:
        raise SystemExit(f"no packaged model with reference rows in {BUNDLE}: run `make ship`")
    return found


if LOAD in os.environ:
    from headgate.gate.generator import PlannedLoad

    __all__ = ["PlannedLoad"]
else:
    REQUESTS = requests()

    class Client(FastHttpUser):  # type: ignore[misc]
        """Somebody who asks ten times a second, one row a time."""

        wait_time = constant_throughput(10)

        @task  # type: ignore[untyped-decorator]
        def predict(self) -> None:
            """Send one reference row of one of the models."""
            path, body = random.choice(REQUESTS)  # noqa: S311
            self.client.post(path, data=body, headers={"content-type": "application/json"})

    from shapes import SHAPES

    if chosen := os.environ.get("HEADGATE_SHAPE"):
        if chosen not in SHAPES:
            raise SystemExit(f"HEADGATE_SHAPE={chosen}: choose one of {', '.join(SHAPES)}")
        Shape = SHAPES[chosen]
