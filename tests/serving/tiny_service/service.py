"""A BentoML service as small as can be, with the manners that the launcher's tests need."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from headgate.serving.drain import install, retire
from headgate.serving.launch import connections


class TinyService(bentoml.Service):
    """As Headgate's own service does, asks for the servers of `drain` when its app is made."""

    __slots__ = ()

    def to_asgi(self, is_main=True):
        install()
        return super().to_asgi(is_main=is_main)


async def echo(request: Request) -> JSONResponse:
    """Answers who answered, after `?wait=` seconds."""
    await asyncio.sleep(float(request.query_params.get("wait", 0)))
    body = await request.body()
    names = request.query_params.get("env", "").split(",")
    env = {name: os.environ.get(name) for name in names if name}
    return JSONResponse({"pid": os.getpid(), "bytes": len(body), "env": env})


async def misbehave(request: Request) -> JSONResponse:
    how = request.path_params["how"]
    if how == "unfit":
        retire("a test says so")
    elif how == "hang":
        time.sleep(600)  # noqa: ASYNC251
    elif how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return JSONResponse({"pid": os.getpid(), "threads": threading.active_count()})


app = Starlette(
    routes=[
        Route("/echo", echo, methods=["GET", "POST"]),
        Route("/misbehave/{how}", misbehave),
    ]
)

if patience := os.environ.get("TINY_PATIENCE"):
    connections.HEADER_S = connections.BODY_S = float(patience)


@bentoml.service(service_class=TinyService)
@bentoml.asgi_app(app)
class Tiny:
    def __init__(self) -> None:
        if why := os.environ.get("TINY_UNFIT"):
            raise ValueError(why)

    def __is_ready__(self) -> bool:
        gate = os.environ.get("TINY_GATE")
        return gate is None or Path(gate).exists()
