"""Engines: a StatefulSet for each deployment, whose pods have names that the gateway knows, and what they need.

Why not a Deployment behind a Service: that spreads connections blindly. The gateway chooses a replica for each request
(by its cache, its load, its health), so it has to see each one; a StatefulSet's pods keep their DNS names.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from inferry.engines.container import needs_key
from inferry.engines.pod import pod
from inferry.render.kubernetes.naming import HOME, chosen_by, engine_name, kubernetes_object, labels
from inferry.render.kubernetes.pods import (
    CONTAINER_SECURITY,
    LEAVES_SERVICE_S,
    pod_security,
    pre_stop,
    priority_name,
    spread,
)
from inferry.render.shipment import ENGINE_PORT, GATEWAY_USER, Shipment, ShippedEngine
from inferry.render.yaml_text import Data, Why

COMPONENT = "engine"
GPU = "nvidia.com/gpu"


def has_key(engine: ShippedEngine) -> bool:
    """Whether it is given a key at all."""
    return needs_key(engine.plan.command)


def replicas_max(engine: ShippedEngine) -> int:
    """As many as it may ever have."""
    scaling = engine.deployment.scaling
    return engine.replicas if scaling is None else max(engine.replicas, scaling.max)


def engine_urls(shipment: Shipment, engine: ShippedEngine) -> list[str]:
    """One for each replica that there may be; those that are not there are down, and get nothing.

    Without the namespace, so that it can be another one.
    """
    name = engine_name(shipment, engine.name)
    return [f"http://{name}-{number}.{name}:{ENGINE_PORT}" for number in range(replicas_max(engine))]


def claim_name(shipment: Shipment) -> str:
    """Of the volume with models that are not fetched from a hub."""
    return f"{shipment.name}-models"


def needs_claim(shipment: Shipment) -> bool:
    """Some engine, in a pod of its own or inside of the gateway's, loads a file or folder of the operator's."""
    return bool(shipment.model_mounts) or any(each.plan.model.mount is not None for each in shipment.engines)


def models_claim(shipment: Shipment) -> Data:
    """To be filled once, then read by all."""
    mounts = [each.plan.model.mount for each in shipment.engines]
    wanted = [each.outside.name for each in mounts if each is not None]
    wanted += [each.inside.rpartition("/")[2] for each in shipment.model_mounts]
    because = (
        "Read by pods on several hosts. Fill it once, from a pod that mounts it for writing; wanted in it: "
        + ", ".join(wanted)
    )
    return kubernetes_object(
        shipment, "PersistentVolumeClaim", "v1", claim_name(shipment), "models",
        {
            "spec": {
                "accessModes": Why(because, ["ReadWriteMany"]),
                "resources": {"requests": {"storage": "200Gi"}},
            }
        },
    )  # fmt: skip


def engine_service(shipment: Shipment, engine: ShippedEngine) -> Data:
    """Headless: gives each pod its DNS name, also before it is ready."""
    name = engine_name(shipment, engine.name)
    return kubernetes_object(
        shipment, "Service", "v1", name, COMPONENT,
        {
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": Why("The gateway asks engines for their health itself.", True),
                "selector": chosen_by(shipment, COMPONENT, engine.name),
                "ports": [{"name": "http", "port": ENGINE_PORT, "targetPort": "http"}],
            }
        },
        engine.name,
    )  # fmt: skip


def engine_budget(shipment: Shipment, engine: ShippedEngine) -> Data:
    """Nodes are emptied one engine at a time: the next takes minutes to load."""
    chosen = chosen_by(shipment, COMPONENT, engine.name)
    return kubernetes_object(
        shipment, "PodDisruptionBudget", "policy/v1", engine_name(shipment, engine.name), COMPONENT,
        {"spec": {"maxUnavailable": 1, "selector": {"matchLabels": chosen}}}, engine.name,
    )  # fmt: skip


def stateful_set(shipment: Shipment, engine: ShippedEngine) -> Data:
    """The engine's pods."""
    name, chosen = engine_name(shipment, engine.name), chosen_by(shipment, COMPONENT, engine.name)
    spec: dict[str, Any] = {
        "replicas": engine.replicas,
        "serviceName": name,
        "podManagementPolicy": Why("All at once: none waits for another one's weights.", "Parallel"),
        "selector": {"matchLabels": chosen},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "template": {
            "metadata": {"labels": labels(shipment, COMPONENT, engine.name)},
            "spec": _pod(shipment, engine),
        },
    }
    if engine.plan.needs.cache_folder is not None:
        spec["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": "Delete", "whenScaled": "Retain"}
        spec["volumeClaimTemplates"] = [
            {
                "metadata": {"name": "cache"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {
                        "requests": {
                            "storage": Why(
                                "Weights and compiled kernels: a restart fetches nothing again. Give it twice the model's size.",
                                "200Gi",
                            )
                        }
                    },
                },
            }
        ]
    return kubernetes_object(shipment, "StatefulSet", "apps/v1", name, COMPONENT, {"spec": spec}, engine.name)


