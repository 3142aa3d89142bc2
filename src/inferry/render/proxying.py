"""What every proxy in front of the gateways has to know: where they are, how long answers take, what is kept out."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from inferry.core.gateway_settings import split_listen
from inferry.render.shipment import Shipment

REQUESTS_PER_S, BURST = 50, 100
"""Of one client address, before keys are looked at: a wall against floods, far above what one user needs."""
CONNECTIONS_MAX = 200
"""Of one client address at a time; each stream holds one (HTTP/1.1)."""
SLACK_S = 10
"""Timeouts of the proxy are longer by so much: the gateway knows why an answer does not come, and says it."""


@dataclass(frozen=True, slots=True)
class Address:
    """One gateway's."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """As identifiers of proxies may be."""
        return "".join(letter if letter.isalnum() else "-" for letter in f"{self.host}-{self.port}")


def gateway_addresses(shipment: Shipment) -> list[Address]:
    """Those that the operator named, or the names that the gateways have in their own network."""
    if shipment.upstreams:
        return [Address(*split_listen(each)) for each in shipment.upstreams]
    return [
        Address(f"{shipment.name}-gateway-{number}", shipment.port) for number in range(shipment.gateways)
    ]


def answer_timeout_s(shipment: Shipment) -> int:
    """The longest silence that is no fault: queue and prefill, or an engine between two tokens."""
    gateway = shipment.config.gateway
    return math.ceil(max(gateway.first_byte_timeout_s, gateway.idle_timeout_s)) + SLACK_S


def connect_timeout_s(shipment: Shipment) -> int:
    """To open a connection to a gateway; they are near."""
    return math.ceil(min(shipment.config.gateway.connect_timeout_s, 5))


def body_max_bytes(shipment: Shipment) -> int:
    """Of a request's body: no other bound than the gateway's own."""
    return int(shipment.config.gateway.body_max_bytes)


def upstream_tls(shipment: Shipment) -> bool:
    """The gateways speak HTTPS themselves."""
    return shipment.config.gateway.tls is not None


def error_body(code: str, message: str, kind: str = "invalid_request_error") -> str:
    """An error of the proxy's own in the API's shape, for clients that read nothing else."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


TOO_MANY = error_body(
    "rate_limit_exceeded",
    "Too many requests from this address. Wait a second, then send fewer at a time.",
    "rate_limit_error",
)
TOO_LARGE = error_body("request_too_large", "The body of this request is too long for this gateway.")
NOT_HERE = error_body("not_found", "This address is not served to other machines.")
NO_GATEWAY = error_body(
    "no_gateway", "No gateway answers at the moment. Try again in some seconds.", "api_error"
)
