"""The toy scheduler: a node with the wanted labels, tolerated taints and free GPUs, or the reason why none."""

from __future__ import annotations

import copy

from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.schemas import quantity
from tests.standins.kubernetes.store import Store, now

GPU = "nvidia.com/gpu"
_NODE_INFO = (
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
)


def node(name: str, gpus: int, labels: dict[str, str] | None = None) -> Json:
    """A node with that many GPUs; a node with GPUs has the taint that GPU nodes usually have."""
    amounts = {"cpu": "16", "memory": "64Gi", "pods": "110"}
    if gpus:
        amounts[GPU] = str(gpus)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [_ready("True")],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "nodeInfo": dict.fromkeys(_NODE_INFO, "standin") | {"kubeletVersion": "v1.37.0-standin"},
        },
    }


def _ready(status: str) -> Json:
    reason = "KubeletReady" if status == "True" else "NodeStatusUnknown"
    return {"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": now()}


def set_node(store: Store, name: str, ready: bool) -> None:
    """The node's kubelet is heard of, or no more."""
    kind = store.kinds.named("nodes")
    thing = copy.deepcopy(store.get(kind, "", name))
    thing["status"]["conditions"] = [_ready("True" if ready else "Unknown")]
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    spec = {key: value for key, value in thing["spec"].items() if key != "taints"}
    store.touch(kind, "", name, status=thing["status"], spec=spec if ready else {**spec, "taints": [taint]})


def is_up(thing: Json) -> bool:
    """Whether a node is ready."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in thing["status"]["conditions"])


def wanted_of(pod: Json, resource: str) -> float:
    """What its containers ask of a resource."""
    total = 0.0
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        asked = (resources.get("requests") or {}).get(resource) or (resources.get("limits") or {}).get(
            resource
        )
        total += quantity(asked) if asked is not None else 0
    return total


def _tolerates(pod: Json, taint: Json) -> bool:
    for each in pod["spec"].get("tolerations") or []:
        if each.get("effect") not in {None, "", taint["effect"]}:
            continue
        if each.get("operator", "Equal") == "Exists" and each.get("key") in {None, "", taint["key"]}:
            return True
        if each.get("key") == taint["key"] and each.get("value", "") == taint.get("value", ""):
            return True
    return False


def _free(store: Store, thing: Json, resource: str) -> float:
    name = thing["metadata"]["name"]
    used = sum(
        wanted_of(pod, resource)
        for pod in store.of("pods")
        if pod["spec"].get("nodeName") == name and pod["status"].get("phase") not in {"Succeeded", "Failed"}
    )
    return quantity(thing["status"]["allocatable"].get(resource, 0)) - used


def _why_not(store: Store, pod: Json, thing: Json) -> str | None:
    labels = thing["metadata"].get("labels") or {}
    if thing["spec"].get("unschedulable"):
        return "node(s) were unschedulable"
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return "node(s) didn't match Pod's node affinity/selector"
    for taint in thing["spec"].get("taints") or []:
        if taint["effect"] != "PreferNoSchedule" and not _tolerates(pod, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    for resource in (GPU, "cpu", "memory"):
        wanted = wanted_of(pod, resource)
        if wanted and wanted > _free(store, thing, resource):
            return f"Insufficient {resource}"
    return None


def schedule(store: Store) -> None:
    """Give each pod without a node one, the emptiest that fits; or say why there is none."""
    kind = store.kinds.named("pods")
    nodes = store.of("nodes")
    for pod in store.of("pods"):
        metadata = pod["metadata"]
        if pod["spec"].get("nodeName") or "deletionTimestamp" in metadata:
            continue
        reasons: dict[str, int] = {}
        fitting = []
        for thing in nodes:
            reason = _why_not(store, pod, thing) if is_up(thing) else "node(s) were unreachable"
            if reason is None:
                fitting.append(thing)
            else:
                reasons[reason] = reasons.get(reason, 0) + 1
        condition: Json = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
        if fitting:
            pods = [each["spec"].get("nodeName") for each in store.of("pods")]
            best = min(
                fitting, key=lambda thing: (pods.count(thing["metadata"]["name"]), thing["metadata"]["name"])
            )
            spec = {**pod["spec"], "nodeName": best["metadata"]["name"]}
            status = {**pod["status"], "conditions": [condition]}
            store.touch(kind, metadata["namespace"], metadata["name"], spec=spec, status=status)
            continue
        said = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        message = f"0/{len(nodes)} nodes are available: {said}."
        condition.update(status="False", reason="Unschedulable", message=message)
        old = (pod["status"].get("conditions") or [{}])[0]
        if old.get("message") != message:
            status = {**pod["status"], "phase": "Pending", "conditions": [condition]}
            store.touch(kind, metadata["namespace"], metadata["name"], status=status)
