"""Which models are loaded, against a fleet in memory whose loads end when the test says so."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError, LifecycleRefused, UnknownReplica
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.engines.registry import adapter_for
from inferry.fleet.hand_scale import with_replicas
from inferry.fleet.memory_need import MemoryNeeds, NeedSource, check_budget
from inferry.fleet.model_swap import ModelSwap, Surroundings
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.swap_model import Use

from .fakes import until

GIB = 2**30


def plan(
    name: str,
    gib: int,
    *,
    load: str = "on_demand",
    loaded_min_s: float = 0.0,
    idle_unload_s: float | None = None,
    replicas: int = 1,
) -> DeploymentPlan:
    deployment = SimulatedDeployment.model_validate(
        {
            "engine": "simulated",
            "load": load,
            "replicas": replicas,
            "memory": gib * GIB,
            "loaded_min_s": loaded_min_s,
            "idle_unload_s": idle_unload_s,
        }
    )
    return DeploymentPlan(name, deployment, adapter_for(name, deployment))


class Town:
    """What a ModelSwap sees of the world, and what it told it."""

    def __init__(self, *plans: DeploymentPlan, budget_gib: int | None) -> None:
        self.plans: Sequence[DeploymentPlan] = plans
        self.budget = None if budget_gib is None else budget_gib * GIB
        self.states: dict[str, ReplicaState] = {}
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.together_max = 0
        self.failures: dict[str, str] = {}
        self.drained: set[str] = set()
        self.uses: dict[str, Use] = {}
        self.told: list[tuple[str, str, float | None]] = []
        self.looks = 0
        self.holds_unload = asyncio.Event()
        self.holds_unload.set()
        self.needs = MemoryNeeds()
        self.swap = ModelSwap(
            Surroundings(
                self,
                lambda: self.plans,
                lambda: self.budget,
                self.views,
                self.use,
                lambda *news: self.told.append(news),
            ),
            self.needs,
            SystemClock(),
        )

    def views(self) -> list[ReplicaView]:
        return [
            ReplicaView(
                id=f"{name}-0",
                deployment=name,
                engine="simulated",
                simulated=True,
                state=state,
                endpoint=Endpoint("127.0.0.1", 1),
                since_wall_s=0.0,
                restarts=0,
                message="reads the weights" if state is ReplicaState.STARTING else "",
                drained=name in self.drained,
            )
            for name, state in self.states.items()
        ]

    async def use(self) -> dict[str, Use]:
        await asyncio.sleep(0)
        self.looks += 1
        return self.uses

    async def looked(self) -> None:
        """Let the swap look a few times more."""
        before = self.looks
        await until(lambda: self.looks >= before + 3)

    def is_loaded(self, name: str) -> bool:
        return name in self.states and name not in self.drained

    def failure(self, name: str) -> str | None:
        return self.failures.get(name) if name in self.states else None

    async def load(self, name: str) -> bool:
        self.loads.append(name)
        self.states[name] = ReplicaState.STARTING
        self.together_max = max(self.together_max, len(self.states))
        return True

    async def unload(self, name: str, because: str) -> None:
        await self.holds_unload.wait()
        self.unloads.append(f"{name}: {because}")
        if name not in self.drained:  # those keep their places
            self.states.pop(name, None)
        self.uses.pop(name, None)

    def ready(self, name: str) -> None:
        self.states[name] = ReplicaState.READY
        self.swap.on_view(self.views()[-1])

    def phase(self, name: str) -> str:
        return self.swap.states()[name].phase.value

    def is_wanted(self, name: str) -> bool:
        return self.swap._models[name].is_wanted

    async def loaded(self, name: str) -> None:
        """Ask for it and let it come up."""
        self.swap.want(name)
        await until(lambda: name in self.states)
        self.ready(name)
        await until(lambda: self.phase(name) == "loaded")


@asynccontextmanager
async def running(town: Town) -> AsyncIterator[Town]:
    task = asyncio.create_task(town.swap.run())
    try:
        yield town
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_model_is_loaded_when_it_is_wanted() -> None:
    """Not before; from then on gateways hear how it goes until it serves."""
    async with running(Town(plan("a", 1), budget_gib=None)) as town:
        await asyncio.sleep(0.02)
        assert (town.loads, town.phase("a")) == ([], "unloaded")
        town.swap.want("a")
        await until(lambda: town.phase("a") == "loading")
        await until(lambda: "a" in town.states)
        town.swap.want("a")
        await until(lambda: ("a", "no replica serves yet (reads the weights)", None) in town.told)
        town.ready("a")
        await until(lambda: town.phase("a") == "loaded")
        town.swap.want("a")
        await asyncio.sleep(0.02)
        assert town.loads == ["a"]


async def test_one_makes_room_for_the_next_by_last_use() -> None:
    """With room for two, the third one has the least recently used one unloaded, and only then is loaded."""
    town = Town(plan("a", 4), plan("b", 4), plan("c", 4), budget_gib=8)
    async with running(town):
        await town.loaded("a")
        await town.loaded("b")
        town.uses = {"a": Use(0, 5), "b": Use(0, 0)}  # a was asked again
        await until(lambda: town.swap._models["a"].sent == 5)
        town.swap.want("c")
        await until(lambda: town.loads == ["a", "b", "c"])
        assert [line.partition(":")[0] for line in town.unloads] == ["b"]
        assert "'c' is asked for, and 4.0 GiB are needed, 0 MiB of 8.0 GiB are free" in town.unloads[0]
        assert town.together_max == 2


async def test_nobody_takes_memory_that_another_one_waits_for() -> None:
    """Models are loaded in the order in which they were asked for, however small a later one is."""
    town = Town(plan("a", 8), plan("large", 8), plan("small", 1), budget_gib=8)
    async with running(town):
        await town.loaded("a")
        town.holds_unload.clear()
        town.swap.want("large")
        await until(lambda: town.phase("a") == "unloading")
        town.swap.want("small")
        await until(lambda: any(name == "small" for name, _, _ in town.told))
        assert town.told[-1] == ("small", "'large' is before it", None)
        assert (town.loads, town.phase("small")) == (["a"], "unloaded")
        town.holds_unload.set()
        await until(lambda: len(town.loads) == 2)
        assert town.loads == ["a", "large"]
        assert town.phase("small") == "unloaded"


async def test_who_wants_nothing_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the clients have left, gateways say nothing more, and the model is not loaded after all."""
    monkeypatch.setattr("inferry.fleet.model_swap.WANTED_FOR_S", 0.05)
    monkeypatch.setattr("inferry.fleet.model_swap.TICK_S", 0.02)
    town = Town(plan("a", 8), plan("b", 8), budget_gib=8)
    async with running(town):
        await town.loaded("a")
        town.holds_unload.clear()
        town.swap.want("b")
        await until(lambda: town.phase("a") == "unloading")
        await until(lambda: not town.is_wanted("b"))
        town.holds_unload.set()
        await until(lambda: town.phase("a") == "unloaded")
        await asyncio.sleep(0.05)
        assert town.loads == ["a"]


