"""Every object is one that the API server takes, and what it would not take is noticed."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from deploy.crds import problems, strict
from deploy.manifests import COMPONENTS, OUTPUTS, Manifest, output, the, with_component
from jsonschema import Draft4Validator

VERSIONS = ["1.29", "1.37"]
CORE = {"", "apps", "networking.k8s.io", "policy"}


def is_core(manifest: Manifest) -> bool:
    group, _, version = manifest["apiVersion"].rpartition("/")
    return group in CORE and bool(version)


def check_core(manifests: Iterable[Manifest], version: str) -> int:
    """Raise for the first that is wrong; the number of those that were looked at."""
    core = [each for each in manifests if is_core(each)]
    for each in core:
        # It takes an older schema where it has none of that version.
        assert kubernetes_validate.validate(each, version, strict=True) == version
    return len(core)


def check_custom(manifests: Iterable[Manifest]) -> None:
    for each in manifests:
        if not is_core(each):
            assert problems(each) == [], f"{each['kind']} {each['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OUTPUTS)
def test_core_kinds(name: str, version: str) -> None:
    assert check_core(output(name), version) >= 1


@pytest.mark.parametrize("name", OUTPUTS)
def test_custom_kinds(name: str) -> None:
    check_custom(output(name))


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_component_by_itself(name: str, tmp_path: Path) -> None:
    manifests = with_component(name, tmp_path)
    assert manifests != list(output("base"))
    for version in VERSIONS:
        assert check_core(manifests, version) >= 6
    check_custom(manifests)


def set_at(manifest: Manifest, path: str, value: Any) -> Manifest:
    """A copy with something else at a path of keys and indices."""
    changed = copy.deepcopy(manifest)
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    place: Any = changed
    for step in steps:
        place = place[step]
    place[last] = value
    return changed


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", "spec.template.spec.containers.0.imagePolicy", "Always"),
        ("Deployment", "spec.template.spec.terminationGracePeriodSeconds", "40s"),
        ("Deployment", "spec.template.spec.containers.0.ports.0.containerPort", "http"),
        ("NetworkPolicy", "spec.policyTypes", "Ingress"),
        ("PodDisruptionBudget", "spec.maxUnavailble", 1),
    ],
)
def test_a_wrong_core_kind_is_noticed(kind: str, path: str, value: Any, version: str) -> None:
    name = "headgate-default-deny" if kind == "NetworkPolicy" else "headgate"
    wrong = set_at(the(output("overlays/production"), kind, name), path, value)
    with pytest.raises(kubernetes_validate.ValidationError):
        check_core([wrong], version)


@pytest.mark.parametrize(
    ("folder", "kind", "path", "value"),
    [
        ("overlays/production", "HTTPRoute", "spec.rules.0.backendRef", []),
        ("overlays/production", "HTTPRoute", "spec.rules.0.backendRefs.0.weight", "100"),
        ("overlays/production", "HTTPRoute", "spec.rules.0.timeouts.request", "soon"),
        ("overlays/production", "Gateway", "spec.listeners.0.tls.certificateRefs.0", {}),
        ("overlays/production", "ClientTrafficPolicy", "spec.connection.connectionLimit.value", 0),
        ("overlays/production", "ScaledObject", "spec.triggers.0.metricsType", "Value"),
        ("overlays/production", "ScaledObject", "spec.minReplicaCount", "three"),
        ("overlays/production", "PodMonitor", "spec.podMetricsEndpoints.0.interval", 15),
        ("kserve", "InferenceService", "spec.predictor.containers.0.probes", {}),
        ("kserve", "InferenceService", "spec.predictor.minReplicas", "2"),
    ],
)
def test_a_wrong_custom_kind_is_noticed(folder: str, kind: str, path: str, value: Any) -> None:
    right = the(output(folder), kind)
    assert problems(right) == []
    assert problems(set_at(right, path, value)) != []


def test_schemas_are_closed_but_where_they_say_so() -> None:
    schema = strict(
        {
            "type": "object",
            "properties": {
                "port": {
                    "anyOf": [{"type": "integer"}, {"type": "string"}],
                    "x-kubernetes-int-or-string": True,
                },
                "open": {
                    "type": "object",
                    "properties": {},
                    "x-kubernetes-preserve-unknown-fields": True,
                },
                "words": {"type": "object", "additionalProperties": {"type": "string"}},
                "none": {"type": "string", "nullable": True, "enum": ["a"]},
                "whole": {
                    "type": "object",
                    "properties": {"spec": {"type": "object"}},
                    "x-kubernetes-embedded-resource": True,
                },
                "above": {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
            },
        }
    )
    says = Draft4Validator(schema)
    fine = {
        "port": 1,
        "open": {"any": 1},
        "words": {"a": "b"},
        "none": None,
        "whole": {"kind": "K", "spec": {}},
        "above": 2,
    }
    assert not list(says.iter_errors(fine))
    wrong = [
        ("port", 1.5),
        ("words", {"a": 1}),
        ("none", "b"),
        ("whole", {"x": 1}),
        ("above", 1),
        ("y", 1),
    ]
    for name, value in wrong:
        assert list(says.iter_errors({**fine, name: value})), name
