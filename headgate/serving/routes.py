"""Which path of which protocol does what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import orjson

from headgate.serving.endpoint import Endpoint
from headgate.serving.http import Receive, Scope, Send, reply
from headgate.serving.protocols import oip, v1

if TYPE_CHECKING:
    from headgate.serving.hotpath import Handler, Route
    from headgate.serving.worker import Worker

__all__ = ["build_routes"]

Body = Callable[[], bytes]
Ready = Callable[[], str | None]


def build_routes(worker: Worker) -> dict[str, Route]:
    """All hot paths of a worker."""
    models = worker.models
    routes: dict[str, Route] = {
        "/livez": {"GET": _told(lambda: b'{"live":true}')},
        "/healthz": {"GET": _told(lambda: b'{"live":true}')},
        "/readyz": {"GET": _ready(worker.whats_wrong, b'{"ready":true}')},
        "/v1/models": {"GET": _told(lambda: v1.list_models(models))},
        "/v2": {"GET": _told(lambda: oip.server(worker.release, models))},
        "/v2/health/live": {"GET": _told(lambda: b'{"live":true}')},
        "/v2/health/ready": {"GET": _ready(worker.whats_wrong, b'{"ready":true}')},
    }
    for model in models.values():
        rows = Endpoint(model, v1.Rows(model), worker.metrics, worker.max_body)
        tensors = Endpoint(model, oip.Tensors(model), worker.metrics, worker.max_body)
        for suffix in ("", f"/versions/{model.version}"):
            first, second = f"/v1/models/{model.name}{suffix}", f"/v2/models/{model.name}{suffix}"
            routes[first] = {"GET": _told(partial(v1.status, model))}
            routes[f"{first}:predict"] = {"POST": rows}
            routes[second] = {"GET": _told(partial(oip.metadata, model))}
            ready = orjson.dumps({"name": model.name, "ready": True})
            routes[f"{second}/ready"] = {"GET": _ready(model.whats_wrong, ready)}
            routes[f"{second}/infer"] = {"POST": tensors}
        routes[f"/{model.packaged.method}"] = {"POST": worker.typed[model.name]}
    return routes


def _told(body: Body) -> Handler:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await reply(send, 200, body())

    return handler


def _ready(trouble: Ready, body: bytes) -> Handler:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        wrong = trouble()
        if wrong is None:
            await reply(send, 200, body)
        else:
            await reply(send, 503, orjson.dumps({"ready": False, "error": wrong}))

    return handler
