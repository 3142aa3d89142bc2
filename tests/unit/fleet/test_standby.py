"""Standby replicas: warm, unasked, and there in the moment in which another one is missed."""

from __future__ import annotations

import asyncio

from inferry.core.deployment_base import Restart
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.replica import ReplicaState
from inferry.engines.registry import adapter_for
from inferry.fleet.plan import DeploymentPlan

from .fakes import LOADING, FakeProber, FakeRuntime, until
from .test_fleet import House, running


def with_standby(replicas: int = 2, standby: int = 1, crashes_max: int = 5) -> SimulatedDeployment:
    return SimulatedDeployment(
        engine="simulated",
        replicas=replicas,
        standby=standby,
        restart=Restart(backoff_initial_s=0.01, crashes_max=crashes_max),
        start_timeout_s=5,
    )


def house_with(deployment: SimulatedDeployment, prober: FakeProber | None = None) -> House:
    return House({"chat": deployment}, FakeRuntime(), prober or FakeProber())


def on_standby(house: House) -> list[str]:
    return [view.id for view in house.fleet.views() if view.standby]


async def test_a_standby_is_started_and_warm_but_does_not_serve() -> None:
    """It becomes ready with the others, and is marked for the gateway."""
    house = house_with(with_standby())
    async with running(house):
        await house.fleet.wait_settled()
        assert [view.state for view in house.fleet.views()] == [ReplicaState.READY] * 3
        assert on_standby(house) == ["chat-2"]


async def test_it_serves_before_the_gateway_hears_anything_else() -> None:
    """When a replica's engine ends, the standby's promotion is the next thing that is published, no start is waited
    for; and the engine that is started again stands by."""
    prober = FakeProber()
    house = house_with(with_standby(), prober)
    async with running(house):
        await house.fleet.wait_settled()
        seen = len(house.changes.views)
        prober.default = LOADING  # nothing that starts from here on becomes ready
        house.runtime.latest("chat-0").end(-9)
        await until(lambda: len(house.changes.views) > seen)
        news = [(view.id, view.state, view.standby) for view in house.changes.views[seen : seen + 2]]
        assert news == [
            ("chat-0", ReplicaState.FAILED, False),
            ("chat-2", ReplicaState.READY, False),
        ]
        assert on_standby(house) == ["chat-0"]
        prober.default = FakeProber().default
        await until(lambda: house.state("chat-0") == "ready")
        assert on_standby(house) == ["chat-0"]
        assert house.view("chat-0").restarts == 1


async def test_a_drained_replica_is_replaced_at_once_too() -> None:
    """And when it comes back, it is the one that stands by."""
    house = house_with(with_standby())
    async with running(house):
        await house.fleet.wait_settled()
        await house.fleet.lifecycle.drain("chat-1", 0.0)
        assert house.state("chat-1") == "stopped"
        assert on_standby(house) == []
        await house.fleet.lifecycle.undrain("chat-1")
        await house.fleet.wait_settled()
        assert on_standby(house) == ["chat-3"]


async def test_one_that_stays_down_leaves_the_others_serving() -> None:
    """The last standby takes its place, and nobody stands by from then on."""
    house = house_with(with_standby(replicas=1, crashes_max=1))
    async with running(house):
        await house.fleet.wait_settled()
        house.runtime.latest("chat-0").end(1)
        await until(lambda: house.state("chat-0") == "failed")
        assert [view.id for view in house.fleet.views() if not view.standby] == ["chat-1"]


async def test_the_file_may_ask_for_more_or_fewer() -> None:
    """While everything runs: more are started, and without any all serve or leave."""
    house = house_with(with_standby(replicas=1, standby=0))

    def plan(standby: int) -> DeploymentPlan:
        deployment = with_standby(replicas=1, standby=standby)
        return DeploymentPlan("chat", deployment, adapter_for("chat", deployment))

    async with running(house):
        await house.fleet.wait_settled()
        assert on_standby(house) == []
        await house.fleet.apply([plan(1)], 0.0)
        assert on_standby(house) == ["chat-1"]
        await house.fleet.apply([plan(0)], 0.0)
        assert [view.id for view in house.fleet.views()] == ["chat-0"]
        assert on_standby(house) == []


async def test_a_restart_of_all_keeps_as_many_serving() -> None:
    """One by one, new ones serve beside the others; in the end as many stand by as before."""
    house = house_with(with_standby(replicas=1))
    fewest = 99

    async with running(house):
        await house.fleet.wait_settled()
        restart = asyncio.create_task(house.fleet.lifecycle.restart("chat", 0.0))
        while not restart.done():
            await asyncio.sleep(0)
            views = house.fleet.views()
            serving = [view for view in views if view.state is ReplicaState.READY and not view.standby]
            fewest = min(fewest, len(serving))
        await restart
        assert fewest >= 1
        ready = [view for view in house.fleet.views() if view.state is ReplicaState.READY]
        assert len(ready) == 2
        assert len(on_standby(house)) == 1
