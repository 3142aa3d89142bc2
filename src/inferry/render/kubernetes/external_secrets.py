"""Secrets: what has to be made, by hand or by the External Secrets operator. Never a value."""

from __future__ import annotations

from collections.abc import Mapping

from inferry.engines.pod import secret_keys, secrets_name
from inferry.engines.shell_text import KEY_NAME
from inferry.render.kubernetes.gateway import secret_name
from inferry.render.kubernetes.naming import gateway_name, kubernetes_object
from inferry.render.kubernetes.watching import metrics_secret
from inferry.render.shipment import Shipment
from inferry.render.yaml_text import Data, Why


def wanted(shipment: Shipment) -> Mapping[str, list[str]]:
    """Each Secret that pods refer to, and the keys in it."""
    found: dict[str, list[str]] = {}
    if shipment.secrets:
        found[secret_name(shipment)] = list(shipment.secrets)
    for engine in shipment.engines:
        keys = [*secret_keys(engine.plan), *(["HF_TOKEN"] if engine.plan.model.hub else [])]
        if keys:
            found[secrets_name(engine.plan)] = list(dict.fromkeys(keys))
    if shipment.file_mounts:
        found[f"{gateway_name(shipment)}-files"] = [
            each.inside.rpartition("/")[2] for each in shipment.file_mounts
        ]
    found[metrics_secret(shipment)] = ["key"]
    return found


def recipe(shipment: Shipment) -> str:
    """A script that makes them from files, since arguments can be read by everybody on the machine."""
    sources = {each.inside.rpartition("/")[2]: str(each.outside) for each in shipment.file_mounts}
    lines = [
        "#!/bin/sh",
        "# Makes the Secrets that the pods refer to. Put each value into a file of its name first, readable by you only;",
        "# HF_TOKEN may be empty where the models are public.",
        "set -eu",
        "umask 077",
        f"kubectl create namespace {shipment.name} --dry-run=client -o yaml | kubectl apply -f -",
    ]
    for name, keys in wanted(shipment).items():
        lines.append("")
        if name == metrics_secret(shipment):
            kind = "statefulset" if shipment.keeps_state else "deployment"
            make = "inferry keys create --tenant prometheus --scope read-only --json"
            lines += [
                "# With which Prometheus reads metrics: once the gateway runs, make a key there, put it into the file 'key',",
                "# and run this script again:",
                f"#   kubectl --namespace {shipment.name} exec {kind}/{gateway_name(shipment)} -- {make}",
                "[ -f key ] || exit 0",
            ]
        if KEY_NAME in keys:
            lines.append(f"[ -f {KEY_NAME} ] || openssl rand -hex 32 | tr -d '\\n' > {KEY_NAME}")
        options = [f"  --from-file={key}={sources.get(key, key)}" for key in keys]
        made = " \\\n".join([f"kubectl --namespace {shipment.name} create secret generic {name}", *options])
        lines.append(f"{made} \\\n  --dry-run=client -o yaml | kubectl apply -f -")
    return "\n".join(lines) + "\n"


def external_secrets(shipment: Shipment) -> list[Data]:
    """The same from a secret store, by the External Secrets operator (external-secrets.io, v1)."""
    found = []
    for name, keys in wanted(shipment).items():
        spec = {
            "refreshInterval": "1h",
            "secretStoreRef": Why(
                "Yours: kubectl get clustersecretstores", {"kind": "ClusterSecretStore", "name": "default"}
            ),
            "target": {"name": name},
            "data": [
                {"secretKey": key, "remoteRef": {"key": f"{shipment.name}/{name}", "property": key}}
                for key in keys
            ],
        }
        found.append(
            kubernetes_object(
                shipment, "ExternalSecret", "external-secrets.io/v1", name, "secrets", {"spec": spec}
            )
        )
    return found
