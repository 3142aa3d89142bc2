"""Every target of `inferry render`: its name, what it writes, and the function that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inferry.render.compose import render_compose
from inferry.render.docker import render_docker
from inferry.render.envoy import render_envoy
from inferry.render.grafana.rendering import render_grafana
from inferry.render.haproxy import render_haproxy
from inferry.render.helm.chart import render_helm
from inferry.render.kong import render_kong
from inferry.render.kubernetes.rendering import render_kubernetes
from inferry.render.kustomize import render_kustomize
from inferry.render.nginx import render_nginx
from inferry.render.prometheus.rendering import render_prometheus
from inferry.render.shipment import Files, Shipment
from inferry.render.systemd import render_systemd
from inferry.render.traefik import render_traefik


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to render. `render` raises ConfigError for what this target can't do with the file."""

    name: str
    says: str
    render: Callable[[Shipment], Files]


TARGETS: tuple[Target, ...] = (
    Target("docker", "the gateway's image", render_docker),
    Target("compose", "gateway and engines on one machine", render_compose),
    Target("systemd", "units for a machine without containers, and a backup each night", render_systemd),
    Target("kubernetes", "objects for kubectl apply -k, and options to choose from", render_kubernetes),
    Target("kustomize", "the same as a base with overlays for dev and prod", render_kustomize),
    Target("helm", "the same as a chart with values", render_helm),
    Target("nginx", "TLS and limits by address in front of the gateways", render_nginx),
    Target("haproxy", "the same with HAProxy, which asks gateways for their health", render_haproxy),
    Target("envoy", "the same with Envoy", render_envoy),
    Target("traefik", "the same with Traefik 3", render_traefik),
    Target("kong", "the same with Kong, without a database", render_kong),
    Target("prometheus", "whom to scrape, recording rules, alerts", render_prometheus),
    Target("grafana", "dashboards, and how Grafana finds them", render_grafana),
)
