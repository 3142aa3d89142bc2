"""All rules as plain data, for whoever puts them elsewhere: a PrometheusRule of Kubernetes has the same groups."""

from __future__ import annotations

from typing import Any

from inferry.render.prometheus.alerts import alert_groups
from inferry.render.prometheus.recording import recording_groups
from inferry.render.shipment import Shipment
from inferry.render.yaml_text import without_reasons


def rule_groups(shipment: Shipment) -> list[dict[str, Any]]:
    """Recording rules first, then alerts. Their annotations hold `{{ ... }}`: a Helm template has to escape these."""
    groups = [*recording_groups(shipment), *alert_groups(shipment)]
    plain: list[dict[str, Any]] = without_reasons(groups)
    return plain
