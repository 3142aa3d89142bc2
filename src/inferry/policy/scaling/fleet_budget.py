"""Several deployments, one budget of GPUs and money: who may have what of it.

Everybody's wish for fewer is granted, but what begins to leave now makes no room yet: it has its GPUs until it is gone,
and the looks after that give them away. More replicas are granted one by one: the more urgent first, of equals those
earlier in the file; one replica each in turn, so that nobody takes all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inferry.core.scaling_settings import Scaling
from inferry.policy.scaling.figures import replicas, told

_SLACK = 1e-9
"""Sums of prices are binary fractions."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one deployment has and wants; in the order of the file."""

    deployment: str
    was: int
    to: int
    gpus_per_replica: int = 0
    price_per_hour: float = 0.0
    """Of one replica."""
    urgency: int = 0
    """Higher goes first."""


def budget_price(scaling: Scaling | None) -> float:
    """Of one replica's hour, as budgets of money count it, running and simulated: what the file says, 0 where it says
    nothing. What others know of prices is for reports."""
    return 0.0 if scaling is None else scaling.replica_price_per_hour or 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    deployment: str
    to: int
    because: str
    """What was cut, and why; empty where nothing was."""


def share_out(
    claims: Sequence[Claim], *, gpus_max: int | None = None, money_per_hour_max: float | None = None
) -> list[Grant]:
    """What each may have, in the order of `claims`. Nobody gets fewer than it has, but by its own wish: a budget that
    was lowered below what runs already stops growth, and takes nothing away."""
    granted = [min(claim.was, claim.to) for claim in claims]
    gpus = sum(claim.was * claim.gpus_per_replica for claim in claims)
    money = sum(claim.was * claim.price_per_hour for claim in claims)
    order = sorted(range(len(claims)), key=lambda index: -claims[index].urgency)
    refused: dict[int, str] = {}
    for urgency in sorted({claim.urgency for claim in claims}, reverse=True):
        open_ = [index for index in order if claims[index].urgency == urgency]
        while open_ := [i for i in open_ if granted[i] < claims[i].to and i not in refused]:
            for index in open_:
                claim = claims[index]
                if (
                    gpus_max is not None
                    and claim.gpus_per_replica
                    and gpus + claim.gpus_per_replica > gpus_max
                ):
                    refused[index] = f"{gpus} of the host's {gpus_max} GPUs are taken"
                elif (
                    money_per_hour_max is not None
                    and claim.price_per_hour
                    and money + claim.price_per_hour > money_per_hour_max + _SLACK
                ):
                    refused[index] = (
                        f"{told(money)} of the host's {told(money_per_hour_max)} per hour is spent"
                    )
                else:
                    granted[index] += 1
                    gpus += claim.gpus_per_replica
                    money += claim.price_per_hour
    return [
        Grant(claim.deployment, granted[index], _told(claim, granted[index], refused.get(index, "")))
        for index, claim in enumerate(claims)
    ]


def _told(claim: Claim, granted: int, why: str) -> str:
    if granted == claim.to:
        return ""
    return f"{replicas(granted - claim.was)} of {claim.to - claim.was} more: {why}"
