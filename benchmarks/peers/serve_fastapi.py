"""FastAPI: an async route with typed bodies, the model called inline."""

from __future__ import annotations

import numpy as np
from fastapi import FastAPI
from forest_model import NAME, open_forest, outputs
from pydantic import BaseModel

predict = open_forest()
app = FastAPI()


class Input(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Output(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    inputs: list[Input]


class Response(BaseModel):
    model_name: str
    outputs: list[Output]


@app.post(f"/v2/models/{NAME}/infer")
async def infer(request: Request) -> Response:
    tensor = request.inputs[0]
    rows = np.array(tensor.data, np.float32).reshape(tensor.shape)
    return Response(model_name=NAME, outputs=outputs(*predict(rows)))
