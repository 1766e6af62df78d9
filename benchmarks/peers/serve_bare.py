"""The reachable limit: an ASGI function that does what the request asks and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from forest_model import NAME, open_forest

predict = open_forest()
HEADERS = [(b"content-type", b"application/json")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    del scope
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    tensor = orjson.loads(body)["inputs"][0]
    labels, probabilities = predict(np.array(tensor["data"], np.float32).reshape(tensor["shape"]))
    rows = len(labels)
    answer = orjson.dumps(
        {
            "model_name": NAME,
            "outputs": [
                {"name": "label", "datatype": "INT64", "shape": [rows], "data": labels},
                {
                    "name": "probabilities",
                    "datatype": "FP32",
                    "shape": [rows, 2],
                    "data": probabilities.reshape(-1),
                },
            ],
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    length = (b"content-length", b"%d" % len(answer))
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, length]})
    await send({"type": "http.response.body", "body": answer})
