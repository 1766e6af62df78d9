"""The manifests as kustomize puts them together."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"

Manifest = dict[str, Any]


def _is_component(folder: Path) -> bool:
    return "\nkind: Component\n" in (folder / "kustomization.yaml").read_text()


FOLDERS = sorted(file.parent for file in KUBERNETES.rglob("kustomization.yaml"))
COMPONENTS = [str(each.relative_to(KUBERNETES)) for each in FOLDERS if _is_component(each)]
OUTPUTS = [str(each.relative_to(KUBERNETES)) for each in FOLDERS if not _is_component(each)]
OVERLAYS = [name for name in OUTPUTS if name.startswith("overlays/")]
WITH_PODS = ["base", *OVERLAYS, "kserve"]
RELEASED = ["overlays/staging", "overlays/production", "kserve"]


def kustomize(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder; the test is skipped where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here to build the manifests with")
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{folder}: {done.stderr}"
    # kustomize says what is deprecated and what had no effect, and goes on.
    assert not done.stderr, f"{folder}: {done.stderr}"
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


@functools.cache
def output(name: str) -> tuple[Manifest, ...]:
    """All objects of an output, by its path under deploy/kubernetes. Not to be changed."""
    return tuple(kustomize(KUBERNETES / name))


def with_component(name: str, folder: Path) -> list[Manifest]:
    """The base with one component; ``folder`` is an empty one to build in."""
    here = folder.resolve()
    paths = {each: os.path.relpath(KUBERNETES / each, here) for each in ("base", name)}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "headgate",
        "resources": [paths["base"]],
        "components": [paths[name]],
    }
    (here / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomize(here)


def of_kind(manifests: Iterable[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [each for each in manifests if each["kind"] == kind]


def the(manifests: Iterable[Manifest], kind: str, name: str = "headgate") -> Manifest:
    """The one of that kind and name."""
    (found,) = (each for each in of_kind(manifests, kind) if each["metadata"]["name"] == name)
    return found


def pod_of(manifests: Iterable[Manifest]) -> Manifest:
    """The specification of the pods that serve, made by us or by KServe."""
    for each in manifests:
        if each["kind"] == "Deployment":
            pod: Manifest = each["spec"]["template"]["spec"]
            return pod
        if each["kind"] == "InferenceService":
            predictor: Manifest = each["spec"]["predictor"]
            return predictor
    raise AssertionError("nothing here serves")


def container_of(manifests: Iterable[Manifest]) -> Manifest:
    """Its only container."""
    (container,) = pod_of(manifests)["containers"]
    found: Manifest = container
    return found


def amount(quantity: str | float) -> float:
    """A quantity of Kubernetes in processors or bytes.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    units = {"m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
    text = str(quantity)
    for unit, factor in units.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def seconds(duration: str) -> float:
    """A duration of the Gateway API, of one unit."""
    for unit, factor in (("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        if duration.endswith(unit):
            return float(duration.removesuffix(unit)) * factor
    raise AssertionError(f"{duration!r} has no unit")
