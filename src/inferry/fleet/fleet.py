"""All replicas of all deployments: started in order, kept as the file wants them, stopped together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TypeVar

import structlog

from inferry.core.clock import Clock
from inferry.core.errors import ConfigError
from inferry.core.replica import ReplicaLoad, ReplicaProgress, ReplicaView
from inferry.fleet.gateway_side import GatewaySide
from inferry.fleet.hand_scale import HandScales
from inferry.fleet.keeper_maker import KeeperMaker
from inferry.fleet.leaving import Leaving
from inferry.fleet.lifecycle import Lifecycle
from inferry.fleet.loading import Loading
from inferry.fleet.lora import LiveLora
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.probe import HttpProber, Prober
from inferry.fleet.reconciler import Reconciler
from inferry.fleet.resize import Resizing
from inferry.fleet.rollout import Surroundings
from inferry.fleet.threads import cores_available
from inferry.policy.rollout import Served
from inferry.runtime.base import Runtime

__all__ = ["DeploymentPlan", "Fleet"]

log = structlog.get_logger()

T = TypeVar("T")


class Fleet:
    """Runs what `plans` say. Use it from one event loop; everything but `run`, `apply`, `stop` and `wait_settled`
    is synchronous and instant.

    `on_change` is called on that loop at each change of a replica's state, place or message, before anything
    else happens; `on_gone` when a replica has left for good by an `apply`, after its last change. They must not
    block or raise. Token counts are no changes: see `views`.
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
        on_gone: Callable[[str], None] = lambda replica_id: None,
    ) -> None:
        self._prober = HttpProber() if prober is None else prober
        self.lora = LiveLora(
            self._prober, lambda: [each.plan for each in self._reconciler.sets.values()], self.views
        )
        maker = KeeperMaker(
            runtime,
            self._prober,
            clock,
            rng,
            on_change,
            environ,
            lambda *why: self._gateway.hand_over(*why),
            self.lora.before_ready,
        )
        self._reconciler = Reconciler(plans, maker, cores_available() if cores is None else cores)
        self._clock = clock
        self._gateway = GatewaySide(on_gone)
        self._scales = HandScales(plans)
        self._say: Callable[[str], None] = lambda line: None
        self.lifecycle = Lifecycle(self._reconciler, self._scales, self._do)
        """What people ask for by hand."""
        self.loading = Loading(self._reconciler, self._scales, self._do)
        self.resizing = Resizing(self._reconciler, self._scales, self.lifecycle, self._do, self._begin)
        """What deployments' own scaling asks for."""
        self._group: asyncio.TaskGroup | None = None
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[object]] = set()
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    def set_in_flight(self, lookup: Callable[[str], int]) -> None:
        """How many requests a replica holds, at all gateways together: what a draining one is waited for."""
        self._gateway.in_flight = lookup

    def set_hand_over(self, hand_over: Callable[[str, str], None]) -> None:
        """(replica, because): have its requests go on at other replicas, where that can be."""
        self._gateway.hand_over = hand_over

    def set_served(self, lookup: Callable[[str], Served]) -> None:
        """What a replica was asked and how often it failed: what a canary is judged by."""
        self._gateway.served = lookup

    def set_say(self, say: Callable[[str], None]) -> None:
        """Where the steps of rollouts are told, one line each; must not block or raise."""
        self._say = say

    async def run(self) -> None:
        """Start everything and keep it running; returns when `stop` is done.

        If it is cancelled instead, engines are left running for `stop` (which still works) or for the
        runtime's `close`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                starting = group.create_task(self._start_in_order(group))
                await self._stopping.wait()
                starting.cancel()
                await self._stopped.wait()
        finally:
            self._group = None
            await self._prober.close()

    async def apply(self, plans: Sequence[DeploymentPlan], drain_s: float = 30.0) -> dict[str, str]:
        """Run what `plans` say from now on, without dropping a request: see fleet/reconciler.py.

        Returns when all that must leave has left (fleet/leaving.py), replacements are ready, and additional
        replicas have had their turn to start (`wait_settled` waits for the rest). The result names the
        deployments that run as before, because new replicas were no good, and why.

        Several calls are done one after the other, and after the first start. A call that is cancelled is done
        all the same. Raises ConfigError when the fleet does not run, or is stopped meanwhile.
        """

        async def work(around: Surroundings) -> dict[str, str]:
            async with self._changing:
                self._require_running()
                kept = await self._reconciler.reconcile(plans, around, self._scales.over)
                self._scales.settle(plans, kept)
                return kept

        return await self._do(work, drain_s)

    async def stop(self) -> None:
        """Publish `draining` for all replicas, then end all engines, each within its grace. Idempotent."""
        if self._stopping.is_set():
            await self._stopped.wait()
            return
        self._stopping.set()
        for change in self._changes:
            change.cancel()
        if self._changes:
            await asyncio.wait(self._changes)
        members = self._reconciler.members()
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(member.halt())
        for member in members:
            member.keeper.drain()
        try:
            async with asyncio.TaskGroup() as group:
                for member in reversed(members):
                    group.create_task(_ended(member.ending()))
        finally:
            self._stopped.set()

    def views(self) -> list[ReplicaView]:
        """All replicas as they are now, in the file's order."""
        return [member.view for member in self._reconciler.members()]

    def readings(self) -> list[tuple[ReplicaView, ReplicaLoad | None]]:
        """All replicas, each with what its engine told of its load last."""
        return [(member.view, member.keeper.record.reading) for member in self._reconciler.members()]

    def note_progress(self, source: str, replicas: Mapping[str, ReplicaProgress]) -> None:
        """What the gateway process `source` sees of the replicas at which it has requests."""
        for member in self._reconciler.members():
            member.keeper.note_progress(source, replicas.get(member.id))

    def report_failure(self, replica_id: str, reason: str) -> None:
        """A connection to this replica failed: have it probed at once, instead of at the next interval."""
        there = self._reconciler.sets.get(replica_id.rpartition("-")[0])
        member = None if there is None else there.members.get(replica_id)
        if member is not None:
            member.keeper.report_failure(reason)

    async def wait_settled(self) -> None:
        """Returns when each replica that we run is ready or has been given up, or when the fleet is stopped."""
        for member in self._reconciler.members():
            await member.keeper.settled.wait()

    def scaled(self, plans: Sequence[DeploymentPlan]) -> list[DeploymentPlan]:
        """What a file wants, with the numbers of replicas by hand where they hold."""
        return [self._scales.over(plan) for plan in plans]

    def failures(self) -> list[str]:
        """One message for each replica that stays down: `chat-0: the engine ...`, with its last log lines."""
        return [
            f"{member.id}: {member.keeper.failure}"
            for member in self._reconciler.members()
            if member.keeper.failure is not None
        ]

    async def _start_in_order(self, group: asyncio.TaskGroup) -> None:
        async with self._changing:
            await self._reconciler.start(group)

    async def _do(self, work: Callable[[Surroundings], Coroutine[None, None, T]], drain_s: float) -> T:
        """Run it to its end, even if the caller leaves. Raises ConfigError when the fleet does not run, or is
        stopped meanwhile."""
        change = self._begun(work, drain_s)
        await asyncio.wait([change])
        if change.cancelled():
            raise ConfigError("Inferry is shutting down; the change was not completed.")
        return change.result()

    def _begin(self, work: Callable[[Surroundings], Coroutine[None, None, None]], drain_s: float) -> None:
        """Run it to its end, which nobody waits for; a fault of ours in it is logged."""

        def tell(change: asyncio.Task[None]) -> None:
            if not change.cancelled() and (error := change.exception()) is not None:
                log.error("change_broke", exc_info=error)

        self._begun(work, drain_s).add_done_callback(tell)

    def _begun(
        self, work: Callable[[Surroundings], Coroutine[None, None, T]], drain_s: float
    ) -> asyncio.Task[T]:
        group = self._require_running()
        around = Surroundings(Leaving(self._gateway, drain_s), group, self._clock, self._say)
        change = asyncio.create_task(work(around))
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)
        return change

    def _require_running(self) -> asyncio.TaskGroup:
        if self._group is None or self._stopping.is_set():
            raise ConfigError("Inferry is not running, or shutting down; nothing was changed.")
        return self._group


async def _ended(ending: asyncio.Task[None]) -> None:
    await ending
