"""How many replicas deployments have by hand: `inferry scale` wins over the file until the file says another number."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from inferry.core.deployment_base import ManagedBase
from inferry.fleet.plan import DeploymentPlan


class HandScales:
    """By deployment: the number by hand, and what the file says."""

    def __init__(self, plans: Sequence[DeploymentPlan]) -> None:
        self._by_hand: dict[str, int] = {}
        self._in_file: dict[str, int] = {}
        self.settle(plans)

    def set(self, name: str, replicas: int) -> None:
        """From now on so many; the file's own number is no number by hand."""
        self._by_hand[name] = replicas
        if replicas == self._in_file[name]:
            del self._by_hand[name]

    def of(self, name: str) -> int | None:
        """The number by hand; None: the file's holds."""
        return self._by_hand.get(name)

    def in_file(self, name: str) -> int:
        """What the file says."""
        return self._in_file[name]

    def over(self, plan: DeploymentPlan) -> DeploymentPlan:
        """`plan`, which a file wants, with the number by hand if that still holds."""
        by_hand = self._by_hand.get(plan.name)
        if by_hand is None or _replicas(plan) != self._in_file.get(plan.name):
            return plan
        return with_replicas(plan, by_hand)

    def settle(self, plans: Sequence[DeploymentPlan], kept: Collection[str] = ()) -> None:
        """This file is in force, but for the deployments in `kept`, which are as before. Numbers by hand end where
        its number is another one."""
        now = {plan.name: _replicas(plan) for plan in plans}
        was, self._in_file = self._in_file, {}
        for name, replicas in now.items():
            if name in kept and name in was:
                self._in_file[name] = was[name]
            elif replicas is not None:
                self._in_file[name] = replicas
        self._by_hand = {
            name: count for name, count in self._by_hand.items() if was[name] == self._in_file.get(name)
        }


def with_replicas(plan: DeploymentPlan, replicas: int) -> DeploymentPlan:
    """The same, with so many replicas."""
    return replace(plan, deployment=plan.deployment.model_copy(update={"replicas": replicas}))


def _replicas(plan: DeploymentPlan) -> int | None:
    return plan.deployment.replicas if isinstance(plan.deployment, ManagedBase) else None
