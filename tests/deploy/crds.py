"""Holds custom resources to the schemas that their projects publish."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.manifests import Manifest
from jsonschema import Draft4Validator

SETTING = "HEADGATE_CRDS"
"""Names the folder of CustomResourceDefinitions."""


def problems(manifest: Manifest) -> list[str]:
    """What the schema of its kind says against it; the test is skipped where no schemas are.

    Not what CEL rules (``x-kubernetes-validations``) say: those run in a cluster alone.
    """
    folder = os.environ.get(SETTING)
    if not folder:
        pytest.skip(f"{SETTING} names no folder of CRDs to hold custom resources to")
    group, _, version = manifest["apiVersion"].partition("/")
    validator = _validator(Path(folder), group, version, manifest["kind"])
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator.iter_errors(manifest)
    ]


@functools.cache
def _validator(folder: Path, group: str, version: str, kind: str) -> Draft4Validator:
    # OpenAPI 3.0 has draft 4's `exclusiveMinimum: true`.
    return Draft4Validator(strict(_published(folder, group, version, kind)))


def _published(folder: Path, group: str, version: str, kind: str) -> dict[str, Any]:
    for file in sorted(folder.rglob("*.y*ml")):
        text = file.read_text()
        if f"group: {group}\n" not in text or f"    kind: {kind}\n" not in text:
            continue  # some of them take a second to parse
        for crd in yaml.load_all(text, Loader=yaml.CSafeLoader):
            if not crd or (crd["spec"]["group"], crd["spec"]["names"]["kind"]) != (group, kind):
                continue
            for each in crd["spec"]["versions"]:
                if each["name"] == version and each["served"]:
                    schema: dict[str, Any] = each["schema"]["openAPIV3Schema"]
                    return schema
    raise AssertionError(f"{folder} has no CRD of {group}/{version} {kind}")


def strict(schema: dict[str, Any], *, closed: bool = True) -> dict[str, Any]:
    """A structural schema as JSON schema, in which an unknown field is an error.

    The API server drops unknown fields, or refuses them where the client asks it to, as kubectl does.
    ``closed=False`` for the parts of ``anyOf`` and the like, which say nothing of other fields.
    """
    made = {
        key: _within(key, value, closed)
        for key, value in schema.items()
        if key != "nullable" and not key.startswith("x-kubernetes-")
    }
    if closed and "properties" in schema and "additionalProperties" not in schema:
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if schema.get("x-kubernetes-embedded-resource"):
        for name in ("apiVersion", "kind", "metadata"):
            made.setdefault("properties", {}).setdefault(name, {})
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") else made


def _within(key: str, value: Any, closed: bool) -> Any:
    """What a key of a schema holds, with the schemas in it made strict."""
    if key == "properties":
        return {name: strict(each, closed=closed) for name, each in value.items()}
    if key in ("allOf", "anyOf", "oneOf"):
        return [strict(each, closed=False) for each in value]
    if key == "not":
        return strict(value, closed=False)
    if key in ("items", "additionalProperties") and isinstance(value, dict):
        return strict(value, closed=closed)
    return value