async def test_who_asked_by_hand_and_left_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as one who asked is there, the model is wanted; when the last one has left, nobody gets it."""
    monkeypatch.setattr("inferry.fleet.model_swap.TICK_S", 0.02)
    town = Town(plan("a", 8), plan("b", 8), budget_gib=8)
    async with running(town):
        await town.loaded("a")
        monkeypatch.setattr("inferry.fleet.model_swap.WANTED_FOR_S", 0.0)
        town.holds_unload.clear()
        first, last = (asyncio.create_task(town.swap.load("b")) for _ in range(2))
        await until(lambda: town.phase("a") == "unloading")
        first.cancel()
        await town.looked()
        assert town.is_wanted("b")
        last.cancel()
        await town.looked()
        assert not town.is_wanted("b")
        town.holds_unload.set()
        await until(lambda: town.phase("a") == "unloaded")
        await town.looked()
        assert town.loads == ["a"]


async def test_what_can_never_fit_is_refused_with_words() -> None:
    """Gateways and people hear the figures, and nothing is unloaded in vain."""
    town = Town(plan("always", 5, load="at_start"), plan("a", 2), plan("b", 4), budget_gib=8)
    async with running(town):
        await town.loaded("a")
        with pytest.raises(LifecycleRefused, match=r"5.0 GiB are for what is always loaded \('always'\)"):
            await town.swap.load("b")
        town.swap.want("b")
        await until(lambda: any(name == "b" and for_s is not None for name, _, for_s in town.told))
        assert (town.unloads, town.phase("b")) == ([], "unloaded")


async def test_a_load_that_fails_says_why_and_frees_its_memory() -> None:
    """All who wait hear the engine's reason; who comes right after that hears it at once; by hand, it is tried again."""
    town = Town(plan("a", 8), budget_gib=8)
    async with running(town):
        town.swap.want("a")
        await until(lambda: "a" in town.states)
        town.failures["a"] = "a-0: it ended with exit code 1"
        town.ready("a")
        await until(lambda: town.phase("a") == "unloaded")
        assert ("a", "a-0: it ended with exit code 1", 15.0) in town.told
        town.told.clear()
        town.swap.want("a")
        await until(lambda: bool(town.told))
        assert town.told[0][:2] == ("a", "a-0: it ended with exit code 1")
        assert town.loads == ["a"]
        town.failures.clear()
        loading = asyncio.create_task(town.swap.load("a"))
        await until(lambda: town.loads == ["a", "a"])
        town.ready("a")
        await loading
        assert town.phase("a") == "loaded"


