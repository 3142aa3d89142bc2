"""Puts together, in the control process, what loads models on demand: the fleet's side and the gateways'."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from inferry.cli.serving import Serving
from inferry.core.clock import Clock
from inferry.core.replica import ReplicaView
from inferry.fleet.fleet import Fleet
from inferry.fleet.memory_need import MemoryNeeds
from inferry.fleet.memory_watch import watch_memory
from inferry.fleet.model_swap import ModelSwap, Surroundings
from inferry.fleet.swap_model import LoadState, Use
from inferry.gateway.parked import LoadNews
from inferry.gateway.workers import GatewayWorkers
from inferry.runtime.process_memory import memory_by_group


class ModelsOnDemand:
    """Deployments with `load: on_demand`. Everything but `run`, `load` and `unload` is instant."""

    def __init__(
        self, fleet: Fleet, gateways: GatewayWorkers, serving: Callable[[], Serving], clock: Clock
    ) -> None:
        """`serving`: what is in force now."""
        self._fleet = fleet
        self._gateways = gateways
        self._serving = serving
        self._needs = MemoryNeeds()
        self._swap = ModelSwap(
            Surroundings(
                loader=fleet.loading,
                plans=lambda: fleet.scaled(serving().plans),
                budget_bytes=lambda: serving().config.host.memory_budget,
                views=fleet.views,
                use=self._use,
                tell=lambda name, says, for_s: gateways.tell(LoadNews(name, says, for_s)),
            ),
            self._needs,
            clock,
        )
        fleet.lifecycle.check_memory = self._swap.check_scale
        self.want = self._swap.want
        self.load = self._swap.load
        self.unload = self._swap.unload

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._swap.run())
            group.create_task(
                watch_memory(self._needs, lambda: self._serving().plans, self._fleet.views, memory_by_group)
            )

    def on_view(self, view: ReplicaView) -> None:
        self._swap.on_view(view)

    def states(self) -> dict[str, LoadState]:
        return self._swap.states()

    async def _use(self) -> dict[str, Use]:
        snapshot = await self._gateways.snapshot()
        held, sent = dict(snapshot.waiting), dict.fromkeys(snapshot.waiting, 0)
        for view in self._fleet.views():
            name = view.deployment
            held[name] = held.get(name, 0) + snapshot.in_flight.get(view.id, 0)
            sent[name] = sent.get(name, 0) + snapshot.sent.get(view.id, 0)
        return {name: Use(held[name], sent.get(name, 0)) for name in held}
