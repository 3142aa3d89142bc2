"""Measures now and then what ready replicas hold of the machine's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from inferry.core.replica import ReplicaState, ReplicaView
from inferry.fleet.memory_need import MemoryNeeds
from inferry.fleet.plan import DeploymentPlan

LOOK_S = 5.0


async def watch_memory(
    needs: MemoryNeeds,
    plans: Callable[[], Sequence[DeploymentPlan]],
    views: Callable[[], Sequence[ReplicaView]],
    measure: Callable[[Collection[int]], Mapping[int, int]],
    look_s: float = LOOK_S,
) -> None:
    """Tell `needs`, until cancelled. Only where deployments load on demand: nobody else asks. `measure`: bytes by
    process group; it is called in a thread."""
    while True:
        await asyncio.sleep(look_s)
        by_name = {plan.name: plan for plan in plans()}
        if not any(plan.deployment.on_demand for plan in by_name.values()):
            continue
        ready = {
            view.pid: view.deployment
            for view in views()
            if view.pid is not None and view.state is ReplicaState.READY and view.deployment in by_name
        }
        for pid, held_bytes in (await asyncio.to_thread(measure, list(ready))).items():
            needs.measured(by_name[ready[pid]], held_bytes)
