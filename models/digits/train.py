"""A small convolutional net on scikit-learn's 1,797 handwritten digits."""

from __future__ import annotations

import hashlib
import os

import mlflow
import numpy as np
import torch
from mlflow.models import infer_signature
from net import Net
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy

import headgate

NAME = "digits"
SEED = 0
EPOCHS = 25
BATCH = 64
GOOD_ENOUGH = 0.975
REQUIREMENTS = ["torch"]


def fit(images: torch.Tensor, digits: torch.Tensor) -> Net:
    """Train a network on images, (rows, 1, 8, 8)."""
    torch.manual_seed(SEED)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(net(images[rows]), digits[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return net.eval()


def main() -> None:
    """Train on four fifths, test on the fixed last one, register."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    data = load_digits()
    images = data.images.astype(np.float32)[:, None]
    X_train, X_test, y_train, y_test = train_test_split(
        images, data.target, test_size=0.2, random_state=SEED, stratify=data.target
    )

    mlflow.set_experiment(NAME)
    with mlflow.start_run():
        net = fit(torch.from_numpy(X_train), torch.from_numpy(y_train))
        with torch.no_grad():
            logits = net(torch.from_numpy(X_test)).numpy()
        accuracy = float((logits.argmax(1) == y_test).mean())
        mlflow.log_params(
            {
                "seed": SEED,
                "epochs": EPOCHS,
                "batch": BATCH,
                "data_sha256": hashlib.sha256(images.tobytes()).hexdigest(),
            }
        )
        mlflow.log_metric("accuracy", accuracy)
        print({"accuracy": round(accuracy, 4)})
        if accuracy < GOOD_ENOUGH:
            raise SystemExit(f"accuracy is below {GOOD_ENOUGH}: not registered")
        mlflow.pytorch.log_model(
            net,
            name="model",
            registered_model_name=NAME,
            signature=infer_signature(X_test, logits),
            input_example=X_test[:4],
            serialization_format="pt2",  # a graph and tensors: opening it runs nobody's code
            pip_requirements=REQUIREMENTS,
        )
        headgate.log_reference(net, X_test, y_test)


if __name__ == "__main__":
    main()
