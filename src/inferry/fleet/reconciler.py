"""From what runs to what a new file wants, without dropping anything: who starts, who leaves, in which order.

1. Deployments that are gone, and surplus replicas, drain and end: that frees memory for the rest.
2. Then, in the file's order: settings change, missing replicas start, and replicas that can't serve the new
   file are replaced: a new one is ready before an old one is drained.

One replica more than the file says is needed while a deployment is replaced. Where there is no room for it, it
does not start, and then the deployment is put back as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import count

import structlog

from inferry.core.remote_engines import OpenAIDeployment
from inferry.fleet.keeper_maker import KeeperMaker
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.replica_set import Leaving, Member, ReplicaSet, needs_replacing, seats
from inferry.fleet.threads import share_threads

log = structlog.get_logger()

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
            await _start(list(each.members.values()), group)

    async def reconcile(
        self, plans: Sequence[DeploymentPlan], leaving: Leaving, group: asyncio.TaskGroup
    ) -> dict[str, str]:
        """Make it so. Returns the deployments that run as before because the new engine did not start, with the
        reason. Cancelled, it stops in between: whoever is leaving then is still a member."""
        threads = share_threads(plans, self._cores)
        await self._shrink(plans, leaving)
        kept: dict[str, str] = {}
        for plan in plans:
            there = self.sets.get(plan.name)
            if there is None:
                there = self._new_set(plan, threads[plan.name])
                await _start(there.add_missing(), group)
            elif there.is_loaded and needs_replacing(there.plan, plan):
                why = await self._replace(there, plan, threads[plan.name], leaving, group)
                if why is not None:
                    kept[plan.name] = why
                    log.warning("rollout_taken_back", deployment=plan.name, because=why.partition("\n")[0])
            else:
                there.change(plan, threads[plan.name])
                added = there.add_missing()
                await _start(added, group)
                # Endpoints: those that take over have been asked once before the others go.
                if there.surplus():
                    for member in added:
                        await member.keeper.settled.wait()
                    await there.retire(there.surplus(), leaving)
        self.sets = {plan.name: self.sets[plan.name] for plan in plans}
        return kept

    async def _shrink(self, plans: Sequence[DeploymentPlan], leaving: Leaving) -> None:
        wanted = {plan.name: plan for plan in plans}
        async with asyncio.TaskGroup() as group:
            for name, each in self.sets.items():
                plan = wanted.get(name)
                if plan is None:
                    group.create_task(each.retire(list(each.members.values()), leaving))
                elif not needs_replacing(each.plan, plan) and not isinstance(
                    plan.deployment, OpenAIDeployment
                ):
                    each.change(plan, each.threads)
                    group.create_task(each.retire(each.surplus(), leaving))
        self.sets = {name: each for name, each in self.sets.items() if name in wanted}

    async def _replace(
        self,
        there: ReplicaSet,
        plan: DeploymentPlan,
        threads: int,
        leaving: Leaving,
        group: asyncio.TaskGroup,
    ) -> str | None:
        """One by one; None if all went well, or why all is as it was."""
        old_plan, old_threads = there.plan, there.threads
        old = list(there.members.values())
        old_count = len(old)
        there.plan, there.threads = plan, threads
        fresh: list[Member] = []
        for endpoint in seats(plan):
            member = there.add_one(endpoint)
            fresh.append(member)
            member.start(group)
            why = await _why_not_ready(member, plan)
            if why is not None:
                await there.retire([fresh.pop()], leaving)
                there.plan, there.threads = old_plan, old_threads
                for endpoint in seats(old_plan)[len(old) : old_count]:
                    await _start([there.add_one(endpoint)], group)
                    await there.retire([fresh.pop()], leaving)
                await there.retire(fresh, leaving)
                return why
            if old:
                await there.retire([old.pop()], leaving)
        await there.retire(old, leaving)
        return None

    def _new_set(self, plan: DeploymentPlan, threads: int) -> ReplicaSet:
        indexes = self._indexes.setdefault(plan.name, count())
        self.sets[plan.name] = made = ReplicaSet(plan, threads, self._maker, indexes)
        return made


async def _start(members: Sequence[Member], group: asyncio.TaskGroup) -> None:
    """Start them together; returns when each is ready, or has failed once, or TURN_S are over."""
    for member in members:
        member.start(group)
    try:
        async with asyncio.timeout(TURN_S):
            for member in members:
                await member.keeper.had_turn.wait()
    except TimeoutError:
        return


async def _why_not_ready(member: Member, plan: DeploymentPlan) -> str | None:
    """None once it is ready; endpoints of others are only waited for until somebody asked them."""
    limit_s = TURN_S
    if not isinstance(plan.deployment, OpenAIDeployment):
        limit_s = plan.deployment.start_timeout_s
    try:
        async with asyncio.timeout(limit_s):
            await member.keeper.settled.wait()
    except TimeoutError:
        return f"{member.id} was not ready within {limit_s:g} s: {member.view.message}"
    failure = member.keeper.failure
    return None if failure is None else f"{member.id}: {failure}"
