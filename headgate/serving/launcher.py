"""Serves a bundle or a Bento: ports, processes, signals.

``python -m headgate.serving.launcher PATH --host H --port P --grpc-port G --workers N --threads T --release TAG``

One line of JSON on standard output says that it is ready; the log is on standard error. It exits
with 0 after SIGTERM or SIGINT, 1 when it could not become or stay ready, 2 when what it was asked
for is wrong (the port is taken, there is no bundle). A second signal stops it at once, with 1.

BentoML's workers run under it, but neither its arbiter nor its sockets: see ``launch/channel.py`` for how
connections reach a worker.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from headgate.config import ServerConfig
from headgate.errors import HeadgateError
from headgate.serving.launch.census import Census
from headgate.serving.launch.devices import pin, visible_gpus
from headgate.serving.launch.environment import environment
from headgate.serving.launch.listening import GRPC_SETTING, listen_tcp, listen_unix
from headgate.serving.launch.process import ServerProcess, start
from headgate.serving.launch.scratch import Scratch
from headgate.serving.launch.services import ServiceSpec, dependencies, source_of
from headgate.serving.launch.standin import StandIn
from headgate.serving.supervisor import ENTRY, Command, Pool, Timing

__all__ = ["Options", "ServerProcess", "main", "run", "serve", "start"]

KEEP_ALIVE_S = 75
"""An idle connection is kept this long; longer than the 60 s of common load balancers."""
_FILES_PER_WORKER = 512
"""File descriptors that a worker needs for itself."""
_MOST_CONNECTIONS = 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What to serve, and how."""

    path: Path
    """A bundle (its folder has ``service.py``) or an exported Bento."""
    host: str = "127.0.0.1"
    port: int = 3000
    grpc_port: int | None = None
    """0 takes a free one; without it there is no gRPC."""
    workers: int = 1
    threads: int = 1
    release: str = "dev"
    timing: Timing = field(default_factory=Timing)


class Listeners(NamedTuple):
    """What a service listens on."""

    http: socket.socket
    grpc: socket.socket | None = None


def run(path: Path, server: ServerConfig, *, release: str) -> int:
    """Serve in this process until it is told to stop; returns the exit code."""
    return serve(
        Options(
            path=path,
            host=server.host,
            port=server.port,
            grpc_port=server.grpc,
            workers=server.workers,
            threads=server.threads,
            release=release,
            timing=Timing(ready_s=server.ready_timeout_s, drain_s=server.drain_s),
        )
    )


def serve(options: Options) -> int:
    """Serve until told to stop; returns the exit code. Problems are one line on standard error."""
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        try:
            source = source_of(options.path.resolve())
            listeners = Listeners(http=stack.enter_context(listen_tcp(options.host, options.port)))
            if options.grpc_port is not None:
                grpc = listen_tcp(options.host, options.grpc_port, GRPC_SETTING)
                listeners = listeners._replace(grpc=stack.enter_context(grpc))
            scratch = Scratch()
            stack.callback(scratch.close)
        except HeadgateError as error:
            _say(str(error))
            return 2
        try:
            return asyncio.run(_Launcher(options, source, scratch).run(listeners, started))
        except HeadgateError as error:
            _say(str(error))
            return 1


