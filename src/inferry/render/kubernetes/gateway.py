"""The gateways: workload, Service, configuration, disruption budget.

With a ledger in a file there is one, with a volume; with PostgreSQL there are several, that keep nothing.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

from inferry.core.errors import ConfigError
from inferry.engines.pod import secrets_name
from inferry.engines.shell_text import KEY_NAME
from inferry.render.gateway_file import gateway_file
from inferry.render.kubernetes.engines import claim_name, engine_urls, has_key
from inferry.render.kubernetes.naming import chosen_by, gateway_name, key_variable, kubernetes_object, labels
from inferry.render.kubernetes.pods import (
    CONTAINER_SECURITY,
    LEAVES_SERVICE_S,
    pod_security,
    pre_stop,
    priority_name,
    secret_variable,
    spread,
)
from inferry.render.shipment import ADMIN_PORT, BACKUPS_PATH, CONFIG_PATH, HOME_PATH, MODELS_PATH, Shipment
from inferry.render.yaml_text import Data, Why

_COMPONENT = "gateway"
END_S = 15
"""After the answers have ended: journals, traces and engines of its own."""


def secret_name(shipment: Shipment) -> str:
    """Of what the deployment file refers to."""
    return f"{gateway_name(shipment)}-secrets"


def config_map(shipment: Shipment) -> Data:
    """The gateway's deployment file."""
    return kubernetes_object(
        shipment,
        "ConfigMap",
        "v1",
        gateway_name(shipment),
        _COMPONENT,
        {"data": {"inferry.yaml": _file(shipment)}},
    )


def _file(shipment: Shipment) -> str:
    urls = {each.name: engine_urls(shipment, each) for each in shipment.engines}
    keys = {each.name: key_variable(each.name) for each in shipment.engines if has_key(each)}
    return gateway_file(shipment, urls, api_keys=keys)


def service(shipment: Shipment) -> Data:
    """For clients and whatever stands before them."""
    ports = [{"name": "http", "port": shipment.port, "targetPort": "http"}]
    return kubernetes_object(
        shipment, "Service", "v1", gateway_name(shipment), _COMPONENT,
        {"spec": {"type": "ClusterIP", "selector": chosen_by(shipment, _COMPONENT), "ports": ports}},
    )  # fmt: skip


def admin_service(shipment: Shipment) -> Data:
    """The control API, apart, so that no Ingress leads to it by mistake."""
    ports = [{"name": "admin", "port": ADMIN_PORT, "targetPort": "admin"}]
    return kubernetes_object(
        shipment, "Service", "v1", f"{gateway_name(shipment)}-admin", _COMPONENT,
        {"spec": {"type": "ClusterIP", "selector": chosen_by(shipment, _COMPONENT), "ports": ports}},
    )  # fmt: skip


def service_account(shipment: Shipment) -> Data:
    """It may do nothing in the cluster: engines are found by their names."""
    return kubernetes_object(
        shipment, "ServiceAccount", "v1", gateway_name(shipment), _COMPONENT,
        {"automountServiceAccountToken": False},
    )  # fmt: skip


def disruption_budget(shipment: Shipment) -> Data:
    """Nodes are emptied one gateway at a time."""
    return kubernetes_object(
        shipment, "PodDisruptionBudget", "policy/v1", gateway_name(shipment), _COMPONENT,
        {"spec": {"maxUnavailable": 1, "selector": {"matchLabels": chosen_by(shipment, _COMPONENT)}}},
    )  # fmt: skip


def workload(shipment: Shipment) -> Data:
    """A Deployment, or a StatefulSet of one with a volume where the ledger is a file."""
    spec: dict[str, Any] = {
        "replicas": shipment.gateways,
        "selector": {"matchLabels": chosen_by(shipment, _COMPONENT)},
        "template": {
            "metadata": {
                "labels": labels(shipment, _COMPONENT),
                "annotations": {
                    "inferry.dev/config": Why(
                        "Changes with the file, so that pods are replaced with it.",
                        hashlib.sha256(_file(shipment).encode()).hexdigest()[:16],
                    )
                },
            },
            "spec": _pod(shipment),
        },
    }
    if not shipment.keeps_state:
        if shipment.config.backup is not None:
            raise ConfigError(
                "backup: in Kubernetes with a ledger in PostgreSQL, several gateways have no disk in common to put it on. Leave "
                "'backup' out of this file, and back the database up by its own means, or run 'inferry backup' from outside."
            )
        spec["strategy"] = Why(
            "A new one first: at no time is there less.",
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        )
        return kubernetes_object(
            shipment, "Deployment", "apps/v1", gateway_name(shipment), _COMPONENT, {"spec": spec}
        )
    spec["replicas"] = Why(
        "The ledger is a file, which one gateway has. For more, set ledger.url (PostgreSQL).", 1
    )
    spec["serviceName"] = gateway_name(shipment)
    spec["volumeClaimTemplates"] = [
        _claim("home", "Ledger, journal, and models of embedded engines.", "20Gi")
    ]
    if shipment.config.backup is not None:
        because = (
            "On a disk of its own, if the storage class gives one: what is lost with 'home' is no backup."
        )
        spec["volumeClaimTemplates"].append(_claim("backups", because, "10Gi"))
    return kubernetes_object(
        shipment, "StatefulSet", "apps/v1", gateway_name(shipment), _COMPONENT, {"spec": spec}
    )


