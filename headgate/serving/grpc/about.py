"""What the server and its models say of themselves: what REST says, as messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from google.protobuf.json_format import ParseDict

from headgate.serving.grpc.messages import message, parse
from headgate.serving.model import find
from headgate.serving.protocols import oip_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.serving.grpc.call import Call, Unary
    from headgate.serving.grpc.server import Server
    from headgate.serving.worker import Worker

__all__ = ["About"]


class About:
    """Answers the methods that predict nothing."""

    def __init__(self, worker: Worker, server: Server) -> None:
        self._worker = worker
        self._server = server

    def methods(self) -> dict[str, Unary]:
        """By name."""
        told = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._config,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._change,
            "RepositoryModelUnload": self._change,
        }
        return {name: _unary(name, answer) for name, answer in told.items()}

    def _live(self, _: Any) -> Any:
        return {"live": True}

    def _ready(self, _: Any) -> Any:
        return {"ready": self._server.whats_wrong() is None}

    def _model_ready(self, request: Any) -> Any:
        model = find(self._worker.models, request.name, request.version or None)
        return {"ready": self._server.whats_wrong(model.name) is None}

    def _server_metadata(self, _: Any) -> Any:
        return orjson.loads(oip_metadata.server(self._worker.release, self._worker.models))

    def _model_metadata(self, request: Any) -> Any:
        model = find(self._worker.models, request.name, request.version or None)
        return orjson.loads(oip_metadata.metadata(model))

    def _config(self, request: Any) -> Any:
        model = find(self._worker.models, request.name, request.version or None)
        return {"config": orjson.loads(oip_metadata.config(model))}

    def _index(self, request: Any) -> Any:
        body = orjson.dumps({"ready": request.ready})
        return {"models": orjson.loads(oip_metadata.index(self._worker.models, body))}

    def _change(self, request: Any) -> Any:
        model = find(self._worker.models, request.model_name, None)
        return oip_metadata.change(model, b"")


def _unary(name: str, answer: Callable[[Any], Any]) -> Unary:
    asked, told = message(f"inference.{name}Request"), message(f"inference.{name}Response")

    async def unary(call: Call, content: bytes) -> bytes:
        del call
        found = answer(parse(asked, content))
        # REST says more in places for which there is no field.
        response: Any = ParseDict(found, told(), ignore_unknown_fields=True)
        serialized: bytes = response.SerializeToString()
        return serialized

    return unary