def _pod(shipment: Shipment, engine: ShippedEngine) -> Data:
    needs = engine.plan.needs
    cache = None if needs.cache_folder is None else f"{HOME}/.cache"
    plan = replace(engine.plan, needs=replace(needs, cache_folder=cache), user=None)
    spec = dict(pod(plan, engine.probes, claim_name(shipment))["spec"])
    grace_s = math.ceil(plan.stop_grace_s) + LEAVES_SERVICE_S
    container = dict(spec["containers"][0])
    container["env"] = [{"name": "HOME", "value": HOME}, *container.get("env", [])]
    if cache is not None:
        container["env"].append({"name": "HF_HOME", "value": f"{cache}/huggingface"})
        container["env"].append({"name": "XDG_CACHE_HOME", "value": cache})
    container["volumeMounts"] = [
        {"name": "home", "mountPath": HOME},
        {"name": "tmp", "mountPath": "/tmp"},
        *container.get("volumeMounts", []),
    ]
    container["lifecycle"] = pre_stop()
    container["resources"] = _resources(engine)
    container["securityContext"] = dict(CONTAINER_SECURITY)
    volumes = [each for each in spec.get("volumes", []) if each["name"] != "cache"]
    result: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": spec["enableServiceLinks"],
        "priorityClassName": priority_name(shipment),
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": Why(
            f"Engines' images run as root by default; they run as {GATEWAY_USER} as well, with a home of their own.",
            pod_security(),
        ),
        "topologySpreadConstraints": spread(
            chosen_by(shipment, COMPONENT, engine.name),
            "topology.kubernetes.io/zone",
            "One zone's end does not take all replicas with it.",
        ),
    }
    if engine.plan.gpus:
        result["nodeSelector"] = Why(
            "By NVIDIA's GPU feature discovery; name the product where nodes differ (nvidia.com/gpu.product).",
            {"nvidia.com/gpu.present": "true"},
        )
        result["tolerations"] = Why(
            "GPU nodes are kept free of everything else by this taint.",
            [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
        )
    if "initContainers" in spec:
        result["initContainers"] = [
            {**each, "securityContext": dict(CONTAINER_SECURITY), "resources": _SMALL}
            for each in spec["initContainers"]
        ]
    result["containers"] = [container]
    result["volumes"] = [{"name": "home", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}, *volumes]
    return result


_SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


def _resources(engine: ShippedEngine) -> Data:
    gpus = engine.plan.gpus
    many = max(1, gpus)
    limits: dict[str, Any] = {
        "memory": Why(
            "Weights pass through the host's memory while they load: raise it for models larger than that.",
            f"{64 * many}Gi",
        )
    }
    if gpus:
        limits[GPU] = gpus
    return {"requests": {"cpu": str(4 * many), "memory": f"{16 * many}Gi"}, "limits": limits}
