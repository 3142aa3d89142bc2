"""Who may talk to whom: nobody, then what is needed. Needs a network plugin that enforces NetworkPolicy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inferry.render.kubernetes.engines import COMPONENT as ENGINE
from inferry.render.kubernetes.naming import chosen_by, engine_name, gateway_name, kubernetes_object
from inferry.render.shipment import ADMIN_PORT, ENGINE_PORT, Shipment, ShippedEngine
from inferry.render.yaml_text import Data, Why

DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}
_PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"]
"""Of the cluster and its cloud, the metadata service among them."""


def policies(shipment: Shipment) -> list[Data]:
    """All of them."""
    found = [
        _policy(
            shipment,
            f"{shipment.name}-default-deny",
            "network",
            {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        ),
        _gateway(shipment),
    ]
    return found + [_engine(shipment, each) for each in shipment.engines]


def _policy(shipment: Shipment, name: str, component: str, spec: Data, deployment: str | None = None) -> Data:
    return kubernetes_object(
        shipment, "NetworkPolicy", "networking.k8s.io/v1", name, component, {"spec": spec}, deployment
    )


def _gateway(shipment: Shipment) -> Data:
    ingress: list[Any] = [
        {
            "from": Why(
                "Ingress controllers and Prometheus live in namespaces of their own; name them here for less.",
                [{"namespaceSelector": {}}],
            ),
            "ports": [{"port": shipment.port, "protocol": "TCP"}],
        }
    ]
    if shipment.admin_port is not None:
        ingress.append({"from": [{"podSelector": {}}], "ports": [{"port": ADMIN_PORT, "protocol": "TCP"}]})
    egress: list[Any] = [DNS]
    if shipment.engines:
        chosen = {"matchLabels": chosen_by(shipment, ENGINE)}
        egress.append({"to": [{"podSelector": chosen}], "ports": [{"port": ENGINE_PORT, "protocol": "TCP"}]})
    stores = _store_ports(shipment)
    if stores:
        egress.append(
            {
                "to": Why(
                    "The ledger and shared limits; name their addresses or pods here for less.",
                    [{"ipBlock": {"cidr": "0.0.0.0/0"}}],
                ),
                "ports": [{"port": each, "protocol": "TCP"} for each in stores],
            }
        )
    if shipment.outside or shipment.embedded:
        egress.append(_internet("Endpoints of others, and models of embedded engines."))
    return _policy(
        shipment, gateway_name(shipment), "gateway",
        {
            "podSelector": {"matchLabels": chosen_by(shipment, "gateway")},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    )  # fmt: skip


def _store_ports(shipment: Shipment) -> Sequence[int]:
    """Where they listen by convention: their addresses are secrets."""
    ports = [] if shipment.keeps_state else [5432]
    return ports if shipment.config.gateway.shared_limits.redis is None else [*ports, 6379]


def _internet(because: str) -> Data:
    return {
        "to": Why(because, [{"ipBlock": {"cidr": "0.0.0.0/0", "except": _PRIVATE}}]),
        "ports": [{"port": 443, "protocol": "TCP"}],
    }


def _engine(shipment: Shipment, engine: ShippedEngine) -> Data:
    ingress = {
        "from": [{"podSelector": {"matchLabels": chosen_by(shipment, "gateway")}}],
        "ports": [{"port": ENGINE_PORT, "protocol": "TCP"}],
    }
    egress: list[Any] = []
    if engine.plan.model.mount is None:
        egress = [
            DNS,
            _internet("The model's hub. A private mirror inside of the cluster has to be named here."),
        ]
    return _policy(
        shipment, engine_name(shipment, engine.name), ENGINE,
        {
            "podSelector": {"matchLabels": chosen_by(shipment, ENGINE, engine.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [Why("Only gateways: keys, limits and the ledger are theirs.", ingress)],
            "egress": egress,
        },
        engine.name,
    )  # fmt: skip
