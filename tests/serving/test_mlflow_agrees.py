"""The same bodies to MLflow's own scoring server: the same predictions, for the same model."""

from __future__ import annotations

import asyncio
import io
import json
import math

import httpx
import numpy as np
import pytest
from predictor.factory import forest, table_frame, table_pipeline
from serving.asgi import make_root, serving_app

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning:mlflow.*")

JSON, CSV = {"content-type": "application/json"}, {"content-type": "text/csv"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(make_root(tmp_path_factory.mktemp("invocations"))) as asked:
        yield asked


@pytest.fixture(scope="module")
def scoring(tmp_path_factory):
    """MLflow's app for each model, as `mlflow models serve` runs it."""
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import scoring_server
    from mlflow.types import ColSpec, Schema, TensorSpec

    frame, labels = table_frame()
    columns = [
        ColSpec("string", "carrier", required=False),
        ColSpec("long", "distance"),
        ColSpec("double", "wind"),
    ]
    models = {
        "late-flights": (table_pipeline().fit(frame, labels), Schema(columns)),
        "breast-cancer": (forest()[0], Schema([TensorSpec(np.dtype("float32"), (-1, 30))])),
    }
    apps = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        for name, (model, schema) in models.items():
            path = tmp_path_factory.mktemp("mlflow") / name
            mlflow.sklearn.save_model(
                model,
                path,
                signature=ModelSignature(inputs=schema),
                serialization_format="cloudpickle",
                pip_requirements=[],
            )
            apps[name] = scoring_server.init(mlflow.pyfunc.load_model(str(path)))
        yield apps


def mlflow_says(app, body, headers):
    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://mlflow") as client:
            return await client.post("/invocations", content=body, headers=headers)

    return asyncio.run(main())


FRAME = table_frame()[0].iloc[:50]
ROWS = json.loads(FRAME.to_json(orient="records"))
"""With null for what is missing."""
SPLIT = FRAME.to_dict(orient="split")
"""With NaN for it, as MLflow's client sends a frame."""
X = forest()[1][:20].tolist()


def _csv():
    buffer = io.StringIO()
    FRAME.to_csv(buffer, index=False)
    return buffer.getvalue()


def _csv_of_r():
    """As R's `write.csv` says what is missing: FRAME has rows without a carrier and without wind."""
    assert FRAME.isna().any()[["carrier", "wind"]].all()
    return FRAME.to_csv(index=False, na_rep="NA")


def _reordered():
    columns = ["gate", "wind", "carrier", "distance"]
    data = [["B2", row["wind"], row["carrier"], row["distance"]] for row in ROWS]
    return {"dataframe_split": {"columns": columns, "index": list(range(50)), "data": data}}


BODIES = {
    "records": ("late-flights", {"dataframe_records": ROWS}, JSON),
    "a frame": ("late-flights", {"dataframe_split": SPLIT}, JSON),
    "a frame in another order, with more": ("late-flights", _reordered(), JSON),
    "instances": ("late-flights", {"instances": ROWS}, JSON),
    "inputs": (
        "late-flights",
        {"inputs": {name: [row[name] for row in ROWS] for name in ROWS[0]}},
        JSON,
    ),
    "one row of inputs": ("late-flights", {"inputs": ROWS[3]}, JSON),
    "a list of inputs": ("late-flights", {"inputs": ROWS}, JSON),
    "CSV": ("late-flights", _csv(), CSV),
    "CSV of R": ("late-flights", _csv_of_r(), CSV),
    "no params": ("late-flights", {"instances": ROWS, "params": {}}, JSON),
    "params without a schema": ("late-flights", {"instances": ROWS, "params": {"a": 1}}, JSON),
    "a tensor of instances": ("breast-cancer", {"instances": X}, JSON),
    "a tensor of inputs": ("breast-cancer", {"inputs": X}, JSON),
    "a tensor in a frame": (
        "breast-cancer",
        {"dataframe_split": {"columns": [f"feature {n}" for n in range(30)], "data": X}},
        JSON,
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_gets_what_mlflow_gives(asked, scoring, case):
    name, body, headers = BODIES[case]
    content = body if isinstance(body, str) else json.dumps(body)
    theirs = mlflow_says(scoring[name], content, headers)
    assert theirs.status_code == 200, theirs.text
    ours = asked.post(f"/invocations?model={name}", content=content, headers=headers)
    assert ours.status_code == 200, ours.text
    assert ours.json() == theirs.json()
    assert len({*ours.json()["predictions"]}) == (1 if case == "one row of inputs" else 2)


REFUSED = {
    "no form": {"rows": ROWS},
    "two forms": {"instances": ROWS, "inputs": ROWS},
    "a missing column": {"dataframe_records": [{"carrier": "UA", "distance": 1}]},
    "no number": {"dataframe_records": [{**ROWS[0], "distance": "far"}]},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_mlflow_refuses_is_refused_in_its_words(asked, scoring, case):
    content = json.dumps(REFUSED[case])
    theirs = mlflow_says(scoring["late-flights"], content, JSON)
    ours = asked.post("/invocations?model=late-flights", content=content, headers=JSON)
    assert ours.status_code == theirs.status_code == 400
    assert {"error_code", "message"} == set(ours.json()) <= set(theirs.json())


def test_their_frames_hold_nan(asked):
    assert "NaN" in json.dumps(SPLIT)
    assert any(math.isnan(row[2]) for row in SPLIT["data"])
