"""The files of `inferry render grafana`: dashboards, and what makes Grafana load them at its start."""

from __future__ import annotations

import json

from inferry.render.grafana.dashboards import all_dashboards
from inferry.render.grafana.panels import DATASOURCE
from inferry.render.shipment import Files, Shipment
from inferry.render.yaml_text import Why, yaml_text

FOLDER = "/etc/grafana/dashboards"
"""Where the dashboards are to be mounted."""


def render_grafana(shipment: Shipment) -> Files:
    """Mount `provisioning` at /etc/grafana/provisioning and `dashboards` at /etc/grafana/dashboards."""
    dashboards = {
        f"dashboards/{name}.json": json.dumps(each, indent=2, ensure_ascii=False) + "\n"
        for name, each in all_dashboards(shipment).items()
    }
    source = {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Inferry Prometheus",
                "uid": Why("Dashboards name it: leave it as it is.", DATASOURCE["uid"]),
                "type": DATASOURCE["type"],
                "access": "proxy",
                "url": Why("Where Grafana finds your Prometheus.", "http://prometheus:9090"),
                "isDefault": True,
                "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
            }
        ],
    }
    provider = {
        "apiVersion": 1,
        "providers": [
            {
                "name": shipment.name,
                "folder": "Inferry",
                "type": "file",
                "allowUiUpdates": Why(
                    "What is changed in the browser would be gone at the next start: change it here, or copy it.",
                    False,
                ),
                "updateIntervalSeconds": 30,
                "options": {"path": FOLDER},
            }
        ],
    }
    return {
        "provisioning/datasources/inferry.yaml": yaml_text(source),
        "provisioning/dashboards/inferry.yaml": yaml_text(provider),
        **dashboards,
    }
