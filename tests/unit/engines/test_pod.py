"""An engine's pod, without Kubernetes: what its fields say, and that the YAML is the same data."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferry.engines.container import mounted_model
from inferry.engines.pod import dns_label, pod, pod_yaml, secret_keys, secret_recipe, secrets_name

from .container_plans import CONFIG, FROM_HUB, FULL, PLAIN, PROBES
from .golden_files import assert_golden


def expanded(text: str, **known: str) -> str:
    """As the kubelet expands `$(NAME)` and `$$`: third_party/forked/golang/expansion in its source."""
    return re.sub(
        r"\$(\$|\((\w+)\))",
        lambda found: "$" if found[1] == "$" else known.get(found[2], found[0]),
        text,
    )


def engine(data: dict[str, Any]) -> Any:
    [container] = data["spec"]["containers"]
    return container


def test_command_and_arguments_arrive_unchanged() -> None:
    """After Kubernetes' own expansion the container runs exactly entrypoint and arguments."""
    container = engine(pod(FULL, PROBES))
    assert tuple(map(expanded, (*container["command"], *container["args"]))) == FULL.inside


def test_secrets_are_references() -> None:
    """Keys and hidden variables come from a Secret; no value is in the manifest."""
    env = {each["name"]: each for each in engine(pod(FULL, PROBES))["env"]}
    key = env["ENGINE_API_KEY"]["valueFrom"]["secretKeyRef"]
    assert key == {"name": "chat-secrets", "key": "INFERRY_ENGINE_KEY"}
    assert env["REGISTRY_TOKEN"]["valueFrom"]["secretKeyRef"]["key"] == "REGISTRY_TOKEN"
    assert expanded(env["LEVEL"]["value"]) == "a b$"
    assert "t0ken-of-the-file" not in pod_yaml(FULL, PROBES)
    assert secrets_name(FULL) == "chat-secrets"
    assert secret_keys(FULL) == ["INFERRY_ENGINE_KEY", "REGISTRY_TOKEN"]
    assert secret_keys(PLAIN) == []


def test_how_the_secret_is_made() -> None:
    """By a command that has no value among its arguments: a new key from a pipe, others from files."""
    assert secret_recipe(FULL) == (
        "openssl rand -hex 32 | tr -d '\\n' | kubectl create secret generic chat-secrets"
        " --from-file=INFERRY_ENGINE_KEY=/dev/stdin --from-file=REGISTRY_TOKEN=FILE_WITH_REGISTRY_TOKEN"
    )
    keyless = replace(FULL, command=replace(FULL.command, secret_env=(), files={}))
    assert secret_recipe(keyless) == (
        "kubectl create secret generic chat-secrets --from-file=REGISTRY_TOKEN=FILE_WITH_REGISTRY_TOKEN"
    )


def test_files_are_written_before_the_engine_starts() -> None:
    """The first container writes the adapter's files, the key put in by Kubernetes, and the engine can only read."""
    data = pod(FULL, PROBES)
    [writer] = data["spec"]["initContainers"]
    values = {each["name"]: each.get("value") for each in writer["env"]}
    key = "k3y"
    assert expanded(values["FILE_0"], INFERRY_ENGINE_KEY=key) == CONFIG.replace("@INFERRY_ENGINE_KEY@", key)
    assert "printf %s \"$FILE_0\" > '/inferry/config.yaml'" in expanded(writer["command"][2])
    [mount] = [each for each in engine(data)["volumeMounts"] if each["name"] == "files"]
    assert mount["readOnly"] is True


def test_gpus_and_shared_memory() -> None:
    """GPUs are a limit, counted by Kubernetes itself, and shared memory is a volume of its size."""
    data = pod(FULL, PROBES)
    assert engine(data)["resources"] == {"limits": {"nvidia.com/gpu": 2}}
    assert "CUDA_VISIBLE_DEVICES" not in str(data)
    volumes = {each["name"]: each for each in data["spec"]["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    assert "resources" not in engine(pod(PLAIN, PROBES))


def test_probes_give_loading_its_time_and_load_its_patience() -> None:
    """The start may take the deployment's budget; a slow answer takes traffic away soon and the pod away late."""
    container = engine(pod(PLAIN, PROBES))
    start, ready, alive = (container[f"{each}Probe"] for each in ("startup", "readiness", "liveness"))
    assert {each["httpGet"]["path"] for each in (start, ready, alive)} == {"/health"}
    assert {each["httpGet"]["port"] for each in (start, ready, alive)} == {"http"}
    assert start["periodSeconds"] * start["failureThreshold"] >= 601
    assert ready["periodSeconds"] * ready["failureThreshold"] == 6
    assert alive["periodSeconds"] * alive["failureThreshold"] == 120
    assert container["ports"] == [{"name": "http", "containerPort": 8001}]


def test_a_services_variables_stay_out() -> None:
    """No VLLM_PORT and the like from Services of that name, no token of the cluster's, and time to stop."""
    spec = pod(FULL, PROBES)["spec"]
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] == 31
    assert engine(pod(FULL, PROBES))["securityContext"] == {
        "allowPrivilegeEscalation": False, "runAsUser": 1000, "runAsGroup": 1000
    }  # fmt: skip


def test_the_model_comes_from_the_node_or_a_claim() -> None:
    """A path on the node by default; a claim when it is named, of which one file is taken where the model is one."""
    plan = replace(PLAIN, model=mounted_model(Path("/srv/models/a.gguf")))
    on_node, claimed = pod(plan, PROBES), pod(plan, PROBES, claim="models")
    assert on_node["spec"]["volumes"] == [{"name": "model", "hostPath": {"path": "/srv/models/a.gguf"}}]
    assert claimed["spec"]["volumes"] == [
        {"name": "model", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    ]
    [mount] = engine(claimed)["volumeMounts"]
    assert mount == {"name": "model", "mountPath": "/model/a.gguf", "readOnly": True, "subPath": "a.gguf"}
    assert "subPath" not in engine(on_node)["volumeMounts"][0]


def test_a_model_of_the_hub_needs_no_volume() -> None:
    """The engine fetches it; a token is taken from the Secret if it is there."""
    data = pod(FROM_HUB, PROBES)
    assert "volumes" not in data["spec"]
    [token] = engine(data)["env"]
    assert token["valueFrom"]["secretKeyRef"]["optional"] is True


def test_every_mount_has_its_volume() -> None:
    """No mount without a volume, no volume without a mount."""
    data = pod(FULL, PROBES)
    mounted = {each["name"] for each in engine(data)["volumeMounts"]}
    assert mounted == {each["name"] for each in data["spec"]["volumes"]}


def test_the_yaml_is_the_data_and_always_the_same() -> None:
    """Read back, the YAML is the pod; written twice, it is one text."""
    for plan in (PLAIN, FULL, FROM_HUB):
        text = pod_yaml(plan, PROBES)
        assert yaml.safe_load(text) == pod(plan, PROBES)
        assert text == pod_yaml(plan, PROBES)


@pytest.mark.parametrize(
    ("name", "label"), [("chat", "chat"), ("qwen3.5_a", "qwen3-5-a"), ("a" * 70, "a" * 63), ("x.", "x")]
)
def test_names_that_kubernetes_takes(name: str, label: str) -> None:
    """A deployment's name becomes a DNS label."""
    assert dns_label(name) == label


def test_golden_pods() -> None:
    """The manifests are what they were."""
    assert_golden("pod-plain.yaml", pod_yaml(PLAIN, PROBES))
    assert_golden("pod-full.yaml", pod_yaml(FULL, PROBES))
