"""The replicas of one deployment: made, started, drained and ended one by one, each under an id of its own.

Ids are never used twice in a fleet's life (`chat-0`, `chat-1`, ...): a request may remember the replica that
failed it, and a log file is one replica's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from inferry.core.deployment_base import ManagedBase
from inferry.core.file_change import needs_new_engines
from inferry.core.replica import Endpoint, ReplicaView
from inferry.engines.adapter import RemoteAdapter
from inferry.fleet.keeper_maker import Keeper, KeeperMaker
from inferry.fleet.plan import DeploymentPlan

log = structlog.get_logger()

DRAIN_LOOK_S = 0.05
IDLE_LOOKS = 2
"""So often in a row a draining replica must be found idle: a gateway process may hear of the draining a moment
later than others, and send it a last request."""


class Member:
    """One replica: its keeper, the task that runs it, and at last the task that ends it."""

    def __init__(self, keeper: Keeper, endpoint: Endpoint | None) -> None:
        self.keeper = keeper
        self.endpoint = endpoint
        """Where it is, if others run it; None if we do."""
        self._running: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return self.keeper.record.view.id

    @property
    def view(self) -> ReplicaView:
        return self.keeper.record.view

    def start(self, group: asyncio.TaskGroup) -> None:
        self._running = group.create_task(self.keeper.run())

    async def halt(self) -> None:
        """Nobody moves its record any more; its engine goes on."""
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])

    def ending(self) -> asyncio.Task[None]:
        """The one task that ends its engine. It goes on if who asked for it is cancelled; cancel it, and the
        engine is killed at once."""
        if self._ending is None:
            self._ending = asyncio.create_task(self.keeper.end())
        return self._ending


@dataclass(frozen=True, slots=True)
class Leaving:
    """What replicas need on their way out."""

    in_flight: Callable[[str], int]
    """How many requests a replica holds."""
    on_gone: Callable[[str], None]
    drain_s: float


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
        self._maker = maker
        self._indexes = indexes

    def seats(self) -> list[Endpoint | None]:
        """One entry per replica that is wanted now: its endpoint if others run it."""
        return seats(self.plan) if self.is_loaded else []

    def add_missing(self) -> list[Member]:
        """Members for what `plan` wants and is not there, not started yet."""
        return [self._add(endpoint) for endpoint in self._missing()]

    def add_one(self, endpoint: Endpoint | None = None) -> Member:
        """One more member by `plan`, however many there are."""
        return self._add(endpoint)

    def surplus(self) -> list[Member]:
        """Members that `plan` does not want: first those that were given up, then the youngest."""
        members = list(self.members.values())
        if isinstance(self.plan.adapter, RemoteAdapter):
            wanted = set(self.plan.adapter.endpoints())
            return [member for member in members if member.endpoint not in wanted]
        members.reverse()
        members.sort(key=lambda member: member.keeper.failure is None)  # stable
        return members[: max(len(members) - len(self.seats()), 0)]

    def change(self, plan: DeploymentPlan, threads: int) -> None:
        """Hand all members the settings that can change while they run."""
        self.plan = plan
        self.threads = threads
        self.is_loaded = self.is_loaded or not plan.deployment.on_demand
        for member in self.members.values():
            member.keeper.change(plan, threads)

    async def retire(self, members: Sequence[Member], leaving: Leaving) -> None:
        """No new requests for them, wait until they hold none (or drain_s are over), end and forget them."""
        for member in members:
            await member.halt()
            member.keeper.drain()
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(self._let_go(member, leaving))

    async def _let_go(self, member: Member, leaving: Leaving) -> None:
        idle_looks = 0
        try:
            async with asyncio.timeout(leaving.drain_s):
                while idle_looks < IDLE_LOOKS:
                    await asyncio.sleep(DRAIN_LOOK_S)
                    idle_looks = 0 if leaving.in_flight(member.id) else idle_looks + 1
        except TimeoutError:
            left = leaving.in_flight(member.id)
            log.warning("drain_cut", replica=member.id, in_flight=left, drain_s=leaving.drain_s)
        await asyncio.shield(member.ending())
        del self.members[member.id]
        leaving.on_gone(member.id)

    def _missing(self) -> list[Endpoint | None]:
        wanted = self.seats()
        if isinstance(self.plan.adapter, RemoteAdapter):
            there = {member.endpoint for member in self.members.values()}
            return [endpoint for endpoint in wanted if endpoint not in there]
        return wanted[len(self.members) :]

    def _add(self, endpoint: Endpoint | None) -> Member:
        keeper = self._maker.make(self.plan, next(self._indexes), self.threads, endpoint)
        member = Member(keeper, endpoint)
        self.members[member.id] = member
        return member


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
