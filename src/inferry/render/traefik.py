"""Traefik in front of the gateways: static and dynamic configuration. Keys: doc.traefik.io, version 3."""

from __future__ import annotations

from inferry.render.proxying import (
    BURST,
    CONNECTIONS_MAX,
    REQUESTS_PER_S,
    answer_timeout_s,
    connect_timeout_s,
    gateway_addresses,
    upstream_tls,
)
from inferry.render.shipment import Files, Shipment
from inferry.render.yaml_text import Data, Why, yaml_text


def render_traefik(shipment: Shipment) -> Files:
    """`traefik.yml` (how it runs) and `dynamic/inferry.yml` (what it serves)."""
    return {
        "traefik.yml": yaml_text(
            _static(shipment),
            "Traefik for Inferry's gateways, made by 'inferry render traefik': how it runs.",
        ),
        "dynamic/inferry.yml": yaml_text(_dynamic(shipment), "What it serves; read again when it changes."),
    }


def _static(shipment: Shipment) -> Data:
    timeout_s = answer_timeout_s(shipment)
    return {
        "entryPoints": {
            "web": {
                "address": f":{shipment.proxy.http_port}",
                "http": {
                    "redirections": {"entryPoint": {"to": "websecure", "scheme": "https", "permanent": True}}
                },
            },
            "websecure": {
                "address": f":{shipment.proxy.https_port}",
                "transport": {
                    "respondingTimeouts": Why(
                        "Traefik 3 ends requests after 60 s of reading; answers have no bound, since streams take minutes.",
                        {"readTimeout": "60s", "writeTimeout": "0s", "idleTimeout": f"{timeout_s}s"},
                    ),
                    "lifeCycle": Why(
                        "Running streams may end before it goes.", {"graceTimeOut": f"{timeout_s}s"}
                    ),
                },
            },
        },
        "providers": {"file": {"directory": "dynamic", "watch": True}},
        "accessLog": {
            "format": "json",
            "fields": Why("Headers may hold keys.", {"headers": {"defaultMode": "drop"}}),
        },
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }


def _dynamic(shipment: Shipment) -> Data:
    scheme = "https" if upstream_tls(shipment) else "http"
    service: dict[str, object] = {
        "servers": [{"url": f"{scheme}://{each}"} for each in gateway_addresses(shipment)],
        "passHostHeader": True,
        "healthCheck": Why(
            "A gateway that drains, or whose engines are all down, says 503: it gets nothing new, and ends what it has.",
            {"path": "/health", "interval": "2s", "timeout": "2s"},
        ),
        "responseForwarding": Why("Each chunk at once.", {"flushInterval": "-1ms"}),
        "serversTransport": "gateways",
    }
    transport: dict[str, object] = {
        "forwardingTimeouts": {
            "dialTimeout": f"{connect_timeout_s(shipment)}s",
            "responseHeaderTimeout": Why(
                "Longer than the gateway's own, which knows why an answer does not come, and says it.",
                f"{answer_timeout_s(shipment)}s",
            ),
            "idleConnTimeout": Why(
                "Closed here before the gateway does (75 s), so that no request meets a connection that is just going.",
                "60s",
            ),
        }
    }
    if upstream_tls(shipment):
        transport["serverName"] = Why("The gateways have TLS of their own, for this name.", shipment.host)
    return {
        "http": {
            "routers": {
                "inferry": {
                    "rule": Why(
                        "Prometheus asks the gateways themselves; from outside nobody does.",
                        f"Host(`{shipment.host}`) && !Path(`/metrics`)",
                    ),
                    "entryPoints": ["websecure"],
                    "service": "gateways",
                    "middlewares": ["wall", "connections", "hsts"],
                    "tls": {},
                }
            },
            "middlewares": {
                "wall": {
                    "rateLimit": Why(
                        "By client address, before keys are looked at; limits of users are the gateway's own.",
                        {"average": REQUESTS_PER_S, "burst": BURST},
                    )
                },
                "connections": {
                    "inFlightReq": {
                        "amount": CONNECTIONS_MAX,
                        "sourceCriterion": {"ipStrategy": {"depth": 0}},
                    }
                },
                "hsts": {"headers": {"stsSeconds": 31536000}},
            },
            "services": {
                "gateways": {
                    "loadBalancer": Why(
                        "No 'retry' middleware: it would send a request again that a gateway has seen, and pay twice. No"
                        " 'buffering' either: it holds answers back until they are whole.",
                        service,
                    )
                }
            },
            "serversTransports": {"gateways": transport},
        },
        "tls": {
            "certificates": [
                {
                    "certFile": f"{shipment.proxy.certificates}/fullchain.pem",
                    "keyFile": f"{shipment.proxy.certificates}/privkey.pem",
                }
            ],
            "options": {"default": {"minVersion": "VersionTLS12"}},
        },
    }
