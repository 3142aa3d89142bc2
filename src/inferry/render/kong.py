"""Kong in front of the gateways, as a declarative file for its mode without a database. Entities: docs.konghq.com,
declarative format 3.0."""

from __future__ import annotations

from inferry.render.proxying import (
    NOT_HERE,
    REQUESTS_PER_S,
    answer_timeout_s,
    body_max_bytes,
    connect_timeout_s,
    gateway_addresses,
    upstream_tls,
)
from inferry.render.shipment import Files, Shipment
from inferry.render.yaml_text import Data, Why, yaml_text


def render_kong(shipment: Shipment) -> Files:
    """`kong.yml`."""
    return {
        "kong.yml": yaml_text(_data(shipment), "Kong for Inferry's gateways, made by 'inferry render kong'.")
    }


def _data(shipment: Shipment) -> Data:
    timeout_ms = answer_timeout_s(shipment) * 1000
    scheme = "https" if upstream_tls(shipment) else "http"
    check = {
        "http_path": "/health",
        "timeout": 2,
        "type": scheme,
        "healthy": {"interval": 2, "successes": 1},
        "unhealthy": {"interval": 2, "http_failures": 2, "tcp_failures": 2, "timeouts": 2},
    }
    return {
        "_format_version": "3.0",
        "_transform": True,
        "upstreams": [
            {
                "name": "inferry-gateways",
                "algorithm": Why(
                    "Requests differ by a thousandfold in length: the gateway with the fewest under way is the least busy one.",
                    "least-connections",
                ),
                "host_header": shipment.host,
                "healthchecks": {
                    "active": Why(
                        "A gateway that drains, or whose engines are all down, says 503: it gets nothing new.",
                        check,
                    )
                },
                "targets": [{"target": str(each), "weight": 100} for each in gateway_addresses(shipment)],
            }
        ],
        "services": [
            {
                "name": "inferry",
                "host": "inferry-gateways",
                "port": shipment.port,
                "protocol": scheme,
                "connect_timeout": connect_timeout_s(shipment) * 1000,
                "read_timeout": Why(
                    "Longer than the gateway's own, which knows why an answer does not come, and says it.",
                    timeout_ms,
                ),
                "write_timeout": 60000,
                "retries": Why(
                    "Kong would send a request again that a gateway has seen: an answer must not be paid twice.",
                    0,
                ),
                "routes": [
                    {
                        "name": "api",
                        "hosts": [shipment.host],
                        "protocols": ["https"],
                        "paths": ["/"],
                        "strip_path": False,
                        "preserve_host": True,
                        "request_buffering": True,
                        "response_buffering": Why("Each chunk at once.", False),
                    },
                    {
                        "name": "metrics",
                        "hosts": [shipment.host],
                        "paths": ["~/metrics$"],
                        "plugins": [
                            {
                                "name": "request-termination",
                                "config": Why(
                                    "Prometheus asks the gateways themselves; from outside nobody does.",
                                    {
                                        "status_code": 404,
                                        "content_type": "application/json",
                                        "body": NOT_HERE,
                                    },
                                ),
                            }
                        ],
                    },
                ],
                "plugins": [
                    {
                        "name": "rate-limiting",
                        "config": Why(
                            "By client address, before keys are looked at; limits of users are the gateway's own.",
                            {"limit_by": "ip", "second": REQUESTS_PER_S, "policy": "local"},
                        ),
                    },
                    {
                        "name": "request-size-limiting",
                        "config": {"allowed_payload_size": body_max_bytes(shipment), "size_unit": "bytes"},
                    },
                ],
            }
        ],
        "certificates": [
            {
                "cert": Why(
                    "Read by Kong from its environment or vault; no key stands in this file.",
                    "{vault://env/inferry-cert}",
                ),
                "key": "{vault://env/inferry-key}",
                "snis": [{"name": shipment.host}],
            }
        ],
    }
