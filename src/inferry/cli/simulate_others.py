"""The file's deployments that are not simulated: they keep the GPUs and the money that they have, as in production."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.core.deployment import DeploymentFile
from inferry.core.deployment_base import ManagedBase
from inferry.core.host_settings import Host
from inferry.fleet.scaler_budget import gpus_of, price_per_hour_of
from inferry.policy.scaling.fleet_budget import Claim


def claims_of_others(config: DeploymentFile, simulated: str) -> tuple[Claim, ...]:
    """What each takes of the host's budgets: the replicas with which it begins, and its reserve. One that is loaded on
    demand has nothing, since it is not loaded."""
    found = []
    for name, deployment in config.deployments.items():
        if name == simulated or not isinstance(deployment, ManagedBase) or deployment.on_demand:
            continue
        there = deployment.replicas + deployment.standby
        found.append(Claim(name, there, there, gpus_of(deployment), price_per_hour_of(deployment)))
    return tuple(found)


def others_text(host: Host, others: Sequence[Claim]) -> Sequence[str]:
    """For the report, where a budget makes it matter."""
    if host.gpus_max is None and host.money_per_hour_max is None:
        return ()
    takes = [each for each in others if each.gpus_per_replica or each.price_per_hour]
    if not takes:
        return ()
    gpus = sum(each.was * each.gpus_per_replica for each in takes)
    names = ", ".join(each.deployment for each in takes)
    return (f"of the host's budget, {names} keep what they begin with ({gpus} GPUs): they are not simulated",)
