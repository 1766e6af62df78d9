"""Triton through PyTriton, with its dynamic batching."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from forest_model import MAX_BATCH_ROWS, NAME, open_forest
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

predict = open_forest()


@batch
def infer(**inputs: Any) -> list[Any]:
    labels, probabilities = predict(inputs["input"])
    return [labels.reshape(-1, 1), probabilities]


if __name__ == "__main__":
    http, grpc, metrics = map(int, sys.argv[1:4])
    config = TritonConfig(
        http_address="127.0.0.1", http_port=http, grpc_port=grpc, metrics_port=metrics
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=NAME,
            infer_func=infer,
            inputs=[Tensor(name="input", dtype=np.float32, shape=(30,))],
            outputs=[
                Tensor(name="label", dtype=np.int64, shape=(1,)),
                Tensor(name="probabilities", dtype=np.float32, shape=(2,)),
            ],
            config=ModelConfig(max_batch_size=MAX_BATCH_ROWS, batcher=DynamicBatcher()),
        )
        triton.serve()