async def test_idle_models_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """After idle_unload_s without a request, counted anew from each one; never while they hold one."""
    monkeypatch.setattr("inferry.fleet.model_swap.TICK_S", 0.05)
    town = Town(plan("a", 1, idle_unload_s=1), plan("b", 1, idle_unload_s=1), budget_gib=None)
    async with running(town):
        await town.loaded("a")
        await town.loaded("b")
        town.uses = {"b": Use(held=1, sent=1)}
        await until(lambda: town.phase("a") == "unloaded")
        assert town.unloads == ["a: nobody asked for it for 1 s"]
        town.uses = {"b": Use(held=0, sent=1)}
        await until(lambda: town.phase("b") == "unloaded")


async def test_engines_that_turn_out_larger_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """When measuring shows that the first guess was too low, idle ones leave, the least recently used first."""
    monkeypatch.setattr("inferry.fleet.model_swap.TICK_S", 0.05)
    guessed = [plan("a", 4), plan("b", 4)]
    town = Town(*guessed, budget_gib=8)
    async with running(town):
        await town.loaded("a")
        await town.loaded("b")
        town.uses = {"a": Use(held=1, sent=1)}
        town.plans = [plan("a", 5), plan("b", 5)]
        await until(lambda: town.phase("b") == "unloaded")
        assert town.unloads == ["b: all engines together take more than host.memory_budget"]
        assert town.phase("a") == "loaded"


async def test_by_hand() -> None:
    """`load` returns when the model serves; `unload` when it has left, and refuses what is not there or not on
    demand, with the names that are."""
    town = Town(plan("a", 1), plan("always", 1, load="at_start"), budget_gib=None)
    async with running(town):
        loading = asyncio.create_task(town.swap.load("a"))
        await until(lambda: "a" in town.states)
        assert not loading.done()
        town.ready("a")
        await loading
        await town.swap.load("a")
        await town.swap.unload("a")
        assert town.phase("a") == "unloaded"
        with pytest.raises(LifecycleRefused, match="'a' is not loaded"):
            await town.swap.unload("a")
        with pytest.raises(LifecycleRefused, match="Of those there are: a"):
            await town.swap.load("always")
        with pytest.raises(UnknownReplica, match=r"no deployment 'alway'\. Did you mean 'always'"):
            await town.swap.load("alway")


async def test_the_file_changes_meanwhile() -> None:
    """A deployment that is always loaded from now on leaves the swap; whoever waited for it by hand is told."""
    town = Town(plan("a", 1), plan("b", 1), budget_gib=None)
    async with running(town):
        loading = asyncio.create_task(town.swap.load("a"))
        await until(lambda: "a" in town.states)
        town.plans = [plan("a", 1, load="at_start"), plan("b", 1), plan("c", 1)]
        with pytest.raises(LifecycleRefused, match="not loaded on demand any more"):
            await loading
        assert set(town.swap.states()) == {"b", "c"}


def test_needs_come_from_the_best_source_that_there_is() -> None:
    """The file's word before a measurement, a measurement before the size of the weights; of all replicas."""
    needs = MemoryNeeds()
    deployment = SimulatedDeployment(engine="simulated", replicas=2, standby=1)
    unknown = DeploymentPlan("a", deployment, adapter_for("a", deployment))
    assert needs.of(unknown).source is NeedSource.UNKNOWN
    needs.measured(unknown, 3 * GIB)
    needs.measured(unknown, 2 * GIB)
    assert (needs.of(unknown).need_bytes, needs.of(unknown).source) == (9 * GIB, NeedSource.MEASURED)
    assert needs.of(plan("a", 1)).source is NeedSource.FILE


