"""A running fleet is given other plans: who starts, who drains, who is put back. In memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from inferry.core.deployment import Deployment
from inferry.core.deployment_base import Restart
from inferry.core.errors import ConfigError
from inferry.core.health_settings import Health
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import ReplicaState
from inferry.core.rollout_settings import Rollout
from inferry.engines.registry import adapter_for
from inferry.fleet.fleet import DeploymentPlan, Fleet
from inferry.policy.rollout import Served
from inferry.testing.manual_clock import ManualClock

from .fakes import GONE, LOADING, Changes, FakeHandle, FakeProber, FakeRuntime, until

SLOW = Health(interval_s=300)
AT_ONCE = Rollout(settle_s=0, canary_s=0)


def chat(
    replicas: int = 1,
    parallel: int = 64,
    health: Health = SLOW,
    start_timeout_s: float = 5,
    grace_s: float = 7,
    rollout: Rollout = AT_ONCE,
    drain_max_s: float = 300,
) -> SimulatedDeployment:
    return SimulatedDeployment(
        engine="simulated",
        replicas=replicas,
        parallel=parallel,
        health=health,
        restart=Restart(backoff_initial_s=0.01, crashes_max=2),
        start_timeout_s=start_timeout_s,
        stop_grace_s=grace_s,
        rollout=rollout,
        drain_max_s=drain_max_s,
    )


def outside(*urls: str, model: str = "m") -> OpenAIDeployment:
    return OpenAIDeployment(engine="openai", model=model, endpoints=list(urls), health=SLOW)


def plans(deployments: dict[str, Deployment]) -> list[DeploymentPlan]:
    return [DeploymentPlan(name, one, adapter_for(name, one)) for name, one in deployments.items()]


class House:
    """A fleet, its fake surroundings, and a gateway that says how many requests each replica holds."""

    def __init__(self, **deployments: Deployment) -> None:
        self.runtime = FakeRuntime()
        self.prober = FakeProber()
        self.changes = Changes()
        self.gone: list[str] = []
        self.in_flight: dict[str, int] = {}
        self.served: dict[str, Served] = {}
        self.handed_over: list[str] = []
        self.fleet = Fleet(
            plans(deployments),
            self.runtime,
            ManualClock(),
            random.Random(1),
            self.changes,
            {},
            prober=self.prober,
            cores=2,
            on_gone=self.gone.append,
        )
        self.fleet.set_in_flight(lambda replica_id: self.in_flight.get(replica_id, 0))
        self.fleet.set_served(lambda replica_id: self.served.get(replica_id, Served()))
        self.fleet.set_hand_over(lambda replica_id, because: self.handed_over.append(replica_id))

    async def apply(self, drain_s: float = 5, **deployments: Deployment) -> dict[str, str]:
        return await self.fleet.apply(plans(deployments), drain_s)

    def states(self) -> dict[str, str]:
        return {view.id: view.state.value for view in self.fleet.views()}

    def parallel(self, replica_id: str) -> str:
        """The engine setting that its process was started with."""
        argv = self.runtime.latest(replica_id).spec.argv
        return argv[argv.index("--parallel") + 1]

    def ready_at_least(self) -> int:
        """The lowest number of ready replicas since all of the beginning were."""
        ready: set[str] = set()
        lowest = 1000
        settled = False
        for view in self.changes.views:
            (ready.add if view.state is ReplicaState.READY else ready.discard)(view.id)
            settled = settled or len(ready) >= 2
            if settled and view.state is not ReplicaState.STOPPED:
                lowest = min(lowest, len(ready))
        return lowest


@asynccontextmanager
async def running(house: House) -> AsyncIterator[House]:
    async with asyncio.TaskGroup() as group:
        group.create_task(house.fleet.run())
        try:
            await house.fleet.wait_settled()
            yield house
        finally:
            await house.fleet.stop()
    assert house.prober.closed
    assert house.runtime.running() == []


async def test_more_replicas() -> None:
    """Additional replicas start beside the old ones, which notice nothing."""
    async with running(House(chat=chat(1))) as house:
        assert await house.apply(chat=chat(3)) == {}
        await house.fleet.wait_settled()
        assert house.states() == {"chat-0": "ready", "chat-1": "ready", "chat-2": "ready"}
        assert house.changes.states("chat-0") == ["starting", "warming", "ready"]
        assert len(house.runtime.handles) == 3


async def test_fewer_replicas_and_no_id_twice() -> None:
    """The youngest leave, through draining to their end, and are forgotten; new ones get new ids."""
    async with running(House(chat=chat(3))) as house:
        assert await house.apply(chat=chat(1)) == {}
        assert house.states() == {"chat-0": "ready"}
        assert sorted(house.gone) == ["chat-1", "chat-2"]
        assert house.changes.states("chat-2")[-3:] == ["ready", "draining", "stopped"]
        assert sorted(house.runtime.stops) == [("chat-1", 7.0), ("chat-2", 7.0)]
        await house.apply(chat=chat(2))
        assert list(house.states()) == ["chat-0", "chat-3"]


async def test_a_replica_that_was_given_up_leaves_first() -> None:
    """Of three replicas of which the oldest stays down, scaling to two keeps the two that work."""
    house = House(chat=chat(3))

    def on_start(handle: FakeHandle) -> None:
        if handle.replica_id == "chat-0":
            handle.end(2)

    house.runtime.on_start = on_start
    async with running(house):
        assert house.states()["chat-0"] == "failed"
        await house.apply(chat=chat(2))
        assert house.states() == {"chat-1": "ready", "chat-2": "ready"}
        assert house.gone == ["chat-0"]
        assert house.fleet.failures() == []


async def test_a_leaving_replica_finishes_what_it_has() -> None:
    """It is not ended before the gateway says that it holds nothing, and gets nothing new meanwhile."""
    async with running(House(chat=chat(2))) as house:
        house.in_flight = {"chat-0": 4, "chat-1": 3}
        change = asyncio.create_task(house.apply(chat=chat(1)))
        await until(lambda: house.states()["chat-1"] == "draining")
        await asyncio.sleep(0.3)
        assert (house.runtime.stops, house.gone) == ([], [])
        house.in_flight["chat-1"] = 0
        await change
        assert (house.runtime.stops, house.gone) == ([("chat-1", 7.0)], ["chat-1"])


async def test_the_wait_for_running_requests_is_bounded() -> None:
    """After drain_max_s a replica is ended although it holds requests."""
    async with running(House(chat=chat(2))) as house:
        house.in_flight = {"chat-0": 4, "chat-1": 3}
        await house.apply(chat=chat(1, drain_max_s=0.2), drain_s=0.1)
        assert house.states() == {"chat-0": "ready"}


async def test_deployments_come_and_go() -> None:
    """A new deployment starts, one that is gone drains and ends, before the new one takes its memory."""
    async with running(House(old=chat(2), stays=chat(1))) as house:
        await house.apply(new=chat(1), stays=chat(1))
        await house.fleet.wait_settled()
        assert house.states() == {"new-0": "ready", "stays-0": "ready"}
        assert sorted(house.gone) == ["old-0", "old-1"]
        order = [f"{view.id} {view.state}" for view in house.changes.views]
        assert order.index("old-1 stopped") < order.index("new-0 starting")
        await house.apply(stays=chat(1), old=chat(1))
        assert list(house.states()) == ["stays-0", "old-2"]


async def test_engines_are_replaced_one_by_one() -> None:
    """An engine setting changes: a new replica is ready before an old one drains, so that never fewer serve."""
    async with running(House(chat=chat(2))) as house:
        assert await house.apply(chat=chat(2, parallel=8)) == {}
        assert house.states() == {"chat-2": "ready", "chat-3": "ready"}
        assert house.gone == ["chat-1", "chat-0"]
        assert (house.parallel("chat-2"), house.parallel("chat-3")) == ("8", "8")
        assert house.ready_at_least() == 2
        order = [f"{view.id} {view.state}" for view in house.changes.views]
        assert order.index("chat-2 ready") < order.index("chat-1 draining")
        assert order.index("chat-1 stopped") < order.index("chat-3 starting")


async def test_replaced_and_resized_at_once() -> None:
    """With another number of replicas in the same change there are as many as the new file says."""
    async with running(House(chat=chat(3))) as house:
        await house.apply(chat=chat(1, parallel=8))
        assert house.states() == {"chat-3": "ready"}
        await house.apply(chat=chat(3, parallel=4))
        assert house.states() == {"chat-4": "ready", "chat-5": "ready", "chat-6": "ready"}


async def test_a_new_engine_that_does_not_start_changes_nothing() -> None:
    """The old replicas never stop serving, the attempt is cleared away, and the report says why. The rest of
    the change is done. The next attempt is free to work."""
    async with running(House(chat=chat(2), other=chat(1))) as house:
        house.runtime.on_start = lambda handle: handle.end(2) if handle.spec.argv.count("8") else None
        kept = await house.apply(chat=chat(2, parallel=8), other=chat(2))
        assert list(kept) == ["chat"]
        assert kept["chat"].startswith("chat-2: ")
        await house.fleet.wait_settled()
        states = house.states()
        assert states == {"chat-0": "ready", "chat-1": "ready", "other-0": "ready", "other-1": "ready"}
        assert house.changes.states("chat-0") == ["starting", "warming", "ready"]
        assert house.gone == ["chat-2"]
        assert house.fleet.failures() == []
        house.runtime.on_start = lambda handle: None
        assert await house.apply(chat=chat(2, parallel=8), other=chat(2)) == {}
        assert list(house.states()) == ["chat-3", "chat-4", "other-0", "other-1"]


async def test_a_rollout_that_fails_in_the_middle_is_taken_back() -> None:
    """The second new replica does not come up after the first has replaced an old one: an old-style one is
    started in its place, and only then does the new one leave."""
    async with running(House(chat=chat(2))) as house:
        house.runtime.on_start = lambda handle: handle.end(2) if handle.replica_id == "chat-3" else None
        kept = await house.apply(chat=chat(2, parallel=8))
        assert kept["chat"].startswith("chat-3: ")
        assert house.states() == {"chat-0": "ready", "chat-4": "ready"}
        assert (house.parallel("chat-0"), house.parallel("chat-4")) == ("64", "64")
        assert house.ready_at_least() == 2


async def test_a_new_engine_that_hangs_is_given_up() -> None:
    """One that is not ready within start_timeout_s counts as not started."""
    async with running(House(chat=chat(1))) as house:
        house.prober.readings[9002] = LOADING
        kept = await house.apply(chat=chat(1, parallel=8, start_timeout_s=0.2))
        assert "chat-1 was not ready within 0.2 s" in kept["chat"]
        assert house.states() == {"chat-0": "ready"}


async def test_another_engine_under_the_same_name() -> None:
    """A deployment of ours becomes one of others: the endpoint is there before our replica leaves."""
    async with running(House(chat=chat(1))) as house:
        await house.apply(chat=outside("http://h:1/v1"))
        await until(lambda: house.states() == {"chat-1": "ready"})
        assert house.gone == ["chat-0"]
        await house.apply(chat=chat(1))
        assert house.states() == {"chat-2": "ready"}


async def test_endpoints_of_others_come_and_go() -> None:
    """Endpoints that stay in the list stay as they are; others are added and dropped."""
    async with running(House(far=outside("http://h:1/v1", "http://h:2/v1"))) as house:
        await house.apply(far=outside("http://h:2/v1", "http://h:3/v1", model="n"))
        assert list(house.states()) == ["far-1", "far-2"]
        assert house.gone == ["far-0"]
        assert house.changes.states("far-1") == ["starting", "warming", "ready"]


async def test_settings_change_while_engines_run() -> None:
    """Health, restart, grace: no process is touched, and the new values are in force at once."""
    async with running(House(chat=chat(1), far=outside("http://h:1/v1"))) as house:
        probes = house.prober.probes
        quick = Health(interval_s=0.1, timeout_s=0.1, failures_max=1)
        far = OpenAIDeployment(engine="openai", model="m", endpoints=["http://h:1/v1"], health=quick)
        await house.apply(chat=chat(1, health=quick, grace_s=2), far=far)
        await until(lambda: house.prober.probes >= probes + 6)
        house.prober.default = GONE
        await until(lambda: house.states() == {"chat-0": "suspect", "far-0": "suspect"})
        assert len(house.runtime.handles) == 1
    assert house.runtime.stops == [("chat-0", 2.0)]


async def test_weights_of_endpoints_change_while_they_serve() -> None:
    """They are published with the replica from its first moment on, and at once when the file has others."""
    urls = ["http://a:1/v1", "http://b:1/v1"]

    def far(**weights: float) -> OpenAIDeployment:
        named = {f"http://{host}:1/v1": weight for host, weight in weights.items()}
        return OpenAIDeployment(engine="openai", model="m", endpoints=urls, health=SLOW, weights=named)

    async with running(House(far=far(a=3))) as house:
        assert {view.weight for view in house.changes.views if view.id == "far-0"} == {3.0}
        await house.apply(far=far(b=0.5))
        latest = {view.id: view.weight for view in house.changes.views}
        assert latest == {"far-0": 1.0, "far-1": 0.5}
        assert house.gone == []


async def test_the_start_limit_of_a_starting_engine_changes() -> None:
    """An engine that is loading gets the new time from its start on."""
    house = House(chat=chat(1, start_timeout_s=1))
    house.prober.default = LOADING
    async with asyncio.TaskGroup() as group:
        group.create_task(house.fleet.run())
        await until(lambda: house.states() == {"chat-0": "starting"})
        # The first start has its turn first; apply waits for it.
        (keeper,) = (member.keeper for member in house.fleet._reconciler.members())
        keeper.change(plans({"chat": chat(1, start_timeout_s=0.1)})[0], 1)
        await until(lambda: house.runtime.stops != [])
        await house.fleet.stop()
    assert any("not ready within 0.1 s" in view.message for view in house.changes.views)


async def test_changes_wait_for_each_other() -> None:
    """Two at once are done in the order in which they came; the last one holds."""
    async with running(House(chat=chat(1))) as house:
        await asyncio.gather(house.apply(chat=chat(4)), house.apply(chat=chat(2)))
        assert list(house.states()) == ["chat-0", "chat-1"]
        assert sorted(house.gone) == ["chat-2", "chat-3"]


async def test_a_caller_that_leaves_does_not_stop_the_change() -> None:
    """Once begun, a change goes on to its end."""
    async with running(House(chat=chat(2))) as house:
        house.in_flight = {"chat-0": 4, "chat-1": 1}
        change = asyncio.create_task(house.apply(chat=chat(1)))
        await until(lambda: house.states()["chat-1"] == "draining")
        change.cancel()
        await asyncio.wait([change])
        assert (change.cancelled(), house.runtime.stops) == (True, [])
        house.in_flight.clear()
        await until(lambda: not house.fleet._changes)
        assert house.states() == {"chat-0": "ready"}
        assert (house.runtime.stops, house.gone) == ([("chat-1", 7.0)], ["chat-1"])


@pytest.mark.parametrize("drains", [True, False])
async def test_stop_in_the_middle_of_a_change(drains: bool) -> None:
    """Whether it is draining an old replica or starting a new one: all end, and the caller hears of it."""
    house = House(chat=chat(2))
    async with running(house):
        house.in_flight = {"chat-0": 1, "chat-1": 1}
        if not drains:
            house.prober.readings[9003] = LOADING
        change = asyncio.create_task(house.apply(chat=chat(2, parallel=8), drain_s=60))
        await until(lambda: len(house.runtime.handles) == 3)
        if drains:
            await until(lambda: house.states()["chat-1"] == "draining")
        later = asyncio.create_task(house.apply(chat=chat(5)))
        await asyncio.sleep(0.01)
        await house.fleet.stop()
        for task in (change, later):
            with pytest.raises(ConfigError, match="shutting down"):
                await task
        assert set(house.states().values()) == {"stopped"}
        assert house.gone == []
    with pytest.raises(ConfigError, match="nothing was changed"):
        await house.apply(chat=chat(1))


async def test_stop_while_an_engine_ends() -> None:
    """A replica that is ending already keeps its grace, and is asked only once."""
    house = House(chat=chat(2))
    asked = asyncio.Event()
    async with running(house):
        stop = house.runtime.stop

        async def slow_stop(handle: FakeHandle, grace_s: float) -> object:
            asked.set()
            await asyncio.sleep(0.2)
            return await stop(handle, grace_s)

        house.runtime.stop = slow_stop  # type: ignore[method-assign, assignment]
        change = asyncio.create_task(house.apply(chat=chat(1)))
        await asked.wait()
        await house.fleet.stop()
        with pytest.raises(ConfigError):
            await change
    assert sorted(house.runtime.stops) == [("chat-0", 7.0), ("chat-1", 7.0)]
