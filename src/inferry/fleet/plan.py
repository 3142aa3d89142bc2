"""What the fleet is asked to run: one record per deployment, complete and resolved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inferry.core.deployment import Deployment
from inferry.engines.adapter import LaunchableAdapter, RemoteAdapter


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    name: str
    deployment: Deployment
    adapter: LaunchableAdapter | RemoteAdapter
    model_path: Path | None = None
    """The model's file on this machine; None for engines that load none here."""
