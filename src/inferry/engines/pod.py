"""An engine's command as a Kubernetes pod: plain data, and its YAML. What Kubernetes wants is in its API reference, v1."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import yaml

from inferry.core.launch import KEY_MARK
from inferry.engines.container import FILES_FOLDER, HUB_TOKEN, MODEL_FOLDER, ContainerPlan, has_key_in_files
from inferry.engines.shell_text import KEY_NAME

Data = dict[str, Any]

STARTUP_PERIOD_S = 5
LIVENESS_PERIOD_S = 10
LIVENESS_FAILURES = 12
"""Two minutes without an answer: an engine under full load may be slow, and killing it makes that worse."""


@dataclass(frozen=True, slots=True)
class PodProbes:
    """How Kubernetes asks the engine for its health."""

    path: str
    start_budget_s: float
    """From the start of the process to its first good answer; loading big models takes long."""
    interval_s: float
    timeout_s: float
    failures_max: int
    """So many failed probes in a row, and the pod gets no requests."""


def secrets_name(plan: ContainerPlan) -> str:
    """The Secret that the pod takes its values from; somebody has to make it."""
    return f"{dns_label(plan.name)}-secrets"


def secret_keys(plan: ContainerPlan) -> list[str]:
    """What must stand in that Secret."""
    key = [KEY_NAME] if plan.command.secret_env or has_key_in_files(plan.command) else []
    from_outside = plan.hidden_env - set(plan.command.secret_env)
    return key + [name for name in plan.command.env if name in from_outside]


def secret_recipe(plan: ContainerPlan) -> str:
    """The command that makes the Secret with a new key; values come from files, since arguments can be read by all."""
    new_key, kubectl = "", f"kubectl create secret generic {secrets_name(plan)}"
    for name in secret_keys(plan):
        if name == KEY_NAME:
            new_key = "openssl rand -hex 32 | tr -d '\\n' | "
        kubectl += f" --from-file={name}={'/dev/stdin' if name == KEY_NAME else f'FILE_WITH_{name}'}"
    return new_key + kubectl


def pod_yaml(plan: ContainerPlan, probes: PodProbes, claim: str | None = None) -> str:
    """The pod as YAML; the same plan always gives the same text."""
    data = pod(plan, probes, claim)
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text


def pod(plan: ContainerPlan, probes: PodProbes, claim: str | None = None) -> Data:
    """A pod of one replica. `claim`: the PersistentVolumeClaim with the model; None: the path on the node."""
    name = dns_label(plan.name)
    spec: Data = {
        "terminationGracePeriodSeconds": math.ceil(plan.stop_grace_s),
        "automountServiceAccountToken": False,
        # A Service called `vllm` would otherwise set VLLM_PORT, which vLLM takes for its own.
        "enableServiceLinks": False,
    }
    if plan.command.files:
        spec["initContainers"] = [_files_container(plan)]
    spec["containers"] = [pod_container(plan, probes, claim)]
    if volumes := _volumes(plan, claim):
        spec["volumes"] = volumes
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "engine"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def pod_container(plan: ContainerPlan, probes: PodProbes, claim: str | None = None) -> Data:
    """The engine's container, for a pod of any kind; its volumes are called as in `pod`."""
    container: Data = {
        "name": "engine",
        "image": plan.needs.image,
        "command": [_literal(word) for word in plan.needs.entrypoint],
        "args": [_literal(word) for word in plan.command.args],
        "ports": [{"name": "http", "containerPort": plan.port}],
    }
    if env := _env(plan):
        container["env"] = env
    if plan.gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": plan.gpus}}
    if mounts := _volume_mounts(plan, claim):
        container["volumeMounts"] = mounts
    container |= _probes(probes)
    container["securityContext"] = _security(plan)
    return container


def dns_label(name: str) -> str:
    """A deployment's name as Kubernetes wants names: letters, digits and `-`, 63 at most."""
    return re.sub(r"[^a-z0-9-]", "-", name.lower())[:63].strip("-")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are, between `|` and the next key."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _env(plan: ContainerPlan) -> list[Data]:
    env: list[Data] = [{"name": name, "value": _literal(value)} for name, value in plan.shown_env.items()]
    for name in plan.passed_env:
        key = KEY_NAME if name in plan.command.secret_env else name
        # The hub's token is only for models that are not public.
        optional = name == HUB_TOKEN and name not in plan.command.env
        env.append(_from_secret(name, plan, key, optional=optional))
    return env


