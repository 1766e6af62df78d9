"""A pod and the image, the settings and the server in it: one cannot change without the other."""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path

import pytest
from deploy.manifests import (
    OVERLAYS,
    RELEASED,
    ROOT,
    WITH_PODS,
    amount,
    container_of,
    of_kind,
    output,
    pod_of,
    the,
)

from headgate.config import ServerConfig, load_config
from headgate.serving.launch.standin import _ALIVE
from headgate.serving.supervisor import Timing

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LAST_STAGE = DOCKERFILE.rpartition("\nFROM ")[2]
AFTERWARDS_S = 5
"""What a server may need beyond its drain time: a worker's last second, its lifespan, the launcher."""

pods = pytest.mark.parametrize("name", WITH_PODS)


def instruction(word: str) -> str:
    """The only line of the image's last stage with that instruction."""
    (found,) = re.findall(rf"^{word} (.*)$", LAST_STAGE, re.MULTILINE)
    return str(found)


@functools.cache
def server(name: str) -> ServerConfig:
    """``[server]`` as a pod of the output reads it."""
    (config,) = of_kind(output(name), "ConfigMap")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "headgate.toml").write_text(config["data"]["headgate.toml"])
        return load_config(Path(folder)).server


def test_settings_are_those_of_the_bundle() -> None:
    ours, copied = ROOT / "headgate.toml", ROOT / "deploy/kubernetes/config/headgate.toml"
    assert ours.read_text() == copied.read_text(), f"cp {ours.name} {copied.relative_to(ROOT)}"


@pods
def test_settings_are_mounted_over_those_of_the_image(name: str) -> None:
    (config,) = of_kind(output(name), "ConfigMap")
    mounts = {each["name"]: each for each in container_of(output(name))["volumeMounts"]}
    volumes = {each["name"]: each for each in pod_of(output(name))["volumes"]}
    assert " src/headgate.toml " in instruction(r"COPY src/service\.py")
    assert instruction(r"COPY src/service\.py").endswith(f" {instruction('WORKDIR')}/")
    assert mounts["config"]["mountPath"] == f"{instruction('WORKDIR')}/headgate.toml"
    assert mounts["config"]["subPath"] in config["data"]
    assert mounts["config"]["readOnly"]
    # With the hash of its content: a change of settings starts new pods.
    assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"]
    assert re.fullmatch(r"headgate-[a-z0-9]{10}", config["metadata"]["name"])


@pods
def test_ports(name: str) -> None:
    ports = {each["name"]: each["containerPort"] for each in container_of(output(name))["ports"]}
    assert ports == {"http": server(name).port, "grpc": server(name).grpc}
    assert list(ports.values()) == [int(port) for port in instruction("EXPOSE").split()]


@pods
def test_nothing_sets_the_ports_unasked(name: str) -> None:
    """A Service named headgate would, as tcp://…, in every pod of its namespace."""
    assert pod_of(output(name))["enableServiceLinks"] is False


@pods
def test_user(name: str) -> None:
    user, _, group = instruction("USER").partition(":")
    context = pod_of(output(name))["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))


@pods
def test_rights_are_those_of_the_restricted_pod_security_standard(name: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and no token."""
    pod, container = pod_of(output(name)), container_of(output(name))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert {next(iter(set(each) - {"name"})) for each in pod["volumes"]} <= {
        "emptyDir",
        "configMap",
    }
    assert pod["automountServiceAccountToken"] is False
    account = the(output(name), "ServiceAccount", pod["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False
    assert not of_kind(output(name), "RoleBinding")


@pods
def test_only_tmp_can_be_written(name: str) -> None:
    assert "HOME=/tmp" in LAST_STAGE
    writable = [
        each for each in container_of(output(name))["volumeMounts"] if not each.get("readOnly")
    ]
    assert [each["mountPath"] for each in writable] == ["/tmp"]
    (volume,) = (
        each for each in pod_of(output(name))["volumes"] if each["name"] == writable[0]["name"]
    )
    assert volume["emptyDir"]["medium"] == "Memory"
    limit = amount(container_of(output(name))["resources"]["limits"]["memory"])
    assert 0 < amount(volume["emptyDir"]["sizeLimit"]) < limit / 2


@pods
def test_probes_ask_what_they_mean(name: str) -> None:
    container = container_of(output(name))
    paths = {
        probe: container[f"{probe}Probe"]["httpGet"]["path"]
        for probe in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    # While no worker can answer, the launcher says that it lives, and not that it is ready.
    assert paths["liveness"].encode() in _ALIVE
    assert paths["readiness"].encode() not in _ALIVE
    for probe in paths:
        assert container[f"{probe}Probe"]["httpGet"]["port"] == "http"


@pods
def test_probes_are_as_patient_as_the_server(name: str) -> None:
    container = container_of(output(name))
    patience_s = {
        probe: container[f"{probe}Probe"]["periodSeconds"]
        * container[f"{probe}Probe"]["failureThreshold"]
        for probe in ("startup", "liveness")
    }
    # It gives up by itself, and says why: only then may the cluster.
    assert patience_s["startup"] > server(name).ready_timeout_s
    # It replaces a worker that hangs: a restart of the whole would lose the others' requests.
    assert patience_s["liveness"] > 2 * Timing().hung_s
    for each in of_kind(output(name), "Deployment"):
        assert each["spec"]["progressDeadlineSeconds"] > patience_s["startup"]


@pods
def test_a_pod_has_the_time_to_answer_what_is_open(name: str) -> None:
    program, pause_s = container_of(output(name))["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert float(pause_s) >= 5  # until endpoints and proxies have heard
    grace_s = pod_of(output(name))["terminationGracePeriodSeconds"]
    assert grace_s >= float(pause_s) + server(name).drain_s + AFTERWARDS_S


@pytest.mark.parametrize("name", RELEASED)
def test_processors_are_enough_for_the_threads(name: str) -> None:
    threads = server(name).workers * server(name).threads
    resources = container_of(output(name))["resources"]
    assert amount(resources["requests"]["cpu"]) >= threads
    assert amount(resources["limits"]["cpu"]) > threads  # and the launcher
    assert amount(resources["requests"]["memory"]) <= amount(resources["limits"]["memory"])


@pytest.mark.parametrize("name", RELEASED)
def test_a_release_is_named_by_its_digest(name: str) -> None:
    assert re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", container_of(output(name))["image"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_differ_in_nothing_that_the_server_relies_on(name: str) -> None:
    """Resources and image aside, it is one pod in all of them."""

    def rest(of: str) -> object:
        container = {**container_of(output(of)), "image": "", "resources": {}}
        return {**pod_of(output(of)), "containers": [container]}

    assert rest(name) == rest("base")


def test_kserve_runs_the_same_pod() -> None:
    ours, theirs = dict(container_of(output("base"))), dict(container_of(output("kserve")))
    assert theirs["name"] == "kserve-container"  # by which KServe knows it
    for each in (ours, theirs):
        del each["name"], each["image"]
        each["ports"] = [(port["name"], port["containerPort"]) for port in each["ports"]]
    assert theirs == ours
    pod = pod_of(output("kserve"))
    for key, value in pod_of(output("base")).items():
        if key not in ("containers", "topologySpreadConstraints"):
            assert pod[key] == value, key


def test_production_has_more_pods_than_may_leave_at_once() -> None:
    manifests = output("overlays/production")
    least = the(manifests, "ScaledObject")["spec"]["minReplicaCount"]
    assert least > the(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"]
    # A number of replicas would take from KEDA what it has set.
    assert "replicas" not in the(manifests, "Deployment")["spec"]
