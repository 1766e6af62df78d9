"""Who reaches the pods, on which ports, and for how long: held to the server and to each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from deploy.manifests import (
    OVERLAYS,
    ROOT,
    Manifest,
    container_of,
    of_kind,
    output,
    seconds,
    the,
)

from headgate.config import ServingConfig
from headgate.serving.bundle import _TAKEN
from headgate.serving.launcher import KEEP_ALIVE_S

GATED = ["overlays/staging", "overlays/production"]
ours = pytest.mark.parametrize("name", ["base", *OVERLAYS])
gated = pytest.mark.parametrize("name", GATED)


def labels_of_pods(name: str) -> dict[str, str]:
    labels: dict[str, str] = the(output(name), "Deployment")["spec"]["template"]["metadata"][
        "labels"
    ]
    return labels


def selectors(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Every place that picks pods by their labels."""
    for each in manifests:
        spec, kind = each.get("spec", {}), each["kind"]
        if kind == "Service":
            yield kind, spec["selector"]
        elif kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
            yield kind, spec["selector"]["matchLabels"]
        elif kind == "NetworkPolicy":
            yield kind, spec["podSelector"]["matchLabels"]
    for spread in the(manifests, "Deployment")["spec"]["template"]["spec"][
        "topologySpreadConstraints"
    ]:
        yield "spread", spread["labelSelector"]["matchLabels"]


@ours
def test_all_pick_the_same_pods(name: str) -> None:
    found = dict(selectors(output(name)))
    assert {"Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy", "spread"} <= set(found)
    for kind, labels in selectors(output(name)):
        assert labels, kind
        assert labels.items() <= labels_of_pods(name).items(), kind


@ours
def test_services_lead_to_the_ports_of_the_pods(name: str) -> None:
    ports = {each["name"]: each["containerPort"] for each in container_of(output(name))["ports"]}
    services = of_kind(output(name), "Service")
    assert [each["metadata"]["name"] for each in services] == ["headgate-canary", "headgate-stable"]
    for service in services:
        assert {each["targetPort"]: each["port"] for each in service["spec"]["ports"]} == ports
        assert {each["name"]: each["appProtocol"] for each in service["spec"]["ports"]} == {
            "http": "http",
            "grpc": "kubernetes.io/h2c",
        }


