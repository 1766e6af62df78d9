"""ModelRef → predictor artifact."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np

from headgate.config import ModelConfig, PackagingConfig
from headgate.errors import ArtifactError, PackagingError, ParityError
from headgate.packaging.audit import audit_model, room_names
from headgate.packaging.candidates import (
    USUAL_TOLERANCE,
    Judged,
    Questions,
    choose,
    describe_row,
    judge_candidate,
)
from headgate.packaging.exchange import NATIVE, PROBES, REFERENCE, REFUSED, Job
from headgate.packaging.isolation import run_child
from headgate.packaging.signature import fit_reference, signature_of
from headgate.packaging.source import Fetched, Source, read_source
from headgate.predictor import (
    Candidate,
    Manifest,
    Outputs,
    Parity,
    Reference,
    difference,
    read_manifest,
    write_artifact,
)
from headgate.predictor.artifact import verify_files
from headgate.predictor.folder import working_folder
from headgate.records import ModelRef

__all__ = ["cached_package", "package", "reference_of"]

PACKAGER = 2
"""Counts up when the same model would become another artifact, so that caches are not used."""
_SKEW = (
    "the likely cause is preprocessing outside of the logged pipeline (training-serving skew): "
    "log one pipeline that takes the raw columns, and the reference from that very pipeline"
)


def cached_package(
    cache: Path, ref: ModelRef, fetched: Fetched, config: ModelConfig, room: Path | None
) -> Path:
    """The artifact of ``ref``, packaged now or before with the same settings.

    Raises:
        PackagingError: see :func:`package`.
    """
    module = _module(config.packaging, room)
    key = hashlib.sha256(msgspec.json.encode([PACKAGER, ref, config.packaging]))
    key.update(module.read_bytes() if module is not None else b"")
    target = cache / f"{ref.digest.removeprefix('sha256:')}-{key.hexdigest()[:12]}"
    if target.is_dir():
        try:
            verify_files(target, read_manifest(target))
        except ArtifactError:
            shutil.rmtree(target)
        else:
            return target
    reference = Reference.load(fetched.reference)
    package(ref, fetched.model, reference, config, room=room, out=target)
    return target


def package(
    ref: ModelRef,
    model_dir: Path,
    reference: Reference,
    config: ModelConfig,
    *,
    room: Path | None,
    out: Path,
) -> Manifest:
    """Turn the MLflow model in ``model_dir``, checked against its digest, into an artifact.

    ``room`` is the model's folder in the repository, whose code was reviewed. ``out`` appears
    complete or not at all.

    Raises:
        UnsafeModelError: opening it could run code that nobody reviewed.
        ParityError: no engine gives the recorded predictions.
        PackagingError: it cannot be opened, run or described.
    """
    where = f"{ref.name} version {ref.version}"
    settings = config.packaging
    if reference.rows == 0:
        raise PackagingError(
            "its reference has no rows", where=where, remedy="log a few hundred held-out rows"
        )
    source = read_source(model_dir)
    module = _module(settings, room)
    names = room_names(module, functions=source.format == "skops")
    audit_model(model_dir, source, names)
    signature = signature_of(source.columns, reference)
    reference = fit_reference(reference, signature)
    base = Manifest(
        ref=ref,
        engine="",
        signature=signature,
        tolerance=settings.tolerance,
        parity=Parity(rows=0, mismatched=0, largest=0.0),
        source=source.described(),
    )
    with working_folder(out.resolve()) as folder:
        job = Job(
            flavor=source.flavor,
            format=source.format,
            file=str((model_dir / source.file).resolve()),
            signature=signature,
            tolerance=settings.tolerance,
            wanted=_wanted(settings, source),
            module=str(module.resolve()) if module is not None else "",
            room=tuple(sorted(names)),
        )
        judged, questions = _try_all(folder, job, base, reference, where)
        found = choose(judged)
        if found is None:
            raise _no_engine(judged, questions.reference, where, settings)
        best, told = found
        return _write(out, best, told, reference, settings)


def reference_of(fetched: Fetched, manifest: Manifest) -> Reference:
    """Every recorded row, in the terms of the packaged signature: what the gate sends.

    Raises:
        ArtifactError: it cannot be read.
        PackagingError: it does not fit the signature.
    """
    return fit_reference(Reference.load(fetched.reference), manifest.signature)


def _module(settings: PackagingConfig, room: Path | None) -> Path | None:
    if not settings.module or room is None:
        return None
    path = (room / settings.module).resolve()
    if not path.is_file() or not path.is_relative_to(room.resolve()):
        raise PackagingError(
            f"packaging.module names {settings.module!r}, which is no file there",
            where=str(room / "model.toml"),
            remedy="name the Python file in the model's room that defines its module",
        )
    return path


def _wanted(settings: PackagingConfig, source: Source) -> tuple[str, ...]:
    native = source.flavor
    return {"auto": ("onnx", native), "onnx": ("onnx",), "native": (native,)}[settings.engine]


def _try_all(
    folder: Path, job: Job, base: Manifest, reference: Reference, where: str
) -> tuple[list[Judged], Questions]:
    reference.sample(reference.rows).save(folder / REFERENCE)
    result = run_child(folder, job)
    native = Reference.load(folder / NATIVE)
    _check_native(native.outputs, reference, job.tolerance, where)
    questions = Questions(
        reference=reference,
        probes=Reference.load(folder / PROBES) if (folder / PROBES).is_dir() else None,
        refused=Reference.load(folder / REFUSED) if (folder / REFUSED).is_dir() else None,
    )
    return [judge_candidate(folder, each, base, questions) for each in result.built], questions


def _check_native(native: Outputs, reference: Reference, tolerance: float, where: str) -> None:
    """Hold that the model itself, unconverted, gives what was recorded when it was trained."""
    found = difference(native, reference.outputs, tolerance)
    if found.ok.all():
        return
    if difference(native, reference.outputs, USUAL_TOLERANCE).ok.all():
        largest = float(found.largest.max())
        raise ParityError(
            f"packaging.tolerance = {tolerance:g} is tighter than the model's own arithmetic: run "
            f"again, it differs from its recorded predictions on {int((~found.ok).sum())} of "
            f"{reference.rows} rows, by up to {largest:.3g}; what it predicts is the same",
            where=where,
            remedy=_looser(largest),
        )
    first = int(np.argmin(found.ok))
    raise ParityError(
        f"the registered model does not give the recorded predictions: {int((~found.ok).sum())} of "
        f"{reference.rows} rows differ, by up to {float(found.largest.max()):.3g}; the first is row "
        f"{first}, {_row_differs(reference, native, first)}",
        where=where,
        remedy=_SKEW,
    )


def _looser(largest: float) -> str:
    return (
        f"set packaging.tolerance in its model.toml above {largest:.3g}, or leave it out: it is "
        f"{USUAL_TOLERANCE:g} then"
    )


def _row_differs(reference: Reference, got: Outputs, row: int) -> str:
    one = slice(row, row + 1)
    recorded = {name: array[one] for name, array in reference.outputs.items()}
    answered = {name: got[name][one] for name in recorded if name in got}
    return (
        f"({describe_row(reference.take(one).inputs)}): recorded {describe_row(recorded)}, "
        f"got {describe_row(answered)}"
    )


def _no_engine(
    judged: list[Judged], reference: Reference, where: str, settings: PackagingConfig
) -> PackagingError:
    """The model itself is right, but nothing that can be served answers as it does."""
    told = "; ".join(f"{each.candidate.engine}: {each.candidate.reason}" for each in judged)
    wrong = [each for each in judged if each.first_wrong is not None]
    if wrong:
        row = wrong[0].first_wrong or 0
        told += (
            f"; the first is row {row} ({describe_row(reference.take(slice(row, row + 1)).inputs)})"
        )
    remedy = (
        "see the reasons; `packaging.tolerance` in model.toml is where a looser one is declared"
    )
    if wrong and all(each.close for each in wrong):
        remedy = _looser(
            max(each.candidate.parity.largest for each in wrong if each.candidate.parity)
        )
        if settings.engine == "onnx":
            remedy += '; or serve it unconverted: packaging.engine = "native"'
    elif settings.engine != "auto":
        remedy = (
            f'let packaging choose: engine = "auto" instead of "{settings.engine}"; or {remedy}'
        )
    kind = ParityError if wrong else PackagingError
    return kind(f"no engine gives the recorded predictions — {told}", where=where, remedy=remedy)


def _write(
    out: Path,
    best: Judged,
    told: tuple[Candidate, ...],
    reference: Reference,
    settings: PackagingConfig,
) -> Manifest:
    built = read_manifest(best.path)
    manifest = msgspec.structs.replace(
        built, parity=best.candidate.parity or built.parity, candidates=told
    )
    files = {name: best.path / name for name in built.files}
    few = reference.sample(settings.reference_rows) if settings.reference_rows else None
    return write_artifact(out, manifest, files, few)
