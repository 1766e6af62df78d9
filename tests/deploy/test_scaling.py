"""What autoscaling asks Prometheus for is what the server tells it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from deploy.manifests import (
    OVERLAYS,
    ROOT,
    Manifest,
    container_of,
    of_kind,
    output,
    the,
    with_component,
)
from prometheus_client import CollectorRegistry

from headgate.config import load_model_config
from headgate.serving.metrics import _PHASES, ServingMetrics

SCALED = [name for name in OVERLAYS if "production" in name]
OF_TARGETS = {"namespace", "pod", "job", "instance"}
"""Labels that Prometheus adds to whatever it reads from a pod."""


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """Labels of every series that a worker has, by its name."""
    registry = CollectorRegistry()
    ServingMetrics((), "headgate:1", registry)
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    return {
        f"{metric._name}{suffix}": set(metric._labelnames)
        | ({"le"} if suffix == "_bucket" else set())
        for metric in registry._collector_to_names
        for suffix in suffixes[metric._type]
    }


def triggers(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """Those of the autoscaler by their names."""
    return {each["name"]: each for each in the(manifests, "ScaledObject")["spec"]["triggers"]}


def series(query: str) -> list[tuple[str, dict[str, str]]]:
    """The series that a query asks for, with their labels."""
    return [
        (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)))
        for name, labels in re.findall(r"(\w+)\{([^}]*)\}", query)
    ]


@pytest.mark.parametrize("name", SCALED)
def test_queries_ask_for_series_that_there_are(name: str, told: dict[str, set[str]]) -> None:
    found = triggers(output(name))
    assert set(found) == {"requests-in-flight", "queue-time"}
    for trigger in found.values():
        query = trigger["metadata"]["query"]
        asked = series(query)
        assert {each for each, _ in asked} == set(re.findall(r"headgate_\w+", query))
        for metric, labels in asked:
            assert metric in told
            assert set(labels) - OF_TARGETS <= told[metric]
            assert labels.get("phase", "queue") in _PHASES
    (_, queued), _ = series(found["queue-time"]["metadata"]["query"])
    assert queued["phase"] == "queue"


@pytest.mark.parametrize("name", SCALED)
def test_queries_ask_for_the_pods_of_their_namespace(name: str) -> None:
    space = the(output(name), "ScaledObject")["metadata"]["namespace"]
    for trigger in triggers(output(name)).values():
        for _, labels in series(trigger["metadata"]["query"]):
            assert labels["namespace"] == space


@pytest.mark.parametrize("name", SCALED)
def test_windows_hold_several_scrapes(name: str) -> None:
    """Of two at least there is a rate; one that is lost should not matter."""
    (endpoint,) = the(output(name), "PodMonitor")["spec"]["podMetricsEndpoints"]
    interval_s = int(endpoint["interval"].removesuffix("s"))
    for trigger in triggers(output(name)).values():
        windows = re.findall(r"\[(\d+)m\]", trigger["metadata"]["query"])
        assert windows
        assert all(int(minutes) * 60 >= 4 * interval_s for minutes in windows)


@pytest.mark.parametrize("name", SCALED)
def test_no_data_is_no_reason_to_scale(name: str) -> None:
    for trigger in triggers(output(name)).values():
        assert trigger["metadata"]["ignoreNullValues"] == "false"


@pytest.mark.parametrize("name", SCALED)
def test_what_is_summed_is_divided_and_what_is_a_mean_is_not(name: str) -> None:
    kinds = {key: each["metricType"] for key, each in triggers(output(name)).items()}
    assert kinds == {"requests-in-flight": "AverageValue", "queue-time": "Value"}


@pytest.mark.parametrize("name", SCALED)
def test_it_scales_well_before_a_promise_is_broken(name: str) -> None:
    promised_ms = min(
        load_model_config(file).slo.p95_ms for file in (ROOT / "models").glob("*/model.toml")
    )
    threshold_ms = float(triggers(output(name))["queue-time"]["metadata"]["threshold"])
    assert 0 < threshold_ms <= promised_ms / 2


@pytest.mark.parametrize("name", SCALED)
def test_it_scales_what_there_is(name: str) -> None:
    spec = the(output(name), "ScaledObject")["spec"]
    the(output(name), "Deployment", spec["scaleTargetRef"]["name"])
    assert 2 <= spec["minReplicaCount"] < spec["maxReplicaCount"]


@pytest.mark.parametrize("name", [name for name in OVERLAYS if "dev" not in name])
def test_prometheus_reads_each_pod_once(name: str) -> None:
    (monitor,) = of_kind(output(name), "PodMonitor")
    assert not of_kind(output(name), "ServiceMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in {each["name"] for each in container_of(output(name))["ports"]}


def test_a_gpu_takes_no_pod_more_than_there_are_gpus(tmp_path: Path) -> None:
    manifests = with_component("components/gpu", tmp_path)
    assert container_of(manifests)["resources"]["limits"]["nvidia.com/gpu"] == 1
    update = the(manifests, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxSurge": 0, "maxUnavailable": 1}
    assert container_of(manifests)["resources"]["limits"]["cpu"] == "2"  # what the base has stays
