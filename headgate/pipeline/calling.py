"""How to ask a model that serves: where, and with what."""

from __future__ import annotations

from typing import Any

from headgate import packaging
from headgate.errors import UnknownModelError
from headgate.pipeline.bundle import Bundle
from headgate.pipeline.make import find
from headgate.predictor import Signature, example, read_reference
from headgate.records import Record
from headgate.serving.bundle import open_bundle

__all__ = ["Callee", "callee"]


class Callee(Record, frozen=True):
    """One model of a release."""

    model: str
    version: str
    release: str
    http: str
    """``host:port``."""
    grpc: str
    """The same; empty where there is none."""
    running: bool
    """Whether somebody serves there now."""
    signature: Signature
    row: Any
    """One that it takes, as V1 has it in JSON."""


def callee(bundle: Bundle, model: str) -> Callee:
    """The model in what serves; where nothing does, in what is live, else in the newest build.

    Raises:
        UnknownModelError: that release has no such model.
        HeadgateError: there is no release, or it is not on this machine any more.
    """
    running = bundle.platform.running()
    live = None if running else bundle.state().live
    tag = running.release if running else live.tag if live else find(bundle, None).tag
    source = packaging.bento_path(bundle.store, tag) / "src"
    served = {each.name: each for each in open_bundle(source).models}
    if model not in served:
        raise UnknownModelError(
            f"{tag} has no such model", where=model, remedy=f"it has {', '.join(served)}"
        )
    packaged = served[model]
    signature = packaged.manifest.signature
    return Callee(
        model=model,
        version=packaged.ref.version,
        release=tag,
        http=running.http if running else bundle.address,
        grpc=running.grpc if running else bundle.grpc_address,
        running=running is not None,
        signature=signature,
        row=example(signature, read_reference(packaged.path, packaged.manifest)).row,
    )
