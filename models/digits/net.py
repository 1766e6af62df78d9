"""The network: 8x8 grey images in, ten logits out."""

from __future__ import annotations

import torch
from torch import nn


class Net(nn.Module):  # type: ignore[misc]  # torch ships no types we use
    """Two convolutions and a linear layer; 16 grey levels are scaled to 0..1 inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 4 * 4, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, (rows, 10), of images, (rows, 1, 8, 8) with values 0 to 16."""
        return self.layers(images / 16.0)
