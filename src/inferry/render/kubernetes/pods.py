"""What every pod of ours has: no root, no capabilities, no token, nothing writable that need not be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferry.render.shipment import GATEWAY_USER, Shipment
from inferry.render.yaml_text import Why

CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}
LEAVES_SERVICE_S = 5
"""Before a container is told to end: services and proxies must have heard of it first."""


def pod_security() -> dict[str, Any]:
    """Fits the `restricted` pod security standard."""
    return {
        "runAsNonRoot": True,
        "runAsUser": GATEWAY_USER,
        "runAsGroup": GATEWAY_USER,
        "fsGroup": Why("Volumes belong to this group, so that the user can write to them.", GATEWAY_USER),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pre_stop() -> dict[str, Any]:
    """Waits until nobody sends new requests there."""
    return {"preStop": {"exec": {"command": ["sleep", str(LEAVES_SERVICE_S)]}}}


def spread(chosen: Mapping[str, str], topology: str, reason: str) -> Why:
    """Over hosts or zones, as far as there are any."""
    return Why(
        reason,
        [
            {
                "maxSkew": 1,
                "topologyKey": topology,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": dict(chosen)},
            }
        ],
    )


def secret_variable(name: str, secret: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    """An environment variable whose value is in a Secret."""
    reference: dict[str, Any] = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def priority_name(shipment: Shipment) -> str:
    """Of the PriorityClass."""
    return f"{shipment.name}-serving"
