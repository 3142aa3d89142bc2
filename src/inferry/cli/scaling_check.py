"""What of `scaling:` only this machine can tell: whether it knows the time zones that schedules name."""

from __future__ import annotations

from inferry.core.clock import week_minute
from inferry.core.deployment import DeploymentFile
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError


def check_scaling(config: DeploymentFile) -> None:
    """Raises ConfigError with each zone that is not known here: its schedule would never hold."""
    unknown = []
    for name, deployment in config.deployments.items():
        if not isinstance(deployment, ManagedBase) or deployment.scaling is None:
            continue
        for index, entry in enumerate(deployment.scaling.schedule):
            if week_minute(0.0, entry.timezone) is None:
                unknown.append(
                    f"deployments.{name}.scaling.schedule.{index}.timezone: '{entry.timezone}' is no time zone that "
                    "this machine knows: write a place as Europe/Berlin, or UTC. Where it knows none at all: pip "
                    "install tzdata"
                )
    if unknown:
        raise ConfigError("\n".join(unknown))
