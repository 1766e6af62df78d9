"""BentoML as installed: a batchable API, every setting at its default."""

from __future__ import annotations

import bentoml
import numpy as np
from forest_model import open_forest


@bentoml.service
class Forest:
    def __init__(self) -> None:
        self.predict_rows = open_forest()

    @bentoml.api(batchable=True)
    def predict(self, instances: np.ndarray) -> np.ndarray:
        """The probabilities alone, so that there is less to answer."""
        _, probabilities = self.predict_rows(instances.astype(np.float32))
        return probabilities
