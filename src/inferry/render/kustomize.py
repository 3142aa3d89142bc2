"""The Kubernetes objects as a kustomize base, with an overlay for trying out and one for production.

Fields: kubectl.docs.kubernetes.io/references/kustomize.
"""

from __future__ import annotations

from typing import Any

from inferry.render.kubernetes.engines import replicas_max
from inferry.render.kubernetes.external_secrets import recipe
from inferry.render.kubernetes.naming import engine_name, gateway_name
from inferry.render.kubernetes.rendering import base_files, check_names
from inferry.render.shipment import Files, Shipment
from inferry.render.yaml_text import Data, Why, yaml_text


def render_kustomize(shipment: Shipment) -> Files:
    """`base/`, `overlays/dev/` and `overlays/prod/`. Raises ConfigError as `render_kubernetes`."""
    check_names(shipment)
    base = base_files(shipment)
    files = {f"base/{name}": text for name, text in base.items()}
    files["base/kustomization.yaml"] = yaml_text(_kustomization(resources=sorted(base)))
    files["overlays/dev/kustomization.yaml"] = yaml_text(
        _dev(shipment),
        "To try it out: kubectl apply -k overlays/dev. One of each, in a namespace of its own.",
    )
    files["overlays/prod/kustomization.yaml"] = yaml_text(
        _prod(shipment), "For production: kubectl apply -k overlays/prod"
    )
    files["secrets.sh"] = recipe(shipment)
    return files


def _kustomization(**fields: Any) -> Data:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields}


def _image(shipment: Shipment) -> tuple[str, str]:
    """Name and version; a port of the registry is no version."""
    name, mark, version = shipment.image.rpartition("@" if "@" in shipment.image else ":")
    assert mark, "checked by whoever made the shipment"
    return name, version


def _dev(shipment: Shipment) -> Data:
    counts = [{"name": gateway_name(shipment), "count": 1}]
    counts += [{"name": engine_name(shipment, each.name), "count": 1} for each in shipment.engines]
    gone = {
        "target": {"kind": "PodDisruptionBudget"},
        "patch": "$patch: delete\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata:\n  name: any\n",
    }
    return _kustomization(
        namespace=f"{shipment.name}-dev",
        resources=["../../base"],
        replicas=counts,
        patches=Why("With one of each, budgets would only hold nodes up.", [gone]),
        labels=[{"pairs": {"inferry.dev/stage": "dev"}, "includeTemplates": True}],
    )


def _prod(shipment: Shipment) -> Data:
    name, version = _image(shipment)
    image: dict[str, Any] = {"name": name}
    if "@" in shipment.image:
        image["digest"] = version
    else:
        image["newTag"] = Why("Better a digest: a tag can be moved under you.", version)
    fields: dict[str, Any] = {
        "resources": ["../../base"],
        "images": [image],
        "labels": [{"pairs": {"inferry.dev/stage": "prod"}, "includeTemplates": True}],
    }
    most = {engine_name(shipment, each.name): replicas_max(each) for each in shipment.engines}
    if most:
        fields["replicas"] = Why(
            "As the file says; the gateway knows addresses up to: "
            + ", ".join(f"{name} {count}" for name, count in most.items())
            + ". More need a new 'inferry render'.",
            [{"name": engine_name(shipment, each.name), "count": each.replicas} for each in shipment.engines],
        )
    return _kustomization(**fields)
