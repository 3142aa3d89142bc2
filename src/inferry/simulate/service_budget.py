"""GPUs and money of a host that several simulated deployments share: cut by the class that cuts in production."""

from __future__ import annotations

from dataclasses import dataclass

from inferry.policy.scaling.fleet_budget import Claim, budget_price, share_out
from inferry.simulate.service import Service
from inferry.simulate.service_replicas import Replicas


@dataclass(frozen=True, slots=True)
class HostBudget:
    """What all deployments together may have; None: there is no bound."""

    gpus_max: int | None = None
    money_per_hour_max: float | None = None
    others: tuple[Claim, ...] = ()
    """Deployments that are not simulated: they keep what they have, and wish for nothing."""


class SharedBudget:
    """Asked by one deployment after the other, in the order of their looks; the fleet's loop asks for all at once that are
    due at the same moment."""

    def __init__(self, budget: HostBudget) -> None:
        self._budget = budget
        self._holders: list[tuple[Service, Replicas]] = []

    def add(self, service: Service, replicas: Replicas) -> None:
        """In the order of the file."""
        self._holders.append((service, replicas))

    def grant(self, name: str, wish: int, *, waits: bool) -> tuple[int, str]:
        """How many replicas it may have now, and why not all, where it may not. `waits`: requests wait for it. Those that
        leave have their GPUs until they are gone."""
        gpus, money = self._budget.gpus_max, self._budget.money_per_hour_max
        if gpus is None and money is None:
            return wish, ""
        claims: list[Claim] = list(self._budget.others)
        for service, replicas in self._holders:
            price = budget_price(service.scaling)
            beside = max(len(replicas.lives) - replicas.wanted, 0)
            gpus = None if gpus is None else gpus - beside * service.gpus_per_replica
            money = None if money is None else money - beside * price
            asks = service.name == name
            claims.append(
                Claim(
                    service.name,
                    replicas.wanted,
                    wish if asks else replicas.wanted,
                    service.gpus_per_replica,
                    price,
                    int(asks and waits),
                )
            )
        granted = share_out(claims, gpus_max=gpus, money_per_hour_max=money)
        return next((each.to, each.because) for each in granted if each.deployment == name)
