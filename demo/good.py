"""Version 2 of flight-delay: the same pipeline, learning in smaller steps for longer."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "flight-delay"))

import train

PARAMS = {
    **train.PARAMS,
    "max_iter": 300,
    "learning_rate": 0.05,
    "min_samples_leaf": 200,
    "l2_regularization": 1.0,
}

if __name__ == "__main__":
    train.main(PARAMS)
