"""A small convolutional net on scikit-learn's 1,797 handwritten digits."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.models import infer_signature
from net import Net
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy, pad
from torch.optim.lr_scheduler import OneCycleLR

import headgate

NAME = "digits"
PARAMS: dict[str, Any] = {"seed": 0, "epochs": 12, "batch": 64, "learning_rate": 6e-3}
GOOD_ENOUGH = 0.975


def fit(
    images: torch.Tensor,
    digits: torch.Tensor,
    *,
    seed: int,
    epochs: int,
    batch: int,
    learning_rate: float,
) -> Net:
    """Train a network on images, (rows, 1, 8, 8)."""
    torch.manual_seed(seed)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate)
    steps = epochs * -(-len(images) // batch)
    schedule = OneCycleLR(optimizer, learning_rate, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(batch):
            optimizer.zero_grad()
            cross_entropy(net(shifted(images[rows])), digits[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def shifted(images: torch.Tensor) -> torch.Tensor:
    """The images moved by up to one pixel: people do not write in the exact middle."""
    down, right = torch.randint(0, 3, (2,)).tolist()
    return pad(images, (1, 1, 1, 1))[..., down : down + 8, right : right + 8]


def main() -> None:
    """Train on four fifths, test on the last, fixed one; register the net if it is good enough."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    data = load_digits()
    images = data.images.astype(np.float32)[:, None]
    X_train, X_test, y_train, y_test = train_test_split(
        images, data.target, test_size=0.2, random_state=0, stratify=data.target
    )

    mlflow.set_experiment(NAME)
    with mlflow.start_run():
        digest = hashlib.sha256(images.tobytes() + data.target.tobytes()).hexdigest()
        mlflow.log_params({**PARAMS, "rows": len(X_train), "data_sha256": digest})

        net = fit(torch.from_numpy(X_train), torch.from_numpy(y_train), **PARAMS)
        with torch.no_grad():
            logits = net(torch.from_numpy(X_test)).numpy()
        accuracy = float((logits.argmax(1) == y_test).mean())
        mlflow.log_metric("accuracy", accuracy)
        print(f"accuracy on {len(y_test)} held-out digits: {accuracy:.4f}")
        if accuracy < GOOD_ENOUGH:
            raise SystemExit(f"that is below {GOOD_ENOUGH}: not registered")

        headgate.log_reference(net, X_test, y_test)
        mlflow.pytorch.log_model(
            net,
            name="model",
            registered_model_name=NAME,
            signature=infer_signature(X_test, logits),
            input_example=X_test[:4],
            serialization_format="pt2",  # a graph and its numbers: opening it runs nobody's code
            pip_requirements=[f"torch=={version('torch')}"],
        )


if __name__ == "__main__":
    main()
