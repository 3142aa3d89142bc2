"""What objects are called, and the labels by which they find each other.

Labels: kubernetes.io/docs/concepts/overview/working-with-objects/common-labels.
"""

from __future__ import annotations

from typing import Any

from inferry.engines.pod import dns_label
from inferry.render.shipment import Shipment
from inferry.render.yaml_text import Data

HOME = "/home/inferry"
"""Home of the user in every container: an empty folder of its own, as nobody has one in images that run as root."""


def gateway_name(shipment: Shipment) -> str:
    """Of everything that belongs to the gateways."""
    return f"{shipment.name}-gateway"


def engine_name(shipment: Shipment, deployment: str) -> str:
    """Of everything that belongs to a deployment's engines."""
    return f"{shipment.name}-{dns_label(deployment)}"[:52].strip("-")


def key_variable(deployment: str) -> str:
    """The gateway's environment variable with the key of a deployment's engines."""
    return f"{dns_label(deployment).upper().replace('-', '_')}_ENGINE_KEY"


def chosen_by(shipment: Shipment, component: str, deployment: str | None = None) -> dict[str, str]:
    """Labels that never change, for selectors."""
    labels = {"app.kubernetes.io/instance": shipment.name, "app.kubernetes.io/component": component}
    return labels if deployment is None else labels | {"inferry.dev/deployment": dns_label(deployment)}


def labels(shipment: Shipment, component: str, deployment: str | None = None) -> dict[str, str]:
    """All labels of an object."""
    return {
        "app.kubernetes.io/name": "inferry",
        **chosen_by(shipment, component, deployment),
        "app.kubernetes.io/version": shipment.version,
        "app.kubernetes.io/part-of": "inferry",
        "app.kubernetes.io/managed-by": "inferry",
    }


def kubernetes_object(
    shipment: Shipment,
    kind: str,
    api: str,
    name: str,
    component: str,
    content: Data,
    deployment: str | None = None,
    annotations: Data | None = None,
) -> Data:
    """An object in the shipment's namespace."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": shipment.name,
        "labels": labels(shipment, component, deployment),
    }
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **content}
