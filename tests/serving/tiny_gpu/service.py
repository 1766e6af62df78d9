"""An entry service and, in processes of its own, one that wants a GPU."""

from __future__ import annotations

import os

import bentoml


@bentoml.service(workers=2, resources={"gpu": 1})
class Tiny:
    @bentoml.api
    def where(self) -> dict[str, str]:
        return {"pid": str(os.getpid()), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "none")}


@bentoml.service
class Entry:
    tiny = bentoml.depends(Tiny)

    @bentoml.api
    def where(self) -> dict[str, str]:
        return {**self.tiny.where(), "entry": str(os.getpid())}
