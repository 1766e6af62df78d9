"""LitServe: one worker on the CPU, batching off as by default, which is its fastest here."""

import sys
from typing import Any

import litserve
import numpy as np
from forest_model import NAME, open_forest, outputs


class Forest(litserve.LitAPI):
    def setup(self, device: str) -> None:
        del device
        self.predict_rows = open_forest()

    # LitServe parses a request by the annotation here: without one it hands over the JSON.
    def decode_request(self, request) -> Any:  # noqa: ANN001
        tensor = request["inputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])

    def predict(self, x: Any) -> Any:
        return self.predict_rows(x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"model_name": NAME, "outputs": outputs(*output)}


if __name__ == "__main__":
    api = Forest(api_path=f"/v2/models/{NAME}/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
