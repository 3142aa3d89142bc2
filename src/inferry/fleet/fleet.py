"""All replicas of all deployments: started in order, kept as the file wants them, stopped together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

from inferry.core.clock import Clock
from inferry.core.deployment import OpenAIDeployment
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.engines.adapter import LaunchableAdapter, RemoteAdapter
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.probe import HttpProber, Prober
from inferry.fleet.remote_keeper import RemoteKeeper
from inferry.fleet.replica_keeper import ReplicaKeeper
from inferry.fleet.replica_record import ReplicaRecord
from inferry.fleet.threads import cores_available, share_threads
from inferry.runtime.base import Runtime

__all__ = ["DeploymentPlan", "Fleet"]

TURN_S = 60.0
"""Deployments start one after the other, so that each sees the memory that the ones before have left; but
no longer than this does one that hangs hold up the next."""

Keeper = ReplicaKeeper | RemoteKeeper


class Fleet:
    """Runs what `plans` say. Use it from one event loop; everything but `run`, `stop` and `wait_settled` is
    synchronous and instant.

    `on_change` is called on that loop at each change of a replica's state, place or message, before anything
    else happens; it must not block or raise. It is not called for token counts: see `views`.
    """

    def __init__(
        self,
        plans: Sequence[DeploymentPlan],
        runtime: Runtime,
        clock: Clock,
        rng: random.Random,
        on_change: Callable[[ReplicaView], None],
        environ: Mapping[str, str],
        *,
        prober: Prober | None = None,
        cores: int | None = None,
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._environ = environ
        self._prober = HttpProber() if prober is None else prober
        threads = share_threads(plans, cores_available() if cores is None else cores)
        self._deployments: list[list[Keeper]] = [self._keepers(plan, threads[plan.name]) for plan in plans]
        self._keeper_by_id = {
            keeper.record.view.id: keeper for keepers in self._deployments for keeper in keepers
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Start everything and keep it running; returns when `stop` is done.

        If it is cancelled instead, engines are left running for `stop` (which still works) or for the
        runtime's `close`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                starting = group.create_task(self._start_in_order(group))
                await self._stopping.wait()
                starting.cancel()
                await self._stopped.wait()
        finally:
            await self._prober.close()

    async def stop(self) -> None:
        """Publish `draining` for all replicas, then end all engines, each within its grace. Idempotent."""
        if self._stopping.is_set():
            await self._stopped.wait()
            return
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        keepers = list(self._keeper_by_id.values())
        for keeper in keepers:
            keeper.drain()
        try:
            async with asyncio.TaskGroup() as group:
                for keeper in reversed(keepers):
                    group.create_task(keeper.end())
        finally:
            self._stopped.set()

    def views(self) -> list[ReplicaView]:
        """All replicas as they are now, in the file's order."""
        return [keeper.record.view for keeper in self._keeper_by_id.values()]

    def report_failure(self, replica_id: str, reason: str) -> None:
        """A connection to this replica failed: have it probed at once, instead of at the next interval."""
        keeper = self._keeper_by_id.get(replica_id)
        if keeper is not None:
            keeper.report_failure(reason)

    async def wait_settled(self) -> None:
        """Returns when each replica that we run is ready or has been given up, or when the fleet is stopped."""
        for keeper in self._keeper_by_id.values():
            await keeper.settled.wait()

    def failures(self) -> list[str]:
        """One message for each replica that stays down: `chat-0: the engine ...`, with its last log lines."""
        return [
            f"{replica_id}: {keeper.failure}"
            for replica_id, keeper in self._keeper_by_id.items()
            if keeper.failure is not None
        ]

    async def _start_in_order(self, group: asyncio.TaskGroup) -> None:
        for keepers in self._deployments:
            for keeper in keepers:
                self._tasks.append(group.create_task(keeper.run()))
            try:
                async with asyncio.timeout(TURN_S):
                    for keeper in keepers:
                        await keeper.had_turn.wait()
            except TimeoutError:
                continue

    def _keepers(self, plan: DeploymentPlan, threads: int) -> list[Keeper]:
        deployment, adapter = plan.deployment, plan.adapter
        if isinstance(deployment, OpenAIDeployment):
            assert isinstance(adapter, RemoteAdapter)
            return [
                RemoteKeeper(
                    self._record(plan, index),
                    adapter,
                    endpoint,
                    deployment.health,
                    self._prober,
                    self._clock,
                )
                for index, endpoint in enumerate(adapter.endpoints())
            ]
        assert isinstance(adapter, LaunchableAdapter)
        return [
            ReplicaKeeper(
                self._record(plan, index),
                deployment,
                adapter,
                plan.model_path,
                threads,
                self._runtime,
                self._prober,
                self._clock,
                self._rng,
                self._environ,
            )
            for index in range(deployment.replicas)
        ]

    def _record(self, plan: DeploymentPlan, index: int) -> ReplicaRecord:
        view = ReplicaView(
            id=f"{plan.name}-{index}",
            deployment=plan.name,
            engine=plan.adapter.engine,
            simulated=plan.adapter.simulated,
            state=ReplicaState.PENDING,
            endpoint=None,
            since_wall_s=self._clock.wall_s(),
            restarts=0,
        )
        return ReplicaRecord(view, self._clock, self._on_change)
