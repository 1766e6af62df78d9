"""MLServer: a runtime of one's own. How it batches is in its settings: see harness/servers.py."""

from __future__ import annotations

from forest_model import NAME, open_forest
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Forest(MLModel):
    async def load(self) -> bool:
        self.predict_rows = open_forest()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        labels, probabilities = self.predict_rows(rows)
        return InferenceResponse(
            model_name=NAME,
            outputs=[
                NumpyCodec.encode_output("label", labels),
                NumpyCodec.encode_output("probabilities", probabilities),
            ],
        )
