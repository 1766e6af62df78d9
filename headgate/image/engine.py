"""The program that builds images and runs containers, by its command line.

docker and podman have the same one. buildah builds with it too, but runs no servers.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headgate.errors import InputError, PackagingError, ServingError
from headgate.records import Record

__all__ = ["Container", "Engine", "ImageInfo", "Layer", "find_engine"]

_KNOWN = ("docker", "podman", "buildah")
_SAME = dict.fromkeys(("podman", "buildah"), ("--layers", "--timestamp=0"))
"""Options that make equal inputs an equal image."""
_PORT = 3000
_POLL_S = 0.05
_SPARE_S = 10
"""Longer than its drain that a container may take to end."""
_MB = 1e6
_TELLS = re.compile(r"\b(error|unknown|invalid|failed|denied)\b", re.IGNORECASE)


class Layer(Record, frozen=True):
    """One step of an image."""

    made_by: str
    mb: float
    """Megabytes, 10^6 bytes, unpacked."""


class ImageInfo(Record, frozen=True):
    """What an engine says of an image."""

    id: str
    mb: float | None
    """None where the engine does not say."""
    labels: dict[str, str]
    layers: tuple[Layer, ...] = ()
    """The newest first, those without files left out."""


class Container:
    """One that runs."""

    def __init__(self, engine: Engine, name: str, image: str) -> None:
        self._engine = engine
        self._name = name
        self._image = image
        self.address = ""
        """``host:port`` of HTTP."""

    def wait_ready(self, timeout_s: float) -> None:
        """Return when it can answer.

        Raises:
            ServingError: it ended instead, or took longer than ``timeout_s``.
        """
        ends_s = time.monotonic() + timeout_s
        while time.monotonic() < ends_s:
            state = self._state()
            if not state["Running"]:
                raise self._failed(f"the container ended with {state['ExitCode']}")
            self.address = self.address or self._published()
            with contextlib.suppress(OSError):
                url = f"http://{self.address}/readyz"
                with urllib.request.urlopen(url, timeout=1) as answer:
                    if answer.status == 200:
                        return
            time.sleep(_POLL_S)
        raise self._failed(f"the container is not ready after {timeout_s:g} s")

    def predict(self, path: str, body: bytes, timeout_s: float = 30) -> tuple[int, bytes]:
        """Status and body of the answer to a POST of JSON."""
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            return 0, str(error).encode()

    def stop(self, grace_s: float) -> int:
        """End it as a cluster does; returns its exit code, 137 where it had to be killed."""
        self._engine.output("stop", "--time", f"{grace_s + _SPARE_S:.0f}", self._name)
        return int(self._state()["ExitCode"])

    def _state(self) -> dict[str, Any]:
        told = self._engine.output("inspect", "--format", "{{json .State}}", self._name)
        state: dict[str, Any] = json.loads(told)
        return state

    def _published(self) -> str:
        lines = self._engine.output("port", self._name, f"{_PORT}/tcp").split()
        return lines[0].replace("0.0.0.0", "127.0.0.1") if lines else ""  # noqa: S104

    def _failed(self, what: str) -> ServingError:
        log = self._engine.log_of(self._name).splitlines()
        said = next((line for line in reversed(log) if line.strip()), "it said nothing")
        return ServingError(what, where=self._image, remedy=f"its log ends: {said.strip()}")


class Engine:
    """docker, podman or buildah."""

    def __init__(self, program: Path) -> None:
        self._program = str(program)
        self.name = program.name

    @property
    def runs(self) -> bool:
        """Whether it can run what it has built."""
        return self.name != "buildah"

    def build(
        self,
        context: Path,
        dockerfile: Path,
        *,
        image: str,
        labels: Mapping[str, str],
        options: Sequence[str],
        log: Path,
    ) -> None:
        """Build ``image``; all that is said goes to ``log``.

        ``options`` are the program's own, for ``build``. docker gives folders the time of the
        build, so that equal inputs make equal files but not equal layers; the others can be told not to.

        Raises:
            PackagingError: it was not built.
        """
        named = [f"--label={name}={value}" for name, value in labels.items()]
        command = [
            *(self._program, "build", "--file", str(dockerfile), "--tag", image),
            *(*named, *_SAME.get(self.name, ()), *options, str(context)),
        ]
        with log.open("wb") as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
        if done.returncode:
            raise PackagingError(
                f"{self.name} build ended with {done.returncode}: {_why(log)}",
                where=image,
                remedy=f"see all that it said in {log}",
            )

    def image(self, name: str) -> ImageInfo | None:
        """What it knows of an image; None where there is none of that name."""
        if not self.runs:
            told = self._maybe("inspect", "--type", "image", name)
            if told is None:
                return None
            found = json.loads(told)
            labels = found["OCIv1"].get("config", {}).get("Labels") or {}
            return ImageInfo(id=found["FromImageID"], mb=None, labels=labels)
        told = self._maybe("image", "inspect", name)
        if told is None:
            return None
        (found,) = json.loads(told)
        return ImageInfo(
            id=found["Id"],
            mb=found["Size"] / _MB,
            labels=found["Config"].get("Labels") or {},
            layers=self._layers(name),
        )

    @contextlib.contextmanager
    def container(self, image: str, options: Sequence[str] = ()) -> Iterator[Container]:
        """Run ``image`` as a cluster would: read-only, without rights; gone afterwards."""
        name = self.output(
            *("run", "--detach", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),  # noqa: S108
            *("--security-opt", "no-new-privileges", "--publish", f"127.0.0.1::{_PORT}"),
            *(*options, image),
        )
        try:
            yield Container(self, name, image)
        finally:
            self._maybe("rm", "--force", "--volumes", name)

    def output(self, *arguments: str) -> str:
        """What it prints; raises :class:`PackagingError` where it fails."""
        done = self._run(arguments)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise PackagingError(
                f"{self.name} {arguments[0]} ended with {done.returncode}: "
                f"{said[-1] if said else 'it said nothing'}",
                remedy=f"see whether {self.name} works by hand",
            )
        return done.stdout.strip()

    def log_of(self, container: str) -> str:
        """All that a container has said."""
        done = self._run(("logs", container))
        return done.stdout + done.stderr

    def _layers(self, name: str) -> tuple[Layer, ...]:
        told = self.output("history", "--no-trunc", "--human=false", "--format", "{{json .}}", name)
        steps = [msgspec.json.decode(line) for line in told.splitlines()]
        return tuple(
            Layer(made_by=_step(step["CreatedBy"]), mb=size)
            for step in steps
            if (size := float(step.get("Size") or step.get("size") or 0) / _MB) > 0
        )

    def _maybe(self, *arguments: str) -> str | None:
        done = self._run(arguments)
        return done.stdout if done.returncode == 0 else None

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


def find_engine(name: str | None = None) -> Engine:
    """The program ``name``, by default the first there is.

    Raises:
        InputError: there is none, or it does not work.
    """
    if name is not None and name not in _KNOWN:
        raise InputError("no such engine", where=name, remedy=f"one of: {', '.join(_KNOWN)}")
    for each in _KNOWN if name is None else (name,):
        if program := shutil.which(each):
            engine = Engine(Path(program))
            try:
                engine.output("version")
            except PackagingError as error:
                if name is None:
                    continue
                raise InputError(error.what, where=name, remedy="start its service") from None
            return engine
    raise InputError(
        "there is no program that builds images",
        where=name or ", ".join(_KNOWN),
        remedy="install docker, podman or buildah, and see that its service runs",
    )


def _step(command: str) -> str:
    """A step of a Dockerfile as written, but for how engines wrap it."""
    text = command.partition("#(nop)")[2] or command.removeprefix("/bin/sh -c ")
    return " ".join(text.removesuffix("# buildkit").split())


def _why(log: Path) -> str:
    """The last line that tells of an error, else the last."""
    lines = [
        line for each in log.read_text(errors="replace").splitlines() if (line := each.strip())
    ]
    told = [line for line in lines if _TELLS.search(line)]
    return next(reversed(told or lines), "it said nothing")
