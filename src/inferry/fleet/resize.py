"""Gives a deployment another number of replicas without waiting for anybody: those that come start at once, and those
that leave finish what they have while the next decisions are made.

A replica that leaves takes nothing new and ends when it holds nothing, exactly as one that is scaled away by hand: see
fleet/leaving.py. (Peers that end an engine some seconds after the signal lose what it was saying:
ai-dynamo/dynamo#13559.)
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol

from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import LifecycleRefused
from inferry.fleet.hand_scale import HandScales, with_replicas
from inferry.fleet.lifecycle import Doer, Lifecycle
from inferry.fleet.member import Member
from inferry.fleet.reconciler import Reconciler
from inferry.fleet.replica_set import ReplicaSet, seats
from inferry.fleet.rollout import Surroundings


@dataclass(frozen=True, slots=True)
class Resized:
    """What was begun."""

    came: tuple[str, ...] = ()
    """They start."""
    leaving: tuple[str, ...] = ()
    """They finish what they have."""
    why_not: str = ""
    """Nothing was changed, and this is why."""


class Beginner(Protocol):
    """Begins work on a fleet that runs, and does not wait for its end."""

    def __call__(
        self, work: Callable[[Surroundings], Coroutine[None, None, None]], drain_s: float
    ) -> None: ...


LeastToLose = Callable[[Sequence[Member]], Sequence[Member]]
"""Who should leave first."""


class Resizing:
    """See the module. Raises ConfigError when the fleet does not run, or is stopped meanwhile."""

    def __init__(
        self, reconciler: Reconciler, scales: HandScales, lifecycle: Lifecycle, do: Doer, begin: Beginner
    ) -> None:
        self._reconciler = reconciler
        self._scales = scales
        self._lifecycle = lifecycle
        self._do = do
        self._begin = begin

    def wanted(self, name: str) -> int:
        """Replicas that it is to have now, standby ones not counted; 0: its model is not loaded, or it has left."""
        there = self._reconciler.sets.get(name)
        if there is None or not there.is_loaded or not isinstance(there.plan.deployment, ManagedBase):
            return 0
        return there.plan.deployment.replicas

    async def resize(
        self, name: str, was: int, replicas: int, because: str, drain_s: float, least_to_lose: LeastToLose
    ) -> Resized:
        """So many from now on. Refused (`why_not`) where `was` is no more the number, or one was set by hand, since this
        was decided; while something else is under way there; and where it takes more memory than there is. `drain_s`:
        how long those that leave finish what they have before others go on with it.
        """

        async def work(around: Surroundings) -> Resized:
            there = self._reconciler.sets.get(name)
            if there is None or not isinstance(there.plan.deployment, ManagedBase):
                return Resized(why_not="it has left the file")
            if there.changing.locked():
                return Resized(why_not=f"something else is under way there: it {there.doing}")
            if not there.is_loaded:
                return Resized(why_not="its model is not loaded: a request brings it back")
            if (by_hand := self._scales.of(name)) is not None:
                return Resized(why_not=f"somebody set {by_hand} by hand meanwhile")
            if (now := there.plan.deployment.replicas) != was:
                return Resized(why_not=f"it was decided for {was} replicas, and {now} are wanted by now")
            async with there.held(f"is being scaled to {replicas}"):
                return self._resize(there, replicas, because, drain_s, least_to_lose, around)

        return await self._do(work, 0.0)

    def _resize(
        self,
        there: ReplicaSet,
        replicas: int,
        because: str,
        drain_s: float,
        least_to_lose: LeastToLose,
        around: Surroundings,
    ) -> Resized:
        plan = with_replicas(there.plan, replicas)
        if len(seats(plan)) > len(there.staying()):
            # Those that are on their way out still have their memory.
            leaving = len(there.members) - len(there.staying())
            try:
                self._lifecycle.check_memory(with_replicas(plan, replicas + leaving))
            except LifecycleRefused as error:
                return Resized(why_not=error.message)
        self._scales.set_scaled(plan.name, replicas)
        there.change(plan, self._reconciler.threads_for(plan))
        leavers = there.surplus(least_to_lose)
        if leavers:
            self._begin(lambda inner: there.retire(leavers, inner.leaving, because), drain_s)
            for member in leavers:
                member.is_leaving = True
        came = there.add_missing()
        for member in came:
            member.start(around.group)
        return Resized(tuple(each.id for each in came), tuple(each.id for each in leavers))
