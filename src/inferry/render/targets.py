"""Every target of `inferry render`: its name, what it writes, and the function that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inferry.render.envoy import render_envoy
from inferry.render.haproxy import render_haproxy
from inferry.render.kong import render_kong
from inferry.render.kubernetes.rendering import render_kubernetes
from inferry.render.kustomize import render_kustomize
from inferry.render.nginx import render_nginx
from inferry.render.shipment import Files, Shipment
from inferry.render.traefik import render_traefik


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to render. `render` raises ConfigError for what this target can't do with the file."""

    name: str
    says: str
    render: Callable[[Shipment], Files]


TARGETS: tuple[Target, ...] = (
    Target("kubernetes", "objects for kubectl apply -k, and options to choose from", render_kubernetes),
    Target("kustomize", "the same as a base with overlays for dev and prod", render_kustomize),
    Target("nginx", "TLS and limits by address in front of the gateways", render_nginx),
    Target("haproxy", "the same with HAProxy, which asks gateways for their health", render_haproxy),
    Target("envoy", "the same with Envoy", render_envoy),
    Target("traefik", "the same with Traefik 3", render_traefik),
    Target("kong", "the same with Kong, without a database", render_kong),
)
