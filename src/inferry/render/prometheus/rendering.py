"""The files of `inferry render prometheus`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inferry.render.prometheus.alerts import alert_groups
from inferry.render.prometheus.recording import recording_groups
from inferry.render.prometheus.scraping import (
    alertmanager_config,
    engine_targets,
    gateway_targets,
    gpu_targets,
    prometheus_config,
)
from inferry.render.shipment import Files, Shipment
from inferry.render.yaml_text import yaml_text


def render_prometheus(shipment: Shipment) -> Files:
    """Configuration, rules, whom to scrape, and an Alertmanager's configuration to begin with."""
    files = {
        "prometheus.yml": yaml_text(
            prometheus_config(shipment), "Prometheus for Inferry, made by 'inferry render'."
        ),
        "rules/recording.yml": yaml_text({"groups": recording_groups(shipment)}),
        "rules/alerts.yml": yaml_text(
            {"groups": alert_groups(shipment)},
            "Each alert's page, at runbook_url, is in Inferry's documentation.",
        ),
        "targets/gateways.yml": _list_text(
            gateway_targets(shipment), "Gateways: edit it freely, Prometheus looks again by itself."
        ),
        "alertmanager.yml": yaml_text(alertmanager_config(), "An Alertmanager to begin with."),
    }
    engines, gpus = engine_targets(shipment), gpu_targets(shipment)
    if engines:
        files["targets/engines.yml"] = _list_text(
            engines, "Engines, by the names that they have in a Compose network."
        )
    if gpus:
        files["targets/gpus.yml"] = _list_text(gpus, "DCGM exporters, one for each machine with GPUs.")
    return files


def _list_text(items: Sequence[Any], head: str) -> str:
    # A file of targets is a list, and documents are mappings: written as one's value, without its key.
    lines = yaml_text({"all": list(items)}).splitlines()[1:]
    return f"# {head}\n" + "".join(line.removeprefix("  ") + "\n" for line in lines)