async def test_a_fault_of_ours_at_one_model_is_no_end_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited is told, and the next model is loaded as ever."""
    town = Town(plan("a", 1), plan("b", 1), budget_gib=None)
    sound = town.load

    async def load(name: str) -> bool:
        if name == "a":
            raise RuntimeError("a bug")
        return await sound(name)

    monkeypatch.setattr(town, "load", load)
    async with running(town):
        with pytest.raises(LifecycleRefused, match="internal error"):
            await town.swap.load("a")
        await town.loaded("b")
        assert town.phase("a") == "unloaded"


async def test_no_scaling_past_the_budget() -> None:
    """Refused with the sum, the budget and the ways out: beside what is loaded, and where one that loads on demand
    could never be loaded any more. An unloaded one only has to fit beside what is always loaded."""
    town = Town(plan("always", 2, load="at_start"), plan("a", 3), plan("b", 1), budget_gib=8)
    async with running(town):
        town.swap.check_scale(plan("always", 2, load="at_start", replicas=2))
        with pytest.raises(LifecycleRefused) as refused:
            town.swap.check_scale(plan("always", 2, load="at_start", replicas=3))
        assert refused.value.message == (
            "Too much memory: 3 replica(s) of 'always' need 6.0 GiB, others 3.0 GiB ('a' 3.0 GiB). That is 9.0 GiB, "
            "and host.memory_budget is 8.0 GiB. Nothing was changed: scale to 2 at most, or raise host.memory_budget "
            "in the file."
        )
        await town.loaded("a")
        await town.loaded("b")
        with pytest.raises(LifecycleRefused, match=r"unload others first \(inferry unload a\)"):
            town.swap.check_scale(plan("always", 2, load="at_start", replicas=3))
        town.swap.check_scale(plan("b", 1, replicas=3))
        with pytest.raises(LifecycleRefused, match="scale to 3 at most"):
            town.swap.check_scale(plan("b", 1, replicas=4))
        await town.swap.unload("b")
        town.swap.check_scale(plan("b", 1, replicas=6))
        with pytest.raises(LifecycleRefused, match="scale to 6 at most"):
            town.swap.check_scale(plan("b", 1, replicas=7))


async def test_who_asks_for_a_drained_model_hears_it_at_once() -> None:
    """Loaded or not, nothing waits for it, nothing is loaded, and by hand the way out is told; brought back, it is
    asked for again without a pause."""
    town = Town(plan("a", 1), budget_gib=None)
    async with running(town):
        await town.loaded("a")
        town.drained, town.states["a"] = {"a"}, ReplicaState.STOPPED
        town.swap.want("a")
        await until(lambda: ("a", "its operator has drained it", 15.0) in town.told)
        assert not town.is_wanted("a")
        with pytest.raises(LifecycleRefused, match="until: inferry undrain a"):
            await town.swap.load("a")
        assert (
            town.swap.states()["a"].says == "drained by hand, and takes no requests until: inferry undrain a"
        )
        town.drained.clear()
        town.told.clear()
        town.swap.want("a")
        await until(lambda: bool(town.told))
        assert town.told[0][2] is None


def weighed(path: Path, gib: int) -> DeploymentPlan:
    """One of whose need nothing is known but the size of its weights."""
    path.touch()
    os.truncate(path, gib * GIB)
    deployment = SimulatedDeployment(engine="simulated")
    return DeploymentPlan("weighed", deployment, adapter_for("weighed", deployment), path)


@pytest.mark.parametrize("name", ["weighed", "other"])
async def test_what_may_be_scaled_can_be_reloaded(tmp_path: Path, name: str) -> None:
    """A reload reckons with the weights where the file says nothing. Where processes hold less, as the rest is on a
    GPU, nothing may be scaled past that: every later reload would be refused."""
    before = {"weighed": weighed(tmp_path / "model.gguf", 8), "other": plan("other", 8, load="at_start")}
    town = Town(*before.values(), budget_gib=28)
    town.needs.measured(before["weighed"], 3 * GIB)
    two, three = (with_replicas(before[name], count) for count in (2, 3))
    town.swap.check_scale(two)
    check_budget(town.budget, before | {name: two})
    with pytest.raises(ConfigError, match="too small"):
        check_budget(town.budget, before | {name: three})
    with pytest.raises(LifecycleRefused, match="scale to 2 at most"):
        town.swap.check_scale(three)


async def test_scaling_reckons_with_what_was_measured_too(tmp_path: Path) -> None:
    """Where processes hold more than the weights, that counts."""
    known = weighed(tmp_path / "model.gguf", 3)
    town = Town(known, budget_gib=10)
    town.swap.check_scale(with_replicas(known, 3))
    town.needs.measured(known, 5 * GIB)
    with pytest.raises(LifecycleRefused, match="scale to 2 at most"):
        town.swap.check_scale(with_replicas(known, 3))
