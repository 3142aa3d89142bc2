"""`inferry render kubernetes`: all objects in files, with a kustomization that applies what every cluster takes."""

from __future__ import annotations

from collections.abc import Iterable

from inferry.core.errors import ConfigError
from inferry.render.kubernetes import (
    autoscaling,
    cluster,
    edge,
    engines,
    external_secrets,
    gateway,
    network,
    watching,
)
from inferry.render.kubernetes.naming import engine_name
from inferry.render.shipment import Files, Shipment
from inferry.render.yaml_text import Data, documents, yaml_text

PROMETHEUS_URL = "http://prometheus-operated.monitoring.svc:9090"
_NEEDS_GPUS = """\
GPU nodes need NVIDIA's device plugin and GPU feature discovery (the GPU operator has both), and its DCGM exporter
for the GPU alerts and dashboards."""


def render_kubernetes(shipment: Shipment) -> Files:
    """Paths to texts: what is applied by `kubectl apply -k .`, and `options/` to choose from.

    Raises ConfigError for deployments whose names Kubernetes can't tell apart.
    """
    check_names(shipment)
    files = dict(base_files(shipment))
    resources = sorted(files)
    files["kustomization.yaml"] = yaml_text(
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources},
        "Apply with: kubectl apply -k .   (make the Secrets first: secrets.sh)",
    )
    files |= _options(shipment)
    files["secrets.sh"] = external_secrets.recipe(shipment)
    return files


def base_files(shipment: Shipment) -> Files:
    """What every cluster takes."""
    files = {
        "namespace.yaml": _text([cluster.namespace(shipment), cluster.priority_class(shipment)]),
        "network.yaml": _text(network.policies(shipment)),
        "gateway.yaml": _text(_gateway(shipment)),
        "ingress.yaml": yaml_text(edge.ingress(shipment)),
    }
    if engines.needs_claim(shipment):
        files["models.yaml"] = yaml_text(engines.models_claim(shipment))
    for each in shipment.engines:
        head = "\n".join(each.notes) + ("\n" + _NEEDS_GPUS if each.plan.gpus else "")
        objects = [
            engines.stateful_set(shipment, each),
            engines.engine_service(shipment, each),
            engines.engine_budget(shipment, each),
        ]
        files[f"engine-{engine_name(shipment, each.name)}.yaml"] = _text(objects, head)
    return files


def _gateway(shipment: Shipment) -> list[Data]:
    found = [
        gateway.config_map(shipment),
        gateway.workload(shipment),
        gateway.service(shipment),
        gateway.service_account(shipment),
        gateway.disruption_budget(shipment),
    ]
    if shipment.admin_port is not None:
        found.append(gateway.admin_service(shipment))
    return found


def _options(shipment: Shipment) -> Files:
    """What not every cluster has, or what excludes one another."""
    files = {
        "options/gateway-api.yaml": _text(
            edge.gateway_api(shipment), "In place of ingress.yaml, with the Gateway API."
        ),
        "options/external-secrets.yaml": _text(
            external_secrets.external_secrets(shipment),
            "In place of secrets.sh, with the External Secrets operator.",
        ),
        "options/prometheus-operator.yaml": _text(
            [watching.service_monitor(shipment), watching.prometheus_rule(shipment)],
            "With the Prometheus operator: who is scraped, recording rules, alerts.",
        ),
    }
    scaled = [each for each in shipment.engines if autoscaling.is_scaled(each)]
    if scaled:
        files["options/hpa.yaml"] = _text(
            [autoscaling.horizontal_pod_autoscaler(shipment, each) for each in scaled],
            "Either this, with prometheus-adapter (prometheus-adapter-values.yaml), or keda.yaml: two scalers fight.",
        )
        files["options/prometheus-adapter-values.yaml"] = yaml_text(autoscaling.adapter_values(shipment))
        files["options/keda.yaml"] = _text(
            [autoscaling.scaled_object(shipment, each, PROMETHEUS_URL) for each in scaled],
            "Either this, with KEDA, or hpa.yaml: two scalers fight.",
        )
    return files


def _text(objects: Iterable[Data], head: str = "") -> str:
    first, *rest = objects
    return documents(yaml_text(first, head), *(yaml_text(each) for each in rest))


def check_names(shipment: Shipment) -> None:
    """Raises ConfigError for deployments whose names Kubernetes can't tell apart."""
    seen: dict[str, str] = {"gateway": "the gateway's own name"}
    for each in shipment.engines:
        name = engine_name(shipment, each.name).removeprefix(f"{shipment.name}-")
        if name in seen:
            raise ConfigError(
                f"deployments.{each.name}: Kubernetes would call it '{name}', which is {seen[name]}. Rename one of them"
            )
        seen[name] = f"deployments.{each.name} already"
