"""Puts together, in the control process, what scales deployments: the fleet's side, the gateways' numbers, and who
decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from fastapi import APIRouter
from prometheus_client import Metric

from inferry.admin.scaling_api import make_scaling_router
from inferry.cli.leadership import Leadership
from inferry.cli.scaling_capacity import PlannedCapacities
from inferry.cli.serving import Serving
from inferry.core.clock import Clock
from inferry.core.replica import ReplicaLoad, ReplicaView
from inferry.core.scaling_settings import Scaling
from inferry.fleet.fleet import Fleet
from inferry.fleet.launch_notes import Foresight
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.scaler import Scaler, ScalerSurroundings
from inferry.fleet.scaler_budget import gpus_per_replica
from inferry.fleet.scaling_journal import ScalingJournal
from inferry.gateway.demand_seen import traffic_of
from inferry.gateway.scaling_families import scaling_families
from inferry.gateway.workers import GatewayWorkers
from inferry.policy.scaling.autoscaler import FileAutoscaler
from inferry.policy.scaling.observation import Traffic
from inferry.policy.scaling.slo import SloSizer


class Autoscaling:
    """Deployments with `scaling`. Everything but `run` is instant."""

    def __init__(
        self,
        fleet: Fleet,
        gateways: GatewayWorkers,
        serving: Callable[[], Serving],
        readings: Callable[[], Iterable[tuple[ReplicaView, ReplicaLoad | None]]],
        clock: Clock,
        folder: Path,
        leadership: Leadership | None,
        foresee: Callable[[DeploymentPlan], Foresight | None],
    ) -> None:
        """`serving`: what is in force now. `readings`: all replicas, with what they told. `folder`: of this run, where
        what happens is kept. `leadership`: None where no other process decides for this fleet. `foresee`: what
        the planner says of a deployment; blocks."""
        self._fleet = fleet
        self._gateways = gateways
        self._serving = serving
        self._folder = folder
        self._clock = clock
        self._run = f"{clock.wall_s():.3f}"
        """Tells this life of Inferry from others in the same folder."""
        self._leadership = leadership
        self._journal = ScalingJournal(folder, self._run)
        self._held: Mapping[str, int] = {}
        self._capacities = PlannedCapacities(
            lambda: serving().plans, self._last_traffic, foresee, lambda name: self.scaler.begin_anew(name)
        )
        self.scaler = Scaler(
            ScalerSurroundings(
                plans=lambda: serving().plans,
                replicas=readings,
                traffic=self._traffic,
                held=lambda replica_id: self._held.get(replica_id, 0),
                wanted=fleet.resizing.wanted,
                by_hand=fleet.lifecycle.scaled_by_hand,
                resize=fleet.resizing.resize,
                host=lambda: serving().config.host,
                drain_s=lambda: serving().config.gateway.drain_s,
                make=self._make,
                leader=(lambda: "") if leadership is None else leadership.leader,
                on_event=self._journal.append,
            ),
            clock,
        )

    def families(self) -> Iterable[Metric]:
        """For Prometheus."""
        return scaling_families(self.scaler.states(), self._journal.decisions)

    def make_router(self) -> APIRouter:
        """For the control API."""
        return make_scaling_router(
            self.scaler,
            self._fleet.lifecycle.auto,
            lambda: self._serving().config.deployments,
            journal_folder=self._folder,
            run=self._run,
            clock=self._clock,
        )

    async def run(self, store_is_open: asyncio.Event) -> None:
        """Until cancelled. `store_is_open`: its tables are there; waited for only where a leader is found there."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.scaler.run())
            group.create_task(self._capacities.run())
            if self._leadership is not None:
                await store_is_open.wait()
                group.create_task(self._leadership.run())

    async def close(self) -> None:
        """Another process may decide from now on."""
        if self._leadership is not None:
            await self._leadership.resign()

    async def _traffic(self) -> Mapping[str, Traffic | None]:
        snapshot = await self._gateways.snapshot()
        self._held = snapshot.in_flight
        replicas: dict[str, set[str]] = {}
        for view in self._fleet.views():
            replicas.setdefault(view.deployment, set()).add(view.id)
        return {name: traffic_of(snapshot, name, ids) for name, ids in replicas.items()}

    def _make(self, plan: DeploymentPlan, scaling: Scaling) -> FileAutoscaler:
        slo = None if scaling.slo is None else SloSizer(scaling, self._capacities.of(plan, scaling))
        return FileAutoscaler(scaling, gpus_per_replica=gpus_per_replica(plan), slo=slo)

    def _last_traffic(self, name: str) -> Traffic | None:
        state = self.scaler.explain(name)
        return None if state is None or state.seen is None else state.seen.traffic
