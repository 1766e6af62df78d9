"""Train → register → lock → package → build."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from headgate import packaging, rollout
from headgate.errors import ConfigError, InputError, ParityError, UnknownModelError
from headgate.pipeline.bundle import Bundle, check_pins
from headgate.predictor import read_manifest
from headgate.records import Check, EventKind, ModelRef, Outcome, Record, Release, Verdict

__all__ = ["NOT_BUILT", "Built", "build", "find", "lock", "pick", "train"]

NOT_BUILT = "headgate:not-built"
"""Stands for the tag of a bundle that packaging refused."""


class Built(Record, frozen=True):
    """What a build came to."""

    release: Release
    new: bool
    """False where an equal Bento lay there already."""
    bento: str
    """Its folder."""


def train(bundle: Bundle, name: str, *, script: Path | None = None) -> ModelRef:
    """Run the room's ``train.py``, or ``script``; pin the version that it registered.

    Raises:
        InputError: it failed, or registered nothing; nothing is pinned then.
    """
    room = bundle.room(name)
    script = (script or room.path / "train.py").resolve()
    if not script.is_file():
        raise InputError(
            "no such training script",
            where=str(script),
            remedy="write one, or register a version elsewhere and run `headgate lock`",
        )
    before = bundle.registry.latest(name)
    bundle.notify(f"training {name} with {os.path.relpath(script, bundle.root)}")
    # Threads that spin while they wait take many times as long beside another process.
    threads = {"OMP_NUM_THREADS": str(os.cpu_count() or 1), "OMP_WAIT_POLICY": "PASSIVE"}
    env = {
        **threads,
        **os.environ,
        **bundle.registry.environment(),
        rollout.OWNER: bundle.platform.owner,
    }
    done = subprocess.run(
        [sys.executable, str(script)], env=env, cwd=bundle.root, check=False, stdout=sys.stderr
    )
    if done.returncode != 0:
        raise InputError(
            f"ended with exit code {done.returncode}; its output is above",
            where=str(script),
            remedy="nothing was pinned; mend it and run it again",
        )
    after = bundle.registry.latest(name)
    if after is None or after == before:
        raise InputError(
            f"ended well but registered no new version of {name}",
            where=str(script),
            remedy=f'log the model with registered_model_name="{name}"',
        )
    lock(bundle, [after])
    return after


def pick(bundle: Bundle, name: str, version: str = "") -> ModelRef:
    """The registered ``version`` of a model, by default its newest."""
    bundle.room(name)
    ref = bundle.registry.get(name, version) if version else bundle.registry.latest(name)
    if ref is None:
        raise UnknownModelError(
            "the registry holds no version of it",
            where=name,
            remedy=f"run `headgate train {name}`",
        )
    return ref


def lock(bundle: Bundle, refs: Sequence[ModelRef] = ()) -> tuple[ModelRef, ...]:
    """Pin ``refs``, or the newest version of every room's model, in ``models.lock``."""
    from headgate.registry import read_lock, write_lock

    chosen = refs or [pick(bundle, name) for name in bundle.rooms]
    pinned = {ref.name: ref for ref in [*read_lock(bundle.root), *chosen]}
    ordered = tuple(pinned[name] for name in bundle.rooms if name in pinned)
    write_lock(bundle.root, ordered)
    return ordered


def build(bundle: Bundle) -> Built:
    """Package what ``models.lock`` pins and build the Bento; reuse what is equal.

    Raises:
        ConfigError: it pins no model, or one that has no room.
        ParityError: a model's predictor differs from the model as trained. The refusal is
            in the history.
    """
    from headgate.registry import read_lock

    pinned = read_lock(bundle.root)
    if not pinned:
        raise ConfigError(
            "pins no model",
            where=str(bundle.root / "models.lock"),
            remedy="run `make ship`, or `headgate train` and `headgate lock`",
        )
    check_pins(bundle.root, pinned, bundle.rooms)
    cache = bundle.home / "cache" / "predictors"
    artifacts = []
    for ref in pinned:
        try:
            artifacts.append((ref.name, _package(bundle, ref, cache)))
        except ParityError as error:
            _refuse(bundle, pinned, ref, error)
            raise
    packaging.assemble_bundle(bundle.root / packaging.BUNDLE, artifacts)
    bundle.notify("building the Bento")
    release, new = packaging.build_bento(bundle.root, bundle.store, pinned)
    path = packaging.bento_path(bundle.store, release.tag)
    return Built(release=release, new=new, bento=str(path))


def _package(bundle: Bundle, ref: ModelRef, cache: Path) -> Path:
    """The artifact of one model; says what will run it."""
    room = bundle.room(ref.name)
    named = f"{ref.name} version {ref.version}"
    bundle.notify(f"packaging {named}")
    fetched = bundle.fetch(ref)
    artifact = packaging.cached_package(cache, ref, fetched, room.config, room.path)
    bundle.notify(f"packaged {named}: {packaging.describe_choice(read_manifest(artifact))}")
    return artifact


def find(bundle: Bundle, tag: str | None) -> Release:
    """The release of that tag; by default the build of ``models.lock`` as it is now."""
    if tag is None:
        return build(bundle).release
    return packaging.read_release(packaging.bento_path(bundle.store, tag))


def _refuse(
    bundle: Bundle, pinned: tuple[ModelRef, ...], ref: ModelRef, error: ParityError
) -> None:
    """Append the verdict on a bundle that could not even be built."""
    pins = hashlib.sha256(msgspec.json.encode(pinned)).hexdigest()
    release = Release(tag=NOT_BUILT, digest=f"sha256:{pins}", models=pinned)
    check = Check(
        name="parity",
        model=ref.name,
        outcome=Outcome.FAIL,
        reason=f"{ref.name} version {ref.version}: {error.what}",
        samples=0,
    )
    verdict = Verdict(
        release=release.tag,
        digest=release.digest,
        outcome=Outcome.FAIL,
        reason=check.reason,
        samples=0,
        profile="packaging",
        at=dt.datetime.now(dt.UTC),
        checks=(check,),
    )
    bundle.append(EventKind.GATED, release, verdict.reason, verdict)
