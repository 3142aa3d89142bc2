"""One replica among others: what keeps it, what it runs, and the tasks that it lives in."""

from __future__ import annotations

import asyncio

from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.fleet.keeper_maker import Keeper
from inferry.fleet.plan import DeploymentPlan


class Member:
    """One replica: its keeper, the task that runs it, and at last the task that ends it."""

    def __init__(
        self, keeper: Keeper, plan: DeploymentPlan, endpoint: Endpoint | None, gpu_seat: int = 0
    ) -> None:
        self.keeper = keeper
        self.plan = plan
        """What it runs: while a deployment is replaced, some run the old plan and some the new one."""
        self.endpoint = endpoint
        """Where it is, if others run it; None if we do."""
        self.gpu_seat = gpu_seat
        """Which GPUs of its deployment's are its own; it keeps them through restarts."""
        self.is_parked = False
        """Drained by hand: it keeps its place, and is not replaced, until somebody says so."""
        self.is_leaving = False
        """On its way out for good: it has no place any more, and is nobody's to drain or replace."""
        self._running: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return self.keeper.record.view.id

    @property
    def view(self) -> ReplicaView:
        return self.keeper.record.view

    @property
    def is_ready(self) -> bool:
        return self.view.state is ReplicaState.READY

    def start(self, group: asyncio.TaskGroup) -> None:
        """Have it kept from now on; nothing if it is already, or was."""
        if self._running is None:
            self._running = group.create_task(self.keeper.run())

    def change(self, plan: DeploymentPlan, threads: int) -> None:
        """Settings that can change while it runs."""
        self.plan = plan
        self.keeper.change(plan, threads)

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
