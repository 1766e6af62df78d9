"""Release → image: built, started, and held to what its models predicted when they were trained."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from headgate import packaging
from headgate.errors import InputError, PackagingError, ParityError, ServingError
from headgate.image import Container, Engine, ImageInfo, Layer, find_engine, image_labels, stage
from headgate.pipeline.bundle import Bundle
from headgate.pipeline.make import find
from headgate.pipeline.subjects import asked_of
from headgate.predictor.folder import working_folder
from headgate.records import Record, Release

__all__ = ["Containerized", "containerize"]

_ROWS = 64
"""In a request of reference rows."""


class Containerized(Record, frozen=True):
    """An image that was built, and how it did."""

    image: str
    id: str
    """``sha256:`` of its configuration."""
    release: Release
    mb: float | None
    """Megabytes, unpacked; None where the engine does not say."""
    layers: tuple[Layer, ...]
    cold_start_s: float | None
    """From the start of a container until it was ready; None where none was started."""
    checked: int
    """Predictions that were as they should be."""


def containerize(
    bundle: Bundle,
    which: str | None,
    *,
    engine: str | None = None,
    image: str | None = None,
    options: Sequence[str] = (),
    tries: bool = True,
) -> Containerized:
    """Build the image of a release, and unless ``tries`` is false see that a container of it serves.

    Args:
        bundle: Whose.
        which: Tag of the release; by default the build of ``models.lock``.
        engine: docker, podman or buildah; by default the first there is.
        image: Its name; by default ``headgate:VERSION``.
        options: The engine's own, for ``build``.
        tries: Whether to start it and ask for predictions.

    Raises:
        InputError: there is no such engine, or no Dockerfile.
        PackagingError: it was not built.
        ServingError: a container of it does not become ready, or does not end as it should.
        ParityError: it predicts something else than the models as trained.
    """
    builder = find_engine(engine)
    release = find(bundle, which)
    name = image or release.tag
    found = _built(bundle, builder, release, name, options)
    cold_start_s, checked = None, 0
    if tries and builder.runs:
        cold_start_s, checked = _tried(bundle, builder, release, name)
    elif tries:
        bundle.notify(f"not started: {builder.name} runs no servers, docker and podman do")
    return Containerized(
        image=name,
        id=found.id,
        release=release,
        mb=found.mb,
        layers=found.layers,
        cold_start_s=cold_start_s,
        checked=checked,
    )


def _built(
    bundle: Bundle,
    builder: Engine,
    release: Release,
    name: str,
    options: Sequence[str],
) -> ImageInfo:
    dockerfile = bundle.root / "Dockerfile"
    if not dockerfile.is_file():
        raise InputError(
            "there is none", where=str(dockerfile), remedy="restore it from the repository"
        )
    log = bundle.home / "logs" / "containerize.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    bundle.notify(f"building the image {name} with {builder.name}")
    with working_folder(bundle.home / "image") as folder:
        context = folder / "bento"
        stage(packaging.bento_path(bundle.store, release.tag), context)
        labels = image_labels(release, _revision(bundle.root))
        builder.build(context, dockerfile, image=name, labels=labels, options=options, log=log)
    found = builder.image(name)
    if found is None or found.labels.get("headgate.digest") != release.digest:
        raise PackagingError(
            f"{builder.name} says it built it, and has none of this release",
            where=name,
            remedy=f"see {log}",
        )
    return found


def _tried(bundle: Bundle, engine: Engine, release: Release, image: str) -> tuple[float, int]:
    """Seconds until a container could answer, and how many right predictions it gave."""
    server = bundle.config.server
    bundle.notify("starting a container of it")
    began_s = time.monotonic()
    with engine.container(image) as container:
        container.wait_ready(server.ready_timeout_s)
        cold_start_s = time.monotonic() - began_s
        bundle.notify(f"ready after {cold_start_s:.1f} s; asking for the reference predictions")
        checked = _check(bundle, release, container)
        code = container.stop(server.drain_s)
        if code:
            raise ServingError(
                f"the container ended with {code} when it was told to stop",
                where=image,
                remedy=f"run it by hand and see what it says: {engine.name} run {image}",
            )
    return cold_start_s, checked


def _check(bundle: Bundle, release: Release, container: Container) -> int:
    """The number of reference rows that were predicted, all of them rightly."""
    rates = {ref.name: 1.0 for ref in release.models}
    checked = 0
    for asked in asked_of(bundle, release, rates, _ROWS):
        told = [container.predict(ask.path, ask.body) for ask in asked.asks]
        compared = asked.answers.compare(
            range(len(told)), [status for status, _ in told], [body for _, body in told]
        )
        if not (compared.ok & compared.matched).all():
            wrong = int((~(compared.ok & compared.matched)).argmax())
            raise ParityError(
                f"{asked.model}: {compared.cause[wrong] or 'it predicts something else'}",
                where=f"request {wrong + 1} of {len(told)} to a container of {release.tag}",
                remedy="look for what the image has in other versions than where it was packaged",
            )
        checked += len(told) * asked.rows
    return checked


def _revision(root: Path) -> str:
    """The commit that lies there; empty where there is no repository."""
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
