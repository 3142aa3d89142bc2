"""Makes the keeper that fits a deployment: of a replica that we run, or of one that others run."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from inferry.core.clock import Clock
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.engines.adapter import RemoteAdapter
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.probe import Prober
from inferry.fleet.remote_keeper import RemoteKeeper, weight_of
from inferry.fleet.replica_keeper import ReplicaKeeper
from inferry.fleet.replica_record import ReplicaRecord
from inferry.runtime.base import Runtime

Keeper = ReplicaKeeper | RemoteKeeper


async def _nothing(view: ReplicaView, endpoint: Endpoint) -> None:
    return None


@dataclass(frozen=True, slots=True)
class KeeperMaker:
    """What all keepers of a fleet have in common."""

    runtime: Runtime
    prober: Prober
    clock: Clock
    rng: random.Random
    on_change: Callable[[ReplicaView], None]
    environ: Mapping[str, str]
    hand_over: Callable[[str, str], None] = lambda replica_id, because: None
    before_ready: Callable[[ReplicaView, Endpoint], Awaitable[None]] = _nothing

    def make(
        self, plan: DeploymentPlan, index: int, threads: int, endpoint: Endpoint | None, gpu_seat: int = 0
    ) -> Keeper:
        """A keeper that has not begun. `endpoint` is one of a remote adapter's; None for engines of ours."""
        deployment, adapter = plan.deployment, plan.adapter
        record = self._record(plan, index)
        if isinstance(adapter, RemoteAdapter):
            assert endpoint is not None
            record.weigh(weight_of(plan, endpoint))
            return RemoteKeeper(
                record, adapter, endpoint, deployment.health, self.prober, self.clock, self.hand_over
            )
        assert not isinstance(deployment, OpenAIDeployment)
        return ReplicaKeeper(
            record,
            deployment,
            adapter,
            plan.model_path,
            threads,
            self.runtime,
            self.prober,
            self.clock,
            self.rng,
            self.environ,
            self.hand_over,
            self.before_ready,
            gpu_seat,
        )

    def _record(self, plan: DeploymentPlan, index: int) -> ReplicaRecord:
        view = ReplicaView(
            id=f"{plan.name}-{index}",
            deployment=plan.name,
            engine=plan.adapter.engine,
            simulated=plan.adapter.simulated,
            state=ReplicaState.PENDING,
            endpoint=None,
            since_wall_s=self.clock.wall_s(),
            restarts=0,
        )
        return ReplicaRecord(view, self.clock, self.on_change)
