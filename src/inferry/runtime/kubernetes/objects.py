"""The objects that the runtime writes: a Deployment where nobody has made one, and small patches. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferry.engines.pod import dns_label

DEPLOYMENT_LABEL = "inferry.dev/deployment"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""A hint to the ReplicaSet's controller: of pods that are equally well, the one with the lowest goes first."""
LEAVES_FIRST = "-1000"


def object_name(prefix: str, deployment: str) -> str:
    """Of a deployment's Deployment object; with room for what its pods' names add."""
    return f"{prefix}-{dns_label(deployment)}"[:52].strip("-")


def chosen_by(prefix: str, deployment: str | None = None) -> dict[str, str]:
    """Labels that choose the engines' pods: all of ours, or those of one deployment."""
    labels = {"app.kubernetes.io/instance": prefix, "app.kubernetes.io/component": "engine"}
    return labels if deployment is None else labels | {DEPLOYMENT_LABEL: dns_label(deployment)}


def selector_text(labels: Mapping[str, str]) -> str:
    """As a query has it."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def deployment_object(prefix: str, deployment: str, pod_spec: Mapping[str, Any]) -> dict[str, Any]:
    """With no replicas yet: each start asks for one."""
    chosen = chosen_by(prefix, deployment)
    labels = {
        "app.kubernetes.io/name": "inferry",
        **chosen,
        "app.kubernetes.io/part-of": "inferry",
        "app.kubernetes.io/managed-by": "inferry",
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": object_name(prefix, deployment), "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": chosen},
            # A new engine takes minutes to load and GPUs that are not there twice.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "progressDeadlineSeconds": 3600,
            "template": {"metadata": {"labels": labels}, "spec": dict(pod_spec)},
        },
    }


def leaves_first() -> dict[str, Any]:
    """Marks a pod as the one that a smaller number takes away."""
    return {"metadata": {"annotations": {DELETION_COST: LEAVES_FIRST}}}


def scale_patch(scale: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """Another number, if it is still this scale that it is changed from."""
    version = scale["metadata"]["resourceVersion"]
    return {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