def _claim(name: str, because: str, size: str) -> Data:
    return {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": Why(because, size)}},
        },
    }


def _pod(shipment: Shipment) -> Data:
    grace_s = math.ceil(shipment.config.gateway.drain_s) + LEAVES_SERVICE_S + END_S
    chosen = chosen_by(shipment, _COMPONENT)
    volumes: list[Any] = [
        {"name": "config", "configMap": {"name": gateway_name(shipment)}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if not shipment.keeps_state:
        volumes.append({"name": "home", "emptyDir": {}})
    if shipment.file_mounts:
        volumes.append({"name": "files", "secret": {"secretName": f"{gateway_name(shipment)}-files"}})
    if shipment.model_mounts:
        claim = {"claimName": claim_name(shipment), "readOnly": True}
        volumes.append({"name": "models", "persistentVolumeClaim": claim})
    return {
        "serviceAccountName": gateway_name(shipment),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": priority_name(shipment),
        "terminationGracePeriodSeconds": Why(
            "Running answers may end: gateway.drain_s and some more.", grace_s
        ),
        "securityContext": pod_security(),
        "topologySpreadConstraints": spread(
            chosen, "kubernetes.io/hostname", "One host's end takes one gateway with it."
        ),
        "containers": [_container(shipment)],
        "volumes": volumes,
    }


def _container(shipment: Shipment) -> Data:
    scheme = {"scheme": "HTTPS"} if shipment.config.gateway.tls is not None else {}
    ports = [{"name": "http", "containerPort": shipment.port}]
    if shipment.admin_port is not None:
        ports.append({"name": "admin", "containerPort": ADMIN_PORT})
    mounts: list[Any] = [
        {"name": "config", "mountPath": CONFIG_PATH.rpartition("/")[0], "readOnly": True},
        {"name": "home", "mountPath": HOME_PATH},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if shipment.config.backup is not None:
        mounts.append({"name": "backups", "mountPath": BACKUPS_PATH})
    if shipment.model_mounts:
        mounts.append({"name": "models", "mountPath": MODELS_PATH, "readOnly": True})
    if shipment.file_mounts:
        mounts.append({"name": "files", "mountPath": "/etc/inferry/files", "readOnly": True})
    workers = shipment.config.gateway.workers
    embedded = bool(shipment.embedded)
    return {
        "name": "gateway",
        "image": shipment.image,
        "command": ["inferry", "up", CONFIG_PATH],
        "env": [
            {"name": "INFERRY_HOME", "value": HOME_PATH},
            {
                "name": "INFERRY_FIRST_KEY",
                "value": Why("What is said here is logged, which is no place for a key.", "none"),
            },
            {"name": "HOME", "value": HOME_PATH},
            *(secret_variable(each, secret_name(shipment), each) for each in shipment.secrets),
            *(
                secret_variable(key_variable(each.name), secrets_name(each.plan), KEY_NAME)
                for each in shipment.engines
                if has_key(each)
            ),
        ],
        "ports": ports,
        "startupProbe": Why(
            "It listens long before its engines are up; models of embedded engines may have to be fetched.",
            {"tcpSocket": {"port": "http"}, "periodSeconds": 2, "failureThreshold": 300},
        ),
        "readinessProbe": Why(
            "503 while no deployment takes requests, and while it drains.",
            {
                "httpGet": {"path": "/health", "port": "http", **scheme},
                "periodSeconds": 2,
                "timeoutSeconds": 2,
                "failureThreshold": 2,
            },
        ),
        "livenessProbe": Why(
            "Only whether it listens: a restart makes no engine well, and loses the streams of those that are."
            " Gateway processes that hang are replaced by Inferry itself.",
            {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        ),
        "lifecycle": pre_stop(),
        "resources": {
            "requests": {
                "cpu": str(workers + (2 if embedded else 0)),
                "memory": "2Gi" if embedded else "512Mi",
            },
            "limits": Why(
                "No limit of CPU: being held back would be heard as pauses in streams.",
                {"memory": "8Gi" if embedded else f"{2 * workers}Gi"},
            ),
        },
        "volumeMounts": mounts,
        "securityContext": dict(CONTAINER_SECURITY),
    }
