"""The replicas of one deployment: made, started, drained and ended one by one, each under an id of its own.

Ids are never used twice in a fleet's life (`chat-0`, `chat-1`, ...): a request may remember the replica that
failed it, and a log file is one replica's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager

from inferry.core.deployment_base import ManagedBase
from inferry.core.file_change import needs_new_engines
from inferry.core.replica import Endpoint, ReplicaState
from inferry.core.server_engines import ServerBase
from inferry.engines.adapter import RemoteAdapter
from inferry.fleet.keeper_maker import KeeperMaker
from inferry.fleet.leaving import Leaving
from inferry.fleet.member import Member
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.rollout_progress import RolloutProgress
from inferry.policy.standby import Standing, decide_roles

NO_LONGER_WANTED = "the replica is no longer wanted"
LAST_CHANCE_S = 10.0
"""For requests that another model must go on with, when all time is over."""


class ReplicaSet:
    """See the module. `plan` is what its replicas run, or are on their way to."""

    def __init__(
        self, plan: DeploymentPlan, threads: int, maker: KeeperMaker, indexes: Iterator[int]
    ) -> None:
        self.plan = plan
        self.threads = threads
        self.members: dict[str, Member] = {}
        self.is_loaded = not plan.deployment.on_demand
        """Otherwise it wants no replicas now: see fleet/model_swap.py."""
        self.changing = asyncio.Lock()
        """Held by whoever adds or retires members."""
        self.doing = ""
        """What the holder does, in words for whoever is turned away."""
        self.rollout: RolloutProgress | None = None
        """The one that is under way, or the last one."""
        self._maker = maker
        self._indexes = indexes
        self._used = 0
        self._free_indexes: list[int] = []
        """Of replicas that were unloaded: see `start_ids_anew`."""

    @asynccontextmanager
    async def held(self, doing: str) -> AsyncIterator[None]:
        """Its members are added and retired by nobody else meanwhile."""
        async with self.changing:
            self.doing = doing
            yield

    def is_busy_with(self, plan: DeploymentPlan) -> bool:
        """Whether somebody changes its members now, and the end of that will be what `plan` wants."""
        mine = self.plan
        return self.changing.locked() and (mine.deployment, mine.model_path) == (
            plan.deployment,
            plan.model_path,
        )

    def seats(self) -> list[Endpoint | None]:
        """One entry per replica that is wanted now: its endpoint if others run it."""
        return seats(self.plan) if self.is_loaded else []

    def staying(self) -> list[Member]:
        """All but those that are on their way out."""
        return [member for member in self.members.values() if not member.is_leaving]

    def parked(self) -> list[Member]:
        """Those that were drained by hand."""
        return [member for member in self.members.values() if member.is_parked]

    def outdated(self, plan: DeploymentPlan) -> list[Member]:
        """Those that can't serve `plan` with the engines that they have."""
        return [
            member
            for member in self.members.values()
            if not (member.is_parked or member.is_leaving) and needs_replacing(member.plan, plan)
        ]

    def others_ready(self, member: Member) -> bool:
        """Whether another one could take requests over from it."""
        return any(other.is_ready for other in self.members.values() if other is not member)

    def add_missing(self) -> list[Member]:
        """Members for what `plan` wants and is not there, not started yet."""
        return [self._add(endpoint) for endpoint in self._missing()]

    def add_one(self, endpoint: Endpoint | None = None) -> Member:
        """One more member by `plan`, however many there are."""
        return self._add(endpoint)

    def surplus(self, order: Callable[[Sequence[Member]], Sequence[Member]] | None = None) -> list[Member]:
        """Members that `plan` does not want: first those without an engine, then the youngest, or by `order`."""
        members = self.staying()
        if isinstance(self.plan.adapter, RemoteAdapter):
            wanted = set(self.plan.adapter.endpoints())
            return [member for member in members if member.endpoint not in wanted]
        members = members[::-1] if order is None else list(order(members))
        members.sort(key=lambda member: not _has_no_engine(member))  # stable
        # Not `self.seats()`: drained ones keep their places while its model is not loaded.
        return members[: max(len(members) - len(seats(self.plan)), 0)]

    def change(self, plan: DeploymentPlan, threads: int) -> None:
        """Hand all members the settings that can change while they run."""
        self.plan = plan
        self.threads = threads
        self.is_loaded = self.is_loaded or not plan.deployment.on_demand
        for member in self.members.values():
            if member.is_parked or not needs_replacing(member.plan, plan):
                member.change(plan, threads)
        self.share_roles()

    def share_roles(self) -> None:
        """Who serves, and who stands by; asked after each change of a replica."""
        deployment = self.plan.deployment
        if not isinstance(deployment, ManagedBase):
            return
        members = self.members.values()
        if not deployment.standby and not any(member.view.standby for member in members):
            return
        roles = decide_roles(
            [Standing(member.id, _state(member), member.view.standby) for member in members],
            deployment.replicas,
            deployment.standby,
        )
        # Those that serve from now on first: nobody finds none.
        for member in sorted(members, key=lambda member: roles[member.id]):
            member.keeper.record.stand_by(roles[member.id])

    async def retire(
        self,
        members: Sequence[Member],
        leaving: Leaving,
        because: str = NO_LONGER_WANTED,
        next_plan: DeploymentPlan | None = None,
    ) -> None:
        """No new requests for them; when they hold none any more, end and forget them: see fleet/leaving.py.
        `next_plan`: what those run that could take requests over; None: the same.

        Whoever does not want to wait need not hold `changing` meanwhile: from the first moment on, they are no part of
        what is wanted. Those that leave already leave only once.
        """
        for member in members:
            member.is_leaving = True

        async def go(member: Member) -> None:
            await self._empty(member, leaving, because, next_plan)
            if self.members.pop(member.id, None) is not None:
                leaving.gateway.on_gone(member.id)

        await self._each(members, go)

    async def park(self, members: Sequence[Member], leaving: Leaving, because: str, message: str) -> None:
        """The same, but they keep their places, in state `stopped` with this message."""

        async def go(member: Member) -> None:
            await self._empty(member, leaving, because, None)
            if member.view.state is ReplicaState.FAILED:
                member.keeper.record.move(ReplicaState.STOPPED)
            member.keeper.record.say(message)

        for member in members:
            member.is_parked = True
            member.keeper.record.take_out()
        await self._each(members, go)

    def forget_parked(self, members: Sequence[Member], leaving: Leaving) -> None:
        """Their places are free again."""
        for member in members:
            assert member.is_parked
            del self.members[member.id]
            leaving.gateway.on_gone(member.id)

    async def _each(
        self, members: Sequence[Member], go: Callable[[Member], Coroutine[None, None, None]]
    ) -> None:
        for member in members:
            await member.halt()
            member.keeper.drain()
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(go(member))

    async def _empty(
        self, member: Member, leaving: Leaving, because: str, next_plan: DeploymentPlan | None
    ) -> None:
        drain_max_s = self.plan.deployment.drain_max_s
        if next_plan is not None and not same_model(member.plan, next_plan):
            # An answer that one model began is not for another one to end: only if it would break off otherwise.
            leaving = leaving.with_drain(max(drain_max_s, leaving.drain_s))
            drain_max_s += LAST_CHANCE_S
        await leaving.until_idle(
            member.id,
            others_ready=lambda: self.others_ready(member),
            drain_max_s=drain_max_s,
            because=because,
        )
        await asyncio.shield(member.ending())

    def start_ids_anew(self) -> None:
        """All replicas but drained ones have left, and nobody remembers them: the next ones are called the same.
        Models that come and go many times a day would leave metrics and logs of thousands of replicas behind."""
        assert all(member.is_parked for member in self.members.values())
        kept = {int(replica_id.rpartition("-")[2]) for replica_id in self.members}
        self._free_indexes = [index for index in range(self._used) if index not in kept]

    def _missing(self) -> list[Endpoint | None]:
        wanted = self.seats()
        if isinstance(self.plan.adapter, RemoteAdapter):
            there = {member.endpoint for member in self.staying()}
            return [endpoint for endpoint in wanted if endpoint not in there]
        return wanted[len(self.staying()) :]

    def _add(self, endpoint: Endpoint | None) -> Member:
        index = self._free_indexes.pop(0) if self._free_indexes else next(self._indexes)
        self._used = max(self._used, index + 1)
        gpu_seat = self._free_gpu_seat()
        keeper = self._maker.make(self.plan, index, self.threads, endpoint, gpu_seat)
        member = Member(keeper, self.plan, endpoint, gpu_seat)
        self.members[member.id] = member
        keeper.record.after_move = self.share_roles
        self.share_roles()
        return member

    def _free_gpu_seat(self) -> int:
        """One that no member has; else that of the fewest, and there of the oldest, which a rollout replaces first."""
        deployment = self.plan.deployment
        count = deployment.gpu_seats if isinstance(deployment, ServerBase) else 1
        held = [member.gpu_seat for member in self.members.values()]
        return min(range(count), key=lambda seat: (held.count(seat), held.index(seat) if seat in held else 0))


def seats(plan: DeploymentPlan) -> list[Endpoint | None]:
    """One entry per replica that `plan` wants: its endpoint if others run it."""
    if isinstance(plan.adapter, RemoteAdapter):
        return list(plan.adapter.endpoints())
    assert isinstance(plan.deployment, ManagedBase)
    return [None] * (plan.deployment.replicas + plan.deployment.standby)


def needs_replacing(old: DeploymentPlan, new: DeploymentPlan) -> bool:
    """Whether replicas of `old` must be replaced to serve `new`. Of endpoints, only those that differ are."""
    if isinstance(old.adapter, RemoteAdapter) and isinstance(new.adapter, RemoteAdapter):
        return False
    return needs_new_engines(old.deployment, new.deployment) or old.model_path != new.model_path


def same_model(old: DeploymentPlan, new: DeploymentPlan) -> bool:
    """Whether answers that one began may be ended by the other."""
    return old.model_path == new.model_path and old.deployment.model == new.deployment.model


def _state(member: Member) -> ReplicaState:
    """One that leaves does so from the moment when that is decided."""
    return ReplicaState.DRAINING if member.is_leaving else member.view.state


def _has_no_engine(member: Member) -> bool:
    return member.is_parked or member.keeper.failure is not None
