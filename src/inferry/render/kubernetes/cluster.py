"""The namespace and what is set once in it."""

from __future__ import annotations

from inferry.render.kubernetes.naming import labels
from inferry.render.kubernetes.pods import priority_name
from inferry.render.shipment import Shipment
from inferry.render.yaml_text import Data, Why


def namespace(shipment: Shipment) -> Data:
    """Takes only pods that fit the strictest pod security standard."""
    strict = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": shipment.name,
            "labels": {**labels(shipment, "namespace"), **strict},
        },
    }


def priority_class(shipment: Shipment) -> Data:
    """Above what can wait, below what the cluster itself needs."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": priority_name(shipment), "labels": labels(shipment, "priority")},
        "value": 100000,
        "globalDefault": False,
        "preemptionPolicy": Why(
            "Waits for a GPU like everybody: training that runs there is not thrown out.", "Never"
        ),
        "description": "Serving of language models: scheduled before batch work.",
    }
