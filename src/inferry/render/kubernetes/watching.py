"""For the Prometheus operator: who is scraped, and the alerts."""

from __future__ import annotations

from inferry.render.kubernetes.naming import chosen_by, gateway_name, kubernetes_object
from inferry.render.prometheus.rules import rule_groups
from inferry.render.shipment import Shipment
from inferry.render.yaml_text import Data

_API = "monitoring.coreos.com/v1"


def metrics_secret(shipment: Shipment) -> str:
    """Of the key with which Prometheus reads the gateways' metrics."""
    return f"{gateway_name(shipment)}-metrics"


def service_monitor(shipment: Shipment) -> Data:
    """The gateways; /metrics asks for a key of scope read-only."""
    endpoint = {
        "port": "http",
        "path": "/metrics",
        "interval": "15s",
        "authorization": {"type": "Bearer", "credentials": {"name": metrics_secret(shipment), "key": "key"}},
    }
    spec = {"selector": {"matchLabels": chosen_by(shipment, "gateway")}, "endpoints": [endpoint]}
    return kubernetes_object(
        shipment, "ServiceMonitor", _API, gateway_name(shipment), "gateway", {"spec": spec}
    )


def prometheus_rule(shipment: Shipment) -> Data:
    """Recording rules and alerts, the same as of 'inferry render prometheus'."""
    return kubernetes_object(
        shipment, "PrometheusRule", _API, gateway_name(shipment), "monitoring",
        {"spec": {"groups": rule_groups(shipment)}},
    )  # fmt: skip
