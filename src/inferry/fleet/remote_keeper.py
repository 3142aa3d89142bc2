"""Keeps an eye on one replica that someone else runs: nothing to start, nothing to stop, never given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from inferry.core.clock import Clock
from inferry.core.health_settings import Health
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import Endpoint, ReplicaProgress, ReplicaState
from inferry.engines.adapter import RemoteAdapter
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.probe import Prober
from inferry.fleet.replica_care import ReplicaCare
from inferry.fleet.replica_record import ReplicaRecord

log = structlog.get_logger()


def weight_of(plan: DeploymentPlan, endpoint: Endpoint) -> float:
    """As the file has it; 1 for an endpoint that is on its way out of the file, and where nothing can be said."""
    deployment = plan.deployment
    if not isinstance(deployment, OpenAIDeployment):
        return 1.0
    assert isinstance(plan.adapter, RemoteAdapter)
    for url, each in zip(deployment.endpoints, plan.adapter.endpoints(), strict=True):
        if each == endpoint:
            return deployment.weights.get(url, 1.0)
    return 1.0


class RemoteKeeper:
    """As ReplicaKeeper, for an endpoint."""

    failure: str | None = None

    def __init__(
        self,
        record: ReplicaRecord,
        adapter: RemoteAdapter,
        endpoint: Endpoint,
        health: Health,
        prober: Prober,
        clock: Clock,
        hand_over: Callable[[str, str], None],
    ) -> None:
        self.record = record
        self.had_turn = asyncio.Event()
        self.had_turn.set()  # whether it answers is not ours to wait for
        self._endpoint = endpoint
        self._health = health
        self._care = ReplicaCare(
            record, adapter, endpoint, health, prober, clock, process=None, hand_over=hand_over
        )
        self.settled = self._care.probed

    def change(self, plan: DeploymentPlan, threads: int) -> None:
        """Settings of a new file, for the same endpoint."""
        assert isinstance(plan.adapter, RemoteAdapter)
        self._health = plan.deployment.health
        self.record.weigh(weight_of(plan, self._endpoint))
        self._care.change(plan.deployment.health, plan.adapter)

    def report_failure(self, reason: str) -> None:
        self._care.report_failure(reason)

    def note_progress(self, source: str, seen: ReplicaProgress | None) -> None:
        self._care.note_progress(source, seen)

    async def run(self) -> None:
        """Until cancelled."""
        self.record.place(self._endpoint, None, None)
        try:
            self.record.move(ReplicaState.STARTING)
            await self._care.until_ready(poll_max_s=self._health.interval_s)
            await self._care.stay()
        except Exception as error:
            log.exception("replica_keeper_broke", replica=self.record.view.id)
            self.record.move(ReplicaState.FAILED, f"internal error, please report it: {error!r}")

    def drain(self) -> None:
        state = self.record.state
        if state is ReplicaState.PENDING:
            self.record.move(ReplicaState.STOPPED)
        elif state not in (ReplicaState.STOPPED, ReplicaState.FAILED, ReplicaState.DRAINING):
            self.record.move(ReplicaState.DRAINING)

    async def end(self) -> None:
        self.settled.set()
        if self.record.state is ReplicaState.DRAINING:
            self.record.move(ReplicaState.STOPPED)
