"""From what runs to what a new file wants, without dropping anything: who starts, who leaves, in which order.

1. Deployments that are gone, and surplus replicas, drain and end: that frees memory for the rest.
2. Then, in the file's order: settings change, missing replicas start, and replicas that can't serve the new
   file are replaced, step by step: see fleet/rollout.py. If new ones are no good, the deployment is put back as
   it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from inferry.fleet.keeper_maker import KeeperMaker
from inferry.fleet.leaving import Leaving
from inferry.fleet.member import Member
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.replica_set import ReplicaSet
from inferry.fleet.rollout import Rollout, Surroundings
from inferry.fleet.scaler_victims import by_held
from inferry.fleet.threads import share_threads

BY_FILE = "the file has changed"
TURN_S = 60.0
"""Deployments start one after the other, so that each sees the memory that the ones before have left; but
no longer than this does one that hangs hold up the next."""


class Reconciler:
    """Owns the replica sets, by deployment, in the file's order. One call at a time: its caller sees to that."""

    def __init__(self, plans: Sequence[DeploymentPlan], maker: KeeperMaker, cores: int) -> None:
        self.sets: dict[str, ReplicaSet] = {}
        self._maker = maker
        self._cores = cores
        self._indexes: dict[str, Iterator[int]] = {}
        """By deployment, those that are gone included: a replica's id is never used again."""
        threads = share_threads(plans, cores)
        for plan in plans:
            self._new_set(plan, threads[plan.name]).add_missing()

    def members(self) -> list[Member]:
        return [member for each in self.sets.values() for member in each.members.values()]

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Start all that was planned at first, each deployment when the one before has had its turn."""
        for each in list(self.sets.values()):
            await start_in_turn(list(each.members.values()), group)

    async def reconcile(
        self,
        plans: Sequence[DeploymentPlan],
        around: Surroundings,
        over: Callable[[DeploymentPlan], DeploymentPlan] = lambda plan: plan,
    ) -> dict[str, str]:
        """Make it so. `over`: a plan with the number of replicas that holds when its turn comes: while others were
        replaced, it may have been scaled. Returns the deployments that run as before because new replicas were no good, with the
        reason. Cancelled, it stops in between: whoever is leaving then is still a member."""
        threads = share_threads([over(plan) for plan in plans], self._cores)
        await self._shrink(plans, around.leaving, over)
        kept: dict[str, str] = {}
        for plan in plans:
            there = self.sets.get(plan.name)
            if there is None:
                there = self._new_set(over(plan), threads[plan.name])
                await start_in_turn(there.add_missing(), around.group)
                continue
            if there.is_busy_with(over(plan)):  # a long canary there is no reason to wait for all others
                continue
            async with there.held(BY_FILE):
                why = await self._fit(there, over(plan), threads[plan.name], around)
            if why is not None:
                kept[plan.name] = why
        self.sets = {plan.name: self.sets[plan.name] for plan in plans}
        return kept

    def threads_for(self, plan: DeploymentPlan) -> int:
        """For each replica of a deployment, if it ran `plan` from now on."""
        plans = [plan if each.plan.name == plan.name else each.plan for each in self.sets.values()]
        return share_threads(plans, self._cores)[plan.name]

    async def _fit(
        self, there: ReplicaSet, plan: DeploymentPlan, threads: int, around: Surroundings
    ) -> str | None:
        """None if all went well, or why the deployment is as it was."""
        outdated = there.outdated(plan) if there.is_loaded else []
        if outdated:
            rollout = Rollout(there, plan, threads, around, reason=BY_FILE)
            if (why := await rollout.run(outdated, canary=True)) is not None:
                return why
        there.change(plan, threads)
        added = there.add_missing()
        await start_in_turn(added, around.group)
        # Endpoints: those that take over have been asked once before the others go.
        if there.surplus():
            for member in added:
                await member.keeper.settled.wait()
            order = by_held(around.leaving.gateway.in_flight)
            await there.retire(there.surplus(order), around.leaving)
        return None

    async def _shrink(
        self,
        plans: Sequence[DeploymentPlan],
        leaving: Leaving,
        over: Callable[[DeploymentPlan], DeploymentPlan],
    ) -> None:
        wanted = {plan.name: plan for plan in plans}
        async with asyncio.TaskGroup() as group:
            for name, each in self.sets.items():
                group.create_task(_shrink_one(each, wanted.get(name), leaving, over))
        self.sets = {name: each for name, each in self.sets.items() if name in wanted}

    def _new_set(self, plan: DeploymentPlan, threads: int) -> ReplicaSet:
        indexes = self._indexes.setdefault(plan.name, count())
        self.sets[plan.name] = made = ReplicaSet(plan, threads, self._maker, indexes)
        return made


async def start_in_turn(members: Sequence[Member], group: asyncio.TaskGroup) -> None:
    """Start them together; returns when each is ready, or has failed once, or TURN_S are over."""
    for member in members:
        member.start(group)
    try:
        async with asyncio.timeout(TURN_S):
            for member in members:
                await member.keeper.had_turn.wait()
    except TimeoutError:
        return


async def _shrink_one(
    there: ReplicaSet,
    plan: DeploymentPlan | None,
    leaving: Leaving,
    over: Callable[[DeploymentPlan], DeploymentPlan],
) -> None:
    if plan is not None and there.is_busy_with(over(plan)):
        return
    async with there.held(BY_FILE):
        plan = None if plan is None else over(plan)
        if plan is None:
            await there.retire(list(there.members.values()), leaving)
        elif not there.outdated(plan) and not plan.deployment.runs_elsewhere:
            there.change(plan, there.threads)
            await there.retire(there.surplus(by_held(leaving.gateway.in_flight)), leaving)