@ours
def test_everything_is_denied_that_no_policy_allows(name: str) -> None:
    policies = of_kind(output(name), "NetworkPolicy")
    deny = the(policies, "NetworkPolicy", "headgate-default-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    ports = {each["name"] for each in container_of(output(name))["ports"]}
    for policy in policies:
        assert "egress" not in policy["spec"]
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"]
            assert {each["port"] for each in rule["ports"]} <= ports
            assert rule["ports"]


@ours
def test_the_namespace_is_one(name: str) -> None:
    spaces = {each["metadata"].get("namespace") for each in output(name)}
    assert len(spaces) == 1
    assert (None in spaces) == (name == "base")


def routes(name: str) -> list[Manifest]:
    return of_kind(output(name), "HTTPRoute") + of_kind(output(name), "GRPCRoute")


@gated
def test_routes_name_services_that_there_are(name: str) -> None:
    protocols = {"HTTPRoute": "http", "GRPCRoute": "grpc"}
    assert {each["kind"] for each in routes(name)} == set(protocols)
    for route in routes(name):
        for rule in route["spec"]["rules"]:
            weights = {each["name"]: each["weight"] for each in rule["backendRefs"]}
            assert weights == {"headgate-stable": 100, "headgate-canary": 0}
            for backend in rule["backendRefs"]:
                service = the(output(name), "Service", backend["name"])
                named = {each["port"]: each["name"] for each in service["spec"]["ports"]}
                assert named[backend["port"]] == protocols[route["kind"]]


@gated
def test_routes_come_by_listeners_of_their_own(name: str) -> None:
    """An HTTPRoute and a GRPCRoute on one host would shut each other out."""
    gateway = the(output(name), "Gateway")
    listeners = {each["name"]: each for each in gateway["spec"]["listeners"]}
    assert len({each["hostname"] for each in listeners.values()}) == len(listeners) == 2
    for route in routes(name):
        (parent,) = route["spec"]["parentRefs"]
        assert parent["name"] == gateway["metadata"]["name"]
        kinds = listeners[parent["sectionName"]]["allowedRoutes"]["kinds"]
        assert kinds == [{"kind": route["kind"]}]
        assert "hostnames" not in route["spec"]


@gated
def test_only_what_clients_call_is_reached_from_outside(name: str) -> None:
    (route,) = of_kind(output(name), "HTTPRoute")
    paths = {
        match["path"]["value"]: rule["timeouts"]["request"]
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
    }
    assert {path.removeprefix("/") for path in paths} <= _TAKEN
    assert not {"/", "/metrics", "/livez", "/readyz", "/healthz"} & set(paths)
    unbounded = [path for path, limit in paths.items() if seconds(limit) == 0]
    assert unbounded == ["/ws"]  # one stays open
    longest_s = ServingConfig().deadline_ms / 1000
    assert all(seconds(limit) > 2 * longest_s for path, limit in paths.items() if path != "/ws")


@gated
def test_grpc_services_are_those_of_the_server(name: str) -> None:
    protos = [file.read_text() for file in (ROOT / "headgate/serving/grpc/protos").glob("*.proto")]
    known = {
        f"{package}.{service}"
        for text in protos
        for package in re.findall(r"^package ([\w.]+);", text, re.MULTILINE)
        for service in re.findall(r"^service (\w+)", text, re.MULTILINE)
    }
    (route,) = of_kind(output(name), "GRPCRoute")
    asked = {match["method"]["service"] for match in route["spec"]["rules"][0]["matches"]}
    assert "inference.GRPCInferenceService" in asked
    assert asked <= known


@gated
def test_policies_are_of_what_is_there(name: str) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in output(name)}
    policies = of_kind(output(name), "BackendTrafficPolicy")
    policies += of_kind(output(name), "ClientTrafficPolicy")
    aimed = {
        (target["kind"], target["name"])
        for policy in policies
        for target in policy["spec"]["targetRefs"]
    }
    assert aimed == {(kind, "headgate") for kind in ("HTTPRoute", "GRPCRoute", "Gateway")}
    assert aimed <= there


@gated
def test_the_proxy_lets_go_of_a_connection_before_the_server_does(name: str) -> None:
    for policy in of_kind(output(name), "BackendTrafficPolicy"):
        idle_s = seconds(policy["spec"]["timeout"]["http"]["connectionIdleTimeout"])
        assert idle_s + 5 < KEEP_ALIVE_S


@gated
def test_retries_are_few_and_ask_nobody_who_said_to_wait(name: str) -> None:
    for policy in of_kind(output(name), "BackendTrafficPolicy"):
        retry, breaker = policy["spec"]["retry"], policy["spec"]["circuitBreaker"]
        assert retry["numRetries"] == 1
        assert breaker["maxParallelRetries"] * 10 <= breaker["maxParallelRequests"]
        assert 429 not in retry["retryOn"].get("httpStatusCodes", [])
        assert not {"retriable-4xx", "resource-exhausted", "5xx"} & set(
            retry["retryOn"]["triggers"]
        )


def test_kserve_waits_as_long_as_the_gateway() -> None:
    (route,) = of_kind(output("overlays/production"), "HTTPRoute")
    limit = route["spec"]["rules"][0]["timeouts"]["request"]
    predictor = the(output("kserve"), "InferenceService")["spec"]["predictor"]
    assert predictor["timeout"] == seconds(limit)


def test_hosts_differ() -> None:
    hosts = [
        sorted(each["hostname"] for each in the(output(name), "Gateway")["spec"]["listeners"])
        for name in GATED
    ]
    assert all(not set(one) & set(other) for one, other in pairwise(hosts))
