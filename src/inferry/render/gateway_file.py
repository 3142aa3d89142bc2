"""The deployment file as a gateway in a container reads it: it listens for all, and engines are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferry.render.shipment import ADMIN_PORT, Shipment
from inferry.render.yaml_text import Why, yaml_text

LAUNCH_ONLY = frozenset(
    {
        "binary",
        "cpu_threads",
        "env",
        "extra_args",
        "gpus",
        "start_timeout_s",
        "stop_grace_s",
        "threads",
        "version",
    }
)
"""Keys that only matter to whoever starts the engine."""
STARTS_REPLICAS = frozenset(
    {"load", "load_wait_s", "replicas", "rollout", "scaling", "standby", "idle_unload_s"}
)
"""Keys for a gateway that can start replicas: at fixed endpoints it can't."""


def gateway_file(
    shipment: Shipment,
    endpoints: Mapping[str, Sequence[str]] | None = None,
    runtime: Mapping[str, Any] | None = None,
    api_keys: Mapping[str, str] | None = None,
) -> str:
    """Its text. `endpoints`: by deployment, the base URLs at which its replicas will be found.

    `runtime`: the section of that name, where replicas are looked after by another runtime. `api_keys`: by deployment,
    the environment variable that holds its engine's key.
    """
    tree: dict[str, Any] = {"gateway": _gateway(shipment)}
    if runtime is not None:
        tree["runtime"] = dict(runtime)
    for section, value in shipment.tree.items():
        if section not in ("gateway", "deployments", "admin", "runtime"):
            tree[section] = value
    if shipment.admin_port is not None:
        admin = dict(shipment.tree["admin"])
        tree["admin"] = admin | {"listen": f"0.0.0.0:{ADMIN_PORT}"}
    tree["deployments"] = {
        name: _deployment(dict(deployment), (endpoints or {}).get(name), (api_keys or {}).get(name))
        for name, deployment in shipment.tree["deployments"].items()
    }
    return yaml_text(tree, "The deployment file of the gateway in its container, made by 'inferry render'.")


def _gateway(shipment: Shipment) -> dict[str, Any]:
    gateway = dict(shipment.tree.get("gateway") or {})
    gateway["listen"] = Why(
        "For all: inside a container, only its own network can connect.", f"0.0.0.0:{shipment.port}"
    )
    if shipment.config.gateway.auth == "none" and not shipment.config.gateway.allow_unauthenticated:
        gateway["auth"] = Why(
            "Other machines can reach it now: make keys with 'inferry keys create' inside of the container.",
            "keys",
        )
    return gateway


def _deployment(
    deployment: dict[str, Any], endpoints: Sequence[str] | None, key_name: str | None
) -> dict[str, Any]:
    if endpoints is None:
        return deployment
    kept = {key: value for key, value in deployment.items() if key not in LAUNCH_ONLY | STARTS_REPLICAS}
    kept["endpoints"] = Why("One for each replica; they are started elsewhere.", list(endpoints))
    if key_name is not None:
        kept["api_key"] = f"${{{key_name}}}"
    return kept
