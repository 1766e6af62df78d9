"""Which path of which protocol does what."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import orjson

from headgate.serving.choice import Choice
from headgate.serving.endpoint import Endpoint
from headgate.serving.handlers import asked, ready, told
from headgate.serving.http import names, problem
from headgate.serving.metrics import SurfaceMetrics
from headgate.serving.protocols import invocations, mlflow, oip, oip_metadata, torchserve, v1

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.serving.handlers import Problem
    from headgate.serving.hotpath import Handler, Route
    from headgate.serving.http import Headers
    from headgate.serving.model import Model
    from headgate.serving.worker import Worker

__all__ = ["build_routes", "problem_of"]

_PROBLEMS: dict[str, Problem] = {
    "v2": oip.problem,
    "invocations": mlflow.problem,
    "models": torchserve.problem,
    "predictions": torchserve.problem,
}


def problem_of(path: str) -> Problem:
    """How the protocol that has this path tells errors."""
    return _PROBLEMS.get(path.lstrip("/").partition("/")[0], problem)


def build_routes(worker: Worker) -> dict[str, Route]:
    """All hot paths of a worker."""
    routes = _of_server(worker) | _of_health(worker)
    scoring = {}
    for model in worker.models.values():
        scoring[model.name] = Endpoint(
            model, invocations.Invocations(model), worker.metrics, worker.max_body
        )
        routes |= _of_v1(worker, model)
        routes |= _of_oip(worker, model)
        routes |= _of_torchserve(worker, model)
        routes[f"/models/{model.name}/invoke"] = {"POST": scoring[model.name]}
        routes[f"/{model.packaged.method}"] = {"POST": worker.typed[model.name]}
    counts = SurfaceMetrics(worker.metrics, "invocations", "")
    who = _release(worker)
    routes["/invocations"] = {"POST": Choice(scoring, mlflow.problem, who, counts=counts)}
    return routes


def _of_server(worker: Worker) -> dict[str, Route]:
    """What is said of the server as a whole."""
    models, who = worker.models, _release(worker)
    live = told(lambda: b'{"live":true}', who)
    is_ready = ready(worker.whats_wrong, lambda: b'{"ready":true}', who, wrong=_not_ready)
    release = orjson.dumps(worker.release)
    return {
        "/livez": {"GET": live},
        "/healthz": {"GET": live},
        "/readyz": {"GET": is_ready},
        "/v1/models": {"GET": told(lambda: v1.list_models(models), who)},
        "/v2": {"GET": told(lambda: oip_metadata.server(worker.release, models), who)},
        "/v2/health/live": {"GET": live},
        "/v2/health/ready": {"GET": is_ready},
        "/v2/models": {"GET": told(lambda: oip_metadata.list_models(models), who)},
        "/v2/repository/index": {
            "POST": asked(partial(oip_metadata.index, models), oip.problem, who)
        },
        "/version": {"GET": told(lambda: release, who)},
        "/models": {"GET": told(lambda: torchserve.list_models(models), who)},
    }


def _of_health(worker: Worker) -> dict[str, Route]:
    """MLflow's and SageMaker's: of the server, or of the model that is named."""
    who = _release(worker)

    def healthy(trouble: Callable[[], str | None]) -> Handler:
        return ready(trouble, lambda: b'{"status":"Healthy"}', who, wrong=_unhealthy)

    of_models = {name: healthy(model.whats_wrong) for name, model in worker.models.items()}
    choice = Choice(of_models, mlflow.problem, who, unnamed=healthy(worker.whats_wrong))
    return {"/ping": {"GET": choice}, "/health": {"GET": choice}}


def _of_v1(worker: Worker, model: Model) -> dict[str, Route]:
    who = names(model.version, model.release)
    endpoint = Endpoint(model, v1.Columns(model), worker.metrics, worker.max_body)
    routes: dict[str, Route] = {}
    for suffix in ("", f"/versions/{model.version}"):
        path = f"/v1/models/{model.name}{suffix}"
        routes[path] = {"GET": told(partial(v1.status, model), who)}
        routes[f"{path}/metadata"] = {"GET": told(partial(v1.metadata, model), who)}
        routes[f"{path}:predict"] = {"POST": endpoint}
    return routes


def _of_oip(worker: Worker, model: Model) -> dict[str, Route]:
    who = names(model.version, model.release)
    endpoint = Endpoint(model, oip.Tensors(model), worker.metrics, worker.max_body)
    good = orjson.dumps({"name": model.name, "ready": True})
    routes: dict[str, Route] = {}
    for suffix in ("", f"/versions/{model.version}"):
        path = f"/v2/models/{model.name}{suffix}"
        routes[path] = {"GET": told(partial(oip_metadata.metadata, model), who)}
        routes[f"{path}/config"] = {"GET": told(partial(oip_metadata.config, model), who)}
        routes[f"{path}/ready"] = {
            "GET": ready(model.whats_wrong, lambda: good, who, wrong=_not_ready)
        }
        routes[f"{path}/infer"] = {"POST": endpoint}
    for change in ("load", "unload"):
        routes[f"/v2/repository/models/{model.name}/{change}"] = {
            "POST": asked(partial(oip_metadata.change, model), oip.problem, who)
        }
    return routes


def _of_torchserve(worker: Worker, model: Model) -> dict[str, Route]:
    who = names(model.version, model.release)
    endpoint = Endpoint(model, torchserve.Predictions(model), worker.metrics, worker.max_body)
    routes: dict[str, Route] = {}
    for suffix in ("", f"/{model.version}"):
        routes[f"/predictions/{model.name}{suffix}"] = {"POST": endpoint}
        about = partial(torchserve.describe, model, worker.bundle.server.workers)
        routes[f"/models/{model.name}{suffix}"] = {"GET": told(about, who)}
    return routes


def _release(worker: Worker) -> Headers:
    return [(b"x-headgate-release", worker.release.encode())]


def _not_ready(trouble: str) -> bytes:
    return orjson.dumps({"ready": False, "error": trouble})


def _unhealthy(trouble: str) -> bytes:
    return orjson.dumps({"status": "Unhealthy", "error": trouble})
