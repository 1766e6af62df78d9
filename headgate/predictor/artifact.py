"""The folder a packaged predictor lives in: ``predictor.json`` and the files it names.

::

    predictor.json      the manifest; names every other file with its sha256
    model.onnx | …      what the engine reads
    reference/          at most N reference rows with predictions; absent for private data
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headgate.errors import ArtifactError
from headgate.predictor.folder import complete_folder
from headgate.predictor.reference import Reference
from headgate.predictor.signature import Signature
from headgate.records import ModelRef, Record

__all__ = ["Candidate", "Manifest", "Parity", "read_manifest", "verify_files", "write_artifact"]

FORMAT = 1
MANIFEST = "predictor.json"
REFERENCE = "reference"


class Parity(Record, frozen=True):
    """How the packaged predictor compared with the recorded predictions."""

    rows: int
    """Reference rows compared: all of them, not only those that travel."""
    mismatched: int
    largest: float
    """The largest difference, as :func:`headgate.predictor.parity.difference` has it."""
    probes: int = 0
    """Rows made up from them (nulls, unknown strings) and compared with the native model."""


class Candidate(Record, frozen=True):
    """One way to run the model that packaging tried."""

    engine: str
    chosen: bool
    reason: str
    """Why it was chosen or not, in words."""
    parity: Parity | None = None
    """None where it did not get that far."""
    one_row_ms: float | None = None
    """Median time of one row, milliseconds."""
    batch_ms: float | None = None
    """Median time of a batch of 64 rows, milliseconds."""


class Manifest(Record, frozen=True):
    """``predictor.json``."""

    ref: ModelRef
    engine: str
    """``onnx``, ``sklearn`` or ``torch``."""
    signature: Signature
    tolerance: float
    """Largest difference that counts as equal."""
    parity: Parity
    source: dict[str, str] = msgspec.field(default_factory=dict)
    """Where the model came from: flavor, library versions, serialization."""
    candidates: tuple[Candidate, ...] = ()
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """What only the engine understands."""
    files: dict[str, str] = msgspec.field(default_factory=dict)
    """sha256 in hex by relative path, of every file but this one."""
    format: int = FORMAT


def write_artifact(
    target: Path,
    manifest: Manifest,
    files: Mapping[str, bytes | Path],
    reference: Reference | None = None,
) -> Manifest:
    """Write the artifact; it appears complete or not at all. Returns the manifest with hashes.

    Raises:
        OSError: it could not be written.
    """
    with complete_folder(target) as fresh:
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(content, path)
        if reference is not None:
            reference.save(fresh / REFERENCE)
        manifest = msgspec.structs.replace(manifest, files=_hashes(fresh))
        text = msgspec.json.format(msgspec.json.encode(manifest))
        (fresh / MANIFEST).write_bytes(text + b"\n")
    return manifest


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the artifact at ``path``.

    Raises:
        ArtifactError: there is none, or of a format this Headgate does not know.
    """
    file = path / MANIFEST
    remedy = "build again with `headgate build`"
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"no packaged predictor ({error.strerror})", where=str(file), remedy=remedy
        ) from None
    try:
        found = msgspec.json.decode(raw, type=_Format).format
        if found != FORMAT:
            raise ArtifactError(f"format {found}, not {FORMAT}", where=str(file), remedy=remedy)
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"unreadable: {error}", where=str(file), remedy=remedy) from None


def verify_files(path: Path, manifest: Manifest) -> None:
    """Hold that the artifact has exactly the files its manifest names, unaltered.

    Raises:
        ArtifactError: a file is missing, altered or one too many.
    """
    found = _hashes(path)
    for name in sorted(manifest.files.keys() | found.keys()):
        want, have = manifest.files.get(name), found.get(name)
        if want != have:
            what = (
                "is missing" if have is None else "is altered" if want else "does not belong here"
            )
            raise ArtifactError(
                what, where=str(path / name), remedy="build again with `headgate build`"
            )


class _Format(msgspec.Struct):
    """The one field that is read before the rest is believed."""

    format: int


def _hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST and path.is_file():
            with path.open("rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
