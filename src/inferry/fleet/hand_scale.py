"""How many replicas deployments have other than the file says: by hand (`inferry scale`), or by their own scaling.

A number by hand wins over both until the file says another number of replicas, or `inferry scale NAME auto`. A
number that was scaled to holds through changes of the file, too, within the bounds that it has then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from inferry.core.deployment_base import ManagedBase
from inferry.core.scaling_settings import Scaling
from inferry.fleet.plan import DeploymentPlan


@dataclass(frozen=True, slots=True)
class _InFile:
    """What the file says of a deployment."""

    replicas: int
    is_said: bool
    """Not so where `scaling.min` stands for it: another bound is no word about their number."""
    scaling: Scaling | None

    def says_the_same(self, other: _InFile) -> bool:
        """Of their number."""
        return self.is_said == other.is_said and (not self.is_said or self.replicas == other.replicas)


class HandScales:
    """By deployment: the number by hand, the one that was scaled to, and what the file says."""

    def __init__(self, plans: Sequence[DeploymentPlan]) -> None:
        self._by_hand: dict[str, int] = {}
        self._scaled: dict[str, int] = {}
        self._in_file: dict[str, _InFile] = {}
        self.settle(plans)

    def set(self, name: str, replicas: int) -> None:
        """From now on so many. The file's own number is no number by hand, but where scaling would change it."""
        self._by_hand[name] = replicas
        there = self._in_file[name]
        if there.scaling is None and replicas == there.replicas:
            del self._by_hand[name]

    def release(self, name: str) -> int | None:
        """No number by hand any more; the one that was. What it was scaled to begins there."""
        by_hand = self._by_hand.pop(name, None)
        if by_hand is not None:
            self._scaled[name] = by_hand
        return by_hand

    def set_scaled(self, name: str, replicas: int) -> None:
        """Its scaling wants so many."""
        self._scaled[name] = replicas

    def fall_asleep(self, name: str) -> None:
        """It is unloaded. What it was scaled to is over: it wakes with the least that its scaling has."""
        if (scaling := self.scaling(name)) is not None:
            self._scaled[name] = floor(scaling)

    def of(self, name: str) -> int | None:
        """The number by hand; None: the file's or that of its scaling holds."""
        return self._by_hand.get(name)

    def number(self, name: str) -> int:
        """The one that holds now, of all of these."""
        return self._by_hand.get(name, self._scaled.get(name, self.in_file(name)))

    def in_file(self, name: str) -> int:
        """What the file says."""
        return self._in_file[name].replicas

    def scaling(self, name: str) -> Scaling | None:
        """By what it is scaled, where the file says so."""
        there = self._in_file.get(name)
        return None if there is None else there.scaling

    def over(self, plan: DeploymentPlan) -> DeploymentPlan:
        """`plan`, which a file wants, with the number that holds instead of the file's, if one does."""
        now = _in_file(plan)
        if now is None:
            return plan
        by_hand, scaled = self._still(plan.name, now)
        number = scaled if by_hand is None else by_hand
        return plan if number is None else with_replicas(plan, number)

    def settle(self, plans: Sequence[DeploymentPlan], kept: Collection[str] = ()) -> None:
        """This file is in force, but for the deployments in `kept`, which are as before. Numbers end where the file
        says another one."""
        in_file: dict[str, _InFile] = {}
        for plan in plans:
            now = self._in_file.get(plan.name) if plan.name in kept else _in_file(plan)
            if now is not None:
                in_file[plan.name] = now
        still = {name: self._still(name, now) for name, now in in_file.items()}
        self._in_file = in_file
        self._by_hand = {name: by_hand for name, (by_hand, _) in still.items() if by_hand is not None}
        self._scaled = {name: scaled for name, (_, scaled) in still.items() if scaled is not None}

    def _still(self, name: str, now: _InFile) -> tuple[int | None, int | None]:
        """The number by hand and the one that it was scaled to, as far as they hold once the file says `now`."""
        was = self._in_file.get(name)
        if was is None or not now.says_the_same(was):
            return None, None
        by_hand, scaled = self._by_hand.get(name), self._scaled.get(name)
        if now.scaling is None:
            return by_hand if was.scaling is None else None, None
        if was.scaling is None:  # it is scaled from now on, and begins where it is
            by_hand, scaled = None, by_hand
        return by_hand, None if scaled is None else min(max(scaled, floor(now.scaling)), now.scaling.max)


def floor(scaling: Scaling) -> int:
    """The fewest replicas while it is awake: none at all is not for scaling, but for `idle_unload_s`."""
    return max(scaling.min, 1)


def with_replicas(plan: DeploymentPlan, replicas: int) -> DeploymentPlan:
    """The same, with so many replicas."""
    return replace(plan, deployment=plan.deployment.model_copy(update={"replicas": replicas}))


def _in_file(plan: DeploymentPlan) -> _InFile | None:
    deployment = plan.deployment
    if not isinstance(deployment, ManagedBase) or deployment.runs_elsewhere:
        return None
    is_said = deployment.scaling is None or "replicas" in deployment.model_fields_set
    return _InFile(deployment.replicas, is_said, deployment.scaling)