def _from_secret(name: str, plan: ContainerPlan, key: str, *, optional: bool = False) -> Data:
    reference: Data = {"name": secrets_name(plan), "key": key}
    if optional:
        reference["optional"] = True
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def _files_container(plan: ContainerPlan) -> Data:
    """Writes the command's files before the engine starts; the key in them comes from the Secret, by expansion."""
    env: list[Data] = []
    if has_key_in_files(plan.command):
        env.append(_from_secret(KEY_NAME, plan, KEY_NAME))
    writes = ["umask 077"]
    for number, (name, content) in enumerate(plan.command.files.items()):
        variable = f"FILE_{number}"
        env.append({"name": variable, "value": _literal(content).replace(KEY_MARK, f"$({KEY_NAME})")})
        writes.append(f"printf %s \"${variable}\" > '{FILES_FOLDER}/{name}'")
    return {
        "name": "files",
        "image": plan.needs.image,
        # Kubernetes takes `$$` for a `$`.
        "command": ["sh", "-c", _literal("\n".join(writes))],
        "env": env,
        "volumeMounts": [{"name": "files", "mountPath": FILES_FOLDER}],
        "securityContext": _security(plan),
    }


def _literal(text: str) -> str:
    """Kubernetes expands `$(NAME)` in commands, arguments and values; a doubled `$` stands for itself."""
    return text.replace("$", "$$")


def _security(plan: ContainerPlan) -> Data:
    security: Data = {"allowPrivilegeEscalation": False}
    if plan.user is not None:
        user, _, group = plan.user.partition(":")
        security["runAsUser"] = int(user)
        if group:
            security["runAsGroup"] = int(group)
    return security


def _probes(probes: PodProbes) -> Data:
    get = {"path": probes.path, "port": "http"}
    timeout_s = max(1, math.ceil(probes.timeout_s))
    return {
        "startupProbe": {
            "httpGet": get.copy(),
            "periodSeconds": STARTUP_PERIOD_S,
            "timeoutSeconds": timeout_s,
            "failureThreshold": max(1, math.ceil(probes.start_budget_s / STARTUP_PERIOD_S)),
        },
        "readinessProbe": {
            "httpGet": get.copy(),
            "periodSeconds": max(1, math.ceil(probes.interval_s)),
            "timeoutSeconds": timeout_s,
            "failureThreshold": probes.failures_max,
        },
        "livenessProbe": {
            "httpGet": get.copy(),
            "periodSeconds": LIVENESS_PERIOD_S,
            "timeoutSeconds": max(LIVENESS_PERIOD_S, timeout_s),
            "failureThreshold": LIVENESS_FAILURES,
        },
    }


def _volume_mounts(plan: ContainerPlan, claim: str | None) -> list[Data]:
    mounts: list[Data] = []
    if (model := plan.model.mount) is not None:
        mounts.append({"name": "model", "mountPath": model.inside, "readOnly": True})
        if claim is not None and model.inside != MODEL_FOLDER:
            mounts[0]["subPath"] = model.outside.name  # a claim is a folder, and this model one file in it
    for number, path in enumerate(plan.other_mounts):
        mounts.append({"name": f"other-{number}", "mountPath": str(path), "readOnly": True})
    if plan.command.files:
        mounts.append({"name": "files", "mountPath": FILES_FOLDER, "readOnly": True})
    if plan.needs.cache_folder is not None:
        mounts.append({"name": "cache", "mountPath": plan.needs.cache_folder})
    if plan.needs.shared_memory_bytes is not None:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    return mounts


def _volumes(plan: ContainerPlan, claim: str | None) -> list[Data]:
    volumes: list[Data] = []
    if plan.model.mount is not None:
        source: Data = {"hostPath": {"path": str(plan.model.mount.outside)}}
        if claim is not None:
            source = {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        volumes.append({"name": "model", **source})
    for number, path in enumerate(plan.other_mounts):
        volumes.append({"name": f"other-{number}", "hostPath": {"path": str(path)}})
    if plan.command.files:
        volumes.append({"name": "files", "emptyDir": {"medium": "Memory"}})
    if plan.needs.cache_folder is not None:
        volumes.append({"name": "cache", "emptyDir": {}})
    if plan.needs.shared_memory_bytes is not None:
        size = _quantity(plan.needs.shared_memory_bytes)
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    return volumes


def _quantity(size_bytes: int) -> str:
    """As Kubernetes writes sizes: `8Gi`."""
    for unit, factor in (("Gi", 1024**3), ("Mi", 1024**2), ("Ki", 1024)):
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)
