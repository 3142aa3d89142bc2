"""What deployments may have of the host's GPUs and money, all together: see policy/scaling/fleet_budget.py.

Replicas that are on their way out, and those in reserve, have their GPUs: nothing new starts on them before they are
gone. (ai-dynamo/dynamo#12428: a rebalance that exceeds the budget for a while, and then sticks.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inferry.core.deployment import Deployment
from inferry.core.deployment_base import ManagedBase
from inferry.core.host_settings import Host
from inferry.core.server_engines import OllamaDeployment, ServerBase
from inferry.fleet.plan import DeploymentPlan
from inferry.policy.scaling.fleet_budget import Claim, Grant, budget_price, share_out


@dataclass(frozen=True, slots=True)
class Holding:
    """What a deployment has now, and wants."""

    plan: DeploymentPlan
    wanted: int
    """Replicas that it is to have."""
    beside: int
    """More that are there: on their way out, or in reserve."""
    wish: int | None = None
    """What its scaling decided just now; None: nothing."""
    waits: bool = False
    """Requests wait for it: it goes before those that only foresee some."""


def grants(host: Host, holdings: Sequence[Holding]) -> Mapping[str, Grant]:
    """By deployment, in the file's order. All of them must be told, whether they are scaled or not."""
    gpus, money = host.gpus_max, host.money_per_hour_max
    claims = []
    for each in holdings:
        per_replica, price = gpus_per_replica(each.plan), price_per_hour_of(each.plan.deployment)
        gpus = None if gpus is None else gpus - each.beside * per_replica
        money = None if money is None else money - each.beside * price
        wish = each.wanted if each.wish is None else each.wish
        claims.append(Claim(each.plan.name, each.wanted, wish, per_replica, price, int(each.waits)))
    return {grant.deployment: grant for grant in share_out(claims, gpus_max=gpus, money_per_hour_max=money)}


def gpus_per_replica(plan: DeploymentPlan) -> int:
    """0 where it takes none, or nobody knows."""
    return gpus_of(plan.deployment)


def gpus_of(deployment: Deployment) -> int:
    """Of one replica, as `gpus_per_replica`."""
    if isinstance(deployment, ServerBase):
        return deployment.gpus_per_replica
    return deployment.gpu_count if isinstance(deployment, OllamaDeployment) else 0


def price_per_hour_of(deployment: Deployment) -> float:
    """Of one replica, as the budget of money counts it; 0 where the file says none."""
    return budget_price(deployment.scaling if isinstance(deployment, ManagedBase) else None)
