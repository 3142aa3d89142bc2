"""The way in from outside: an Ingress, or the Gateway API. TLS ends there."""

from __future__ import annotations

from typing import Any

from inferry.render.kubernetes.naming import gateway_name, kubernetes_object
from inferry.render.proxying import (
    CONNECTIONS_MAX,
    REQUESTS_PER_S,
    answer_timeout_s,
    body_max_bytes,
    connect_timeout_s,
)
from inferry.render.shipment import Shipment
from inferry.render.yaml_text import Data, Why


def tls_secret(shipment: Shipment) -> str:
    """Of the certificate for the host; cert-manager or you make it."""
    return f"{gateway_name(shipment)}-tls"


def ingress(shipment: Shipment) -> Data:
    """With ingress-nginx's annotations, which other controllers pass over."""
    prefix = "nginx.ingress.kubernetes.io"
    timeout_s = str(answer_timeout_s(shipment))
    annotations: dict[str, Any] = {
        f"{prefix}/proxy-buffering": Why("Chunks as they come.", "off"),
        f"{prefix}/proxy-connect-timeout": str(connect_timeout_s(shipment)),
        f"{prefix}/proxy-read-timeout": Why(
            "Longer than the gateway's own, which knows why an answer does not come, and says it.", timeout_s
        ),
        f"{prefix}/proxy-send-timeout": timeout_s,
        f"{prefix}/proxy-body-size": str(body_max_bytes(shipment)),
        f"{prefix}/proxy-next-upstream": Why("An answer must not be paid twice.", "error timeout"),
        f"{prefix}/limit-rps": Why(
            "By client address, a wall before keys are looked at.", str(REQUESTS_PER_S)
        ),
        f"{prefix}/limit-connections": str(CONNECTIONS_MAX),
        f"{prefix}/ssl-redirect": "true",
    }
    if shipment.config.gateway.tls is not None:
        annotations[f"{prefix}/backend-protocol"] = "HTTPS"
    backend = {"service": {"name": gateway_name(shipment), "port": {"name": "http"}}}
    paths = [
        {"path": path, "pathType": "Prefix", "backend": backend}
        for path in ("/v1", "/health", "/openapi.json")
    ]
    spec = {
        "ingressClassName": "nginx",
        "tls": [{"hosts": [shipment.host], "secretName": tls_secret(shipment)}],
        "rules": [
            {
                "host": shipment.host,
                "http": {"paths": Why("Not /metrics: Prometheus asks the pods themselves.", paths)},
            }
        ],
    }
    return kubernetes_object(
        shipment, "Ingress", "networking.k8s.io/v1", gateway_name(shipment), "gateway", {"spec": spec},
        annotations=annotations,
    )  # fmt: skip


def gateway_api(shipment: Shipment) -> list[Data]:
    """A Gateway and its route, in place of the Ingress."""
    listener = {
        "name": "https",
        "hostname": shipment.host,
        "port": 443,
        "protocol": "HTTPS",
        "tls": {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "name": tls_secret(shipment)}]},
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    }
    spec = {
        "gatewayClassName": Why("Your cluster's: kubectl get gatewayclasses", "nginx"),
        "listeners": [listener],
    }
    route = {
        "parentRefs": [{"name": gateway_name(shipment)}],
        "hostnames": [shipment.host],
        "rules": [
            {
                "matches": [
                    {"path": {"type": "PathPrefix", "value": path}}
                    for path in ("/v1", "/health", "/openapi.json")
                ],
                "backendRefs": [{"name": gateway_name(shipment), "port": shipment.port}],
                "timeouts": Why(
                    "None: streams take minutes, and the gateway has bounds of its own.", {"request": "0s"}
                ),
            }
        ],
    }
    api = "gateway.networking.k8s.io/v1"
    return [
        kubernetes_object(shipment, "Gateway", api, gateway_name(shipment), "gateway", {"spec": spec}),
        kubernetes_object(shipment, "HTTPRoute", api, gateway_name(shipment), "gateway", {"spec": route}),
    ]
