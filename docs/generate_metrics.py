"""The generated part of docs/metrics.md: all metric families, from the code that writes /metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric

from inferry.gateway.collector import families
from inferry.gateway.scaling_families import scaling_families
from inferry.gateway.snapshot import Snapshot
from inferry.gateway.standing_families import (
    backup_families,
    certificate_families,
    ledger_families,
    load_families,
    tenant_families,
)


def reference() -> str:
    """The tables: what each gateway counts, what is added for autoscaling, and the rest that stands still."""
    standing = [
        *load_families(()),
        *tenant_families({}, {}),
        *ledger_families(0.0),
        *certificate_families(0.0),
        *backup_families(None, 0.0),
    ]
    return "\n\n".join(
        [
            _table("Requests and replicas", families(Snapshot(), ())),
            _table("Autoscaling", scaling_families((), {})),
            _table("Engines, tenants, ledger, certificate, backup", standing),
        ]
    )


def _table(title: str, found: Iterable[Metric]) -> str:
    lines = [f"## {title}", "", "| Name | Type | Labels | What it says |", "|---|---|---|---|"]
    for family in sorted(found, key=lambda each: each.name):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ()))
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines)
