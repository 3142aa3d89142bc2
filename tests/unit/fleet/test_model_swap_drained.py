"""Models on demand that are drained by hand, with the fleet that runs them. In memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from inferry.core.clock import SystemClock
from inferry.core.errors import LifecycleRefused
from inferry.fleet.memory_need import MemoryNeeds
from inferry.fleet.model_swap import ModelSwap, Surroundings
from inferry.fleet.swap_model import Use

from .fakes import LOADING, READY, until
from .test_fleet_changes import House, chat, plans, running

GIB = 2**30


class Town:
    """`slow` and `b`, of which only one has room at a time."""

    def __init__(self, replicas: int = 1) -> None:
        deployment = chat(replicas).model_copy(
            update={"load": "on_demand", "memory": 6 * GIB // replicas, "loaded_min_s": 0.0}
        )
        both = {"slow": deployment, "b": deployment}
        self.house = House(**both)
        self.swap = ModelSwap(
            Surroundings(
                loader=self.house.fleet.loading,
                plans=lambda: self.house.fleet.scaled(plans(dict(both))),
                budget_bytes=lambda: 8 * GIB,
                views=self.house.fleet.views,
                use=self.use,
                tell=lambda name, says, for_s: None,
            ),
            MemoryNeeds(),
            SystemClock(),
        )

    async def use(self) -> dict[str, Use]:
        return {}

    def phases(self) -> dict[str, str]:
        return {name: state.phase.value for name, state in self.swap.states().items()}

    async def drain(self, target: str) -> None:
        await self.house.fleet.lifecycle.drain(target, 5)

    async def load(self, name: str) -> None:
        async with asyncio.timeout(5):
            await self.swap.load(name)


@asynccontextmanager
async def swapping(town: Town, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    monkeypatch.setattr("inferry.fleet.model_swap.TICK_S", 0.02)
    async with running(town.house):
        task = asyncio.create_task(town.swap.run())
        try:
            yield town
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_a_model_that_is_drained_while_it_loads_frees_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever waits for it is told; `unload` is no error, whether it has left already or not; the next one is
    loaded; and the drain itself stays."""
    async with swapping(Town(), monkeypatch) as town:
        town.house.prober.default = LOADING
        loading = asyncio.create_task(town.load("slow"))
        await until(lambda: town.house.states() == {"slow-0": "starting"})
        await town.drain("slow")
        with pytest.raises(LifecycleRefused, match="until: inferry undrain slow"):
            await loading
        for _ in range(2):
            assert await town.swap.unload("slow") == "It stays drained until: inferry undrain slow"
            assert town.phases()["slow"] == "unloaded"
        town.house.prober.default = READY
        await town.load("b")
        assert town.house.states() == {"slow-0": "stopped", "b-0": "ready"}
        with pytest.raises(LifecycleRefused, match="until: inferry undrain slow"):
            await town.load("slow")


async def test_a_loaded_model_that_is_drained_frees_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `unload`, when its last replica is drained, and not before its engines are gone; brought back, it
    starts no engine until it is asked for: others may have its memory."""
    async with swapping(Town(replicas=2), monkeypatch) as town:
        await town.load("slow")
        await until(lambda: town.house.states() == {"slow-0": "ready", "slow-1": "ready"})
        await town.drain("slow-0")
        town.house.in_flight["slow-1"] = 1
        draining = asyncio.create_task(town.drain("slow-1"))
        await until(lambda: town.phases()["slow"] == "unloading")
        loading = asyncio.create_task(town.load("b"))
        await until(lambda: town.swap.states()["b"].says == "'slow' is being unloaded")
        town.house.in_flight.clear()
        await draining
        await loading
        assert town.phases() == {"slow": "unloaded", "b": "loaded"}
        done = await town.house.fleet.lifecycle.undrain("slow")
        assert done.message == "'slow' is drained no more: the next request loads it, or 'inferry load'."
        await town.load("slow")
        assert town.phases() == {"slow": "loaded", "b": "unloaded"}


async def test_one_drained_replica_of_two_is_no_reason_to_unload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one serves on."""
    async with swapping(Town(replicas=2), monkeypatch) as town:
        await town.load("slow")
        await town.drain("slow-0")
        await asyncio.sleep(0.1)
        assert town.phases()["slow"] == "loaded"
        assert town.house.states()["slow-0"] == "stopped"
        assert await town.swap.unload("slow") == "The next request loads it again, or 'inferry load'."