class _Launcher:
    """One server at work."""

    def __init__(self, options: Options, source: Path, scratch: Scratch) -> None:
        self._options = options
        self._source = source
        self._scratch = scratch
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._trouble = ""
        self._pools: list[Pool] = []

    async def run(self, listeners: Listeners, started: float) -> int:
        """Start everything, supervise it, stop it; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        census = Census(self._scratch.metrics)
        try:
            self._pools = self._make_pools(listeners, census)
            for pool in self._pools:
                pool.start()
            everyone = asyncio.gather(*(pool.ready.wait() for pool in self._pools))
            ready_s = self._options.timing.ready_s
            if not await _first(self._stop, everyone, ready_s) and not self._stop.is_set():
                self._give_up(f"not ready within {ready_s:g} s")
            if not self._stop.is_set():
                self._announce(listeners, time.monotonic() - started)
                await self._stop.wait()
            return await self._end()
        finally:
            for pool in self._pools:
                pool.kill()
                await pool.ended()
            census.close()

    def _make_pools(self, listeners: Listeners, census: Census) -> list[Pool]:
        """One per dependency, on a private socket; the entry service last."""
        options = self._options
        env = environment(
            self._scratch,
            threads=options.threads,
            release=options.release,
            drain_s=options.timing.drain_s,
            grpc=listeners.grpc is not None,
            exported=self._source != options.path.resolve(),
        )
        specs = dependencies(options.path.resolve(), env)
        sockets = [self._scratch.path / f"service-{i}.sock" for i in range(len(specs))]
        if specs:
            addresses = {
                spec.name: path.as_uri() for spec, path in zip(specs, sockets, strict=True)
            }
            env["BENTOML_RUNNER_MAP"] = json.dumps(addresses)
        gpus = visible_gpus() if specs else ()
        taken = 0
        pools = []
        standin = StandIn(census.text)

        def pool(name: str, envs: Sequence[dict[str, str]], sockets: Listeners) -> Pool:
            return Pool(
                name,
                [self._command(name, slot, worker_env) for slot, worker_env in enumerate(envs)],
                sockets.http,
                grpc=sockets.grpc,
                timing=options.timing,
                most_connections=_most_connections(),
                census=census,
                standin=standin,
                say=_say,
                give_up=self._give_up,
            )

        for spec, path in zip(specs, sockets, strict=True):
            envs = _pinned(env, spec, gpus, taken)
            taken += spec.workers * spec.gpus
            pools.append(pool(spec.name, envs, Listeners(http=listen_unix(path))))
        return [*pools, pool(ENTRY, [env] * options.workers, listeners)]

    def _command(self, name: str, slot: int, env: dict[str, str]) -> Command:
        argv = [
            sys.executable,
            "-m",
            "headgate.serving.launch.child",
            str(self._options.path.resolve()),
        ]
        argv += ["--worker-id", str(slot + 1), "--timeout-keep-alive", str(KEEP_ALIVE_S)]
        return Command(
            argv=argv if name == ENTRY else [*argv, "--service-name", name],
            cwd=self._source,
            env=env,
        )

    def _announce(self, listeners: Listeners, load_time_s: float) -> None:
        """Say that it is ready: to programs on standard output, to people in the log."""
        address = _reached_at(listeners.http)
        grpc = "" if listeners.grpc is None else _reached_at(listeners.grpc)
        line = {
            "event": "ready",
            "http": address,
            "grpc": grpc,
            "pid": os.getpid(),
            "release": self._options.release,
            "load_time_s": round(load_time_s, 3),
        }
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(line), flush=True)  # noqa: T201
        beside = f", gRPC at {grpc}" if grpc else ""
        who = self._options.release
        _say(f"{who} is ready at http://{address}{beside} after {load_time_s:.1f} s")

    async def _end(self) -> int:
        """Stop in the way that fits the reason; returns the exit code."""
        if self._trouble:
            _say(f"cannot serve {self._options.path}: {self._trouble}")
            return 1
        _say("stopping: answering what is open, refusing what is new")
        draining = asyncio.ensure_future(self._drain())
        if await _first(self._stop_now, draining):
            return 0
        _say("stopped at once")
        return 1

    async def _drain(self) -> None:
        *dependencies_, entry = self._pools
        await entry.drain()
        await asyncio.gather(*(pool.drain() for pool in dependencies_))

    def _on_stop(self) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    def _on_child(self) -> None:
        for pool in self._pools:
            pool.reap()

    def _give_up(self, why: str) -> None:
        self._trouble = self._trouble or why
        self._stop.set()


def _reached_at(listener: socket.socket) -> str:
    """``host:port`` at which a client on this machine reaches it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _first(
    event: asyncio.Event, work: asyncio.Future[Any], timeout_s: float | None = None
) -> bool:
    """Whether ``work`` is done before ``event`` is set or the time is up; if not, it is cancelled."""
    waiter = asyncio.ensure_future(event.wait())
    await asyncio.wait({waiter, work}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    done = work.done()
    for task in (waiter, work):
        task.cancel()
    await asyncio.gather(waiter, work, return_exceptions=True)
    return done


def _pinned(
    env: dict[str, str], spec: ServiceSpec, gpus: Sequence[str], taken: int
) -> list[dict[str, str]]:
    """The environment of each worker of ``spec``, with GPUs of its own."""
    if not gpus or not spec.gpus:
        return [env] * spec.workers
    if taken + spec.workers * spec.gpus > len(gpus):
        _say(f"service {spec.name} shares GPUs: {len(gpus)} here, more are wanted")
    return [
        {**env, "CUDA_VISIBLE_DEVICES": pin(gpus, per_worker=spec.gpus, worker=i, taken=taken)}
        for i in range(spec.workers)
    ]


def _most_connections() -> int:
    """Connections per worker, after raising the limit of file descriptors as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS caps it below what it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(64, min(_MOST_CONNECTIONS, soft - _FILES_PER_WORKER))


def _say(line: str) -> None:
    """One line in the log."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"headgate: {line}\n")
        sys.stderr.flush()


def _options(argv: Sequence[str] | None) -> Options:
    defaults = ServerConfig()
    parser = argparse.ArgumentParser(
        prog="python -m headgate.serving.launcher",
        description="Serve a bundle or a Bento until SIGTERM.",
    )
    parser.add_argument("path", type=Path, help="folder of a bundle, or of an exported Bento")
    parser.add_argument("--host", default=defaults.host)
    parser.add_argument("--port", type=int, default=defaults.port, help="0 takes a free one")
    parser.add_argument("--grpc-port", type=int, help="0 takes a free one; without it no gRPC")
    parser.add_argument("--workers", type=_count, default=defaults.workers)
    parser.add_argument(
        "--threads", type=_count, default=defaults.threads, help="of the numerical libraries"
    )
    parser.add_argument("--release", default="dev", help="its name in answers and metrics")
    parser.add_argument("--drain-s", type=float, default=defaults.drain_s)
    parser.add_argument("--ready-timeout-s", type=float, default=defaults.ready_timeout_s)
    args = parser.parse_args(argv)
    return Options(
        path=args.path,
        host=args.host,
        port=args.port,
        grpc_port=args.grpc_port,
        workers=args.workers,
        threads=args.threads,
        release=args.release,
        timing=Timing(ready_s=args.ready_timeout_s, drain_s=args.drain_s),
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; argparse exits with 2 on wrong usage."""
    return serve(_options(argv))


if __name__ == "__main__":
    raise SystemExit(main())
