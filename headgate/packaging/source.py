"""A downloaded MLflow model: its flavor, its files, and the signature it was logged with."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

import msgspec
import numpy as np

from headgate.errors import PackagingError
from headgate.records import Record

__all__ = ["Column", "Fetched", "Source", "read_source"]

Flavor = Literal["sklearn", "torch"]
Format = Literal["skops", "pickle", "pt2", "torch"]


class Fetched(Protocol):
    """What the registry downloaded and checked against its digest."""

    @property
    def model(self) -> Path:
        """MLflow's model folder, with its ``MLmodel``."""
        ...

    @property
    def reference(self) -> Path:
        """The folder that :meth:`headgate.predictor.Reference.save` wrote."""
        ...


class Column(Record, frozen=True):
    """One input of MLflow's signature."""

    name: str
    """Empty for the only tensor of a model, which MLflow leaves nameless."""
    dtype: str
    """numpy's name; ``string`` for strings."""
    shape: tuple[int, ...] = ()
    """Of one row."""
    required: bool = True


class Source(Record, frozen=True):
    """What ``MLmodel`` says."""

    flavor: Flavor
    format: Format
    file: str
    """The file to open, relative to the model's folder."""
    versions: dict[str, str]
    columns: tuple[Column, ...] = ()
    """MLflow's signature of the inputs; empty where none was logged."""

    def described(self) -> dict[str, str]:
        """For the manifest."""
        return {"flavor": self.flavor, "format": self.format, **self.versions}


_TYPES = {
    "boolean": "bool",
    "double": "float64",
    "float": "float32",
    "integer": "int32",
    "long": "int64",
    "string": "string",
    "str": "string",
    "object": "string",
}
_SUPPORTED = "Headgate packages MLflow's sklearn and pytorch flavors"


def read_source(folder: Path) -> Source:
    """Read ``folder/MLmodel``.

    Raises:
        PackagingError: it is no MLflow model, or of a flavor or format that is not packaged.
    """
    path = folder / "MLmodel"
    try:
        content = msgspec.yaml.decode(path.read_bytes(), type=_MLmodel)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PackagingError(
            f"no MLflow model: {error}", where=str(path), remedy="log it with MLflow 2 or newer"
        ) from None
    flavors = content.flavors
    versions = {"mlflow": content.mlflow_version}
    columns = _columns(content.signature, str(path))
    if "sklearn" in flavors:
        flavor = flavors["sklearn"]
        name = _inside(flavor.get("pickled_model"), path)
        saved = flavor.get("serialization_format")
        if saved not in {"skops", "pickle", "cloudpickle"}:
            raise PackagingError(
                f"serialization_format {saved!r}", where=str(path), remedy=_SUPPORTED
            )
        versions["scikit-learn"] = str(flavor.get("sklearn_version"))
        kind: Format = "skops" if saved == "skops" else "pickle"
        return Source(flavor="sklearn", format=kind, file=name, versions=versions, columns=columns)
    if "pytorch" in flavors:
        flavor = flavors["pytorch"]
        data = _inside(flavor.get("model_data"), path)
        versions["torch"] = str(flavor.get("pytorch_version"))
        exported = (folder / data / "model.pt2").is_file()
        return Source(
            flavor="torch",
            format="pt2" if exported else "torch",
            file=f"{data}/{'model.pt2' if exported else 'model.pth'}",
            versions=versions,
            columns=columns,
        )
    raise PackagingError(
        f"its flavors are {', '.join(sorted(flavors)) or 'none'}",
        where=str(path),
        remedy=_SUPPORTED,
    )


class _MLmodel(msgspec.Struct):
    """The part of ``MLmodel`` that matters here."""

    flavors: dict[str, dict[str, Any]]
    mlflow_version: str = "unknown"
    signature: dict[str, Any] | None = None


def _inside(name: Any, path: Path) -> str:
    """A relative path that stays inside the model's folder."""
    if not isinstance(name, str) or not name or ".." in PurePosixPath(name).parts or name[0] == "/":
        raise PackagingError(
            f"{name!r} is no file of the model", where=str(path), remedy="log the model again"
        )
    return name


def _columns(signature: dict[str, Any] | None, where: str) -> tuple[Column, ...]:
    text = (signature or {}).get("inputs")
    if not text:
        return ()
    try:
        return tuple(_column(each) for each in msgspec.json.decode(text, type=list[dict[str, Any]]))
    except (ValueError, TypeError, KeyError) as error:
        raise PackagingError(
            f"cannot read its signature: {error}",
            where=where,
            remedy="log it with a signature of plain columns, or of tensors that vary only in the "
            "number of rows",
        ) from None


def _column(each: dict[str, Any]) -> Column:
    name, required = str(each.get("name", "")), bool(each.get("required", True))
    if each["type"] == "tensor":
        spec = each["tensor-spec"]
        shape = tuple(spec["shape"][1:])
        if any(size < 1 for size in shape):
            raise ValueError(f"shape {spec['shape']} of {name or 'the input'} varies within a row")
        dtype = _TYPES.get(str(spec["dtype"])) or np.dtype(spec["dtype"]).name
        return Column(name=name, dtype=dtype, shape=shape, required=required)
    if each["type"] not in _TYPES:
        raise ValueError(f"{name} is a {each['type']}")
    return Column(name=name, dtype=_TYPES[each["type"]], required=required)
