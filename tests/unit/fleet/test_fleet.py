"""The fleet's states and decisions, against a runtime and a network in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from inferry.core.clock import SystemClock
from inferry.core.deployment import Deployment
from inferry.core.deployment_base import Restart
from inferry.core.health_settings import Health
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.engines.registry import adapter_for
from inferry.fleet.fleet import DeploymentPlan, Fleet

from .fakes import GONE, LOADING, READY, Changes, FakeHandle, FakeProber, FakeRuntime, until

FAST = Health(interval_s=0.1, timeout_s=0.1, failures_max=2)
SLOW = Health(interval_s=300)


def managed(
    replicas: int = 1, health: Health = FAST, start_timeout_s: float = 5, crashes_max: int = 3
) -> SimulatedDeployment:
    return SimulatedDeployment(
        engine="simulated",
        replicas=replicas,
        health=health,
        restart=Restart(backoff_initial_s=0.01, crashes_max=crashes_max),
        start_timeout_s=start_timeout_s,
        stop_grace_s=7,
    )


class House:
    """A fleet and its fake surroundings."""

    def __init__(self, deployments: dict[str, Deployment], runtime: FakeRuntime, prober: FakeProber) -> None:
        self.runtime = runtime
        self.prober = prober
        self.changes = Changes()
        plans = [DeploymentPlan(name, one, adapter_for(name, one)) for name, one in deployments.items()]
        self.fleet = Fleet(
            plans, runtime, SystemClock(), random.Random(1), self.changes, {}, prober=prober, cores=2
        )

    def view(self, replica_id: str) -> ReplicaView:
        return next(view for view in self.fleet.views() if view.id == replica_id)

    def state(self, replica_id: str) -> str:
        return self.view(replica_id).state.value


@asynccontextmanager
async def running(house: House) -> AsyncIterator[House]:
    async with asyncio.TaskGroup() as group:
        group.create_task(house.fleet.run())
        try:
            yield house
        finally:
            await house.fleet.stop()
    assert house.prober.closed
    assert house.runtime.running() == []


def house_of(
    runtime: FakeRuntime | None = None, prober: FakeProber | None = None, **deployments: Deployment
) -> House:
    return House(deployments, runtime or FakeRuntime(), prober or FakeProber())


async def test_from_pending_to_stopped() -> None:
    """A replica goes through every state of a normal life in order, and its place is known from the start on."""
    house = house_of(chat=managed())
    assert house.state("chat-0") == "pending"
    async with running(house):
        await house.fleet.wait_settled()
        view = house.view("chat-0")
        assert (view.state, view.pid, view.simulated) == (ReplicaState.READY, 100, True)
        assert view.endpoint is not None
        assert view.endpoint.port == 9001
        assert view.log_path == "/logs/chat-0.log"
        assert house.fleet.failures() == []
    assert house.changes.states("chat-0") == ["starting", "warming", "ready", "draining", "stopped"]
    assert house.runtime.stops == [("chat-0", 7.0)]


async def test_loading_and_warm_up_are_waited_for() -> None:
    """It is not ready while it loads or while the warm-up fails, and the message says what it waits for."""
    prober = FakeProber()
    prober.default = LOADING
    prober.warm_up_trouble = ["answers 500"]
    house = house_of(prober=prober, chat=managed())
    async with running(house):
        await until(lambda: house.view("chat-0").message == "is loading the model")
        assert house.state("chat-0") == "starting"
        prober.default = READY
        await until(lambda: house.view("chat-0").message == "warm-up: answers 500")
        await house.fleet.wait_settled()
        assert house.state("chat-0") == "ready"


async def test_an_engine_that_ends_is_started_again() -> None:
    """A ready replica whose process ends leaves ready at once, comes back on another port, and counts it."""
    house = house_of(chat=managed(replicas=2, health=SLOW))
    async with running(house):
        await house.fleet.wait_settled()
        first = house.runtime.latest("chat-0")
        first.end(-9)
        for _ in range(10):
            await asyncio.sleep(0)
        assert house.state("chat-0") == "pending"
        assert "SIGKILL" in house.view("chat-0").message
        assert "starts again" in house.view("chat-0").message
        assert house.view("chat-0").endpoint is None
        await until(lambda: house.state("chat-0") == "ready")
        again = house.view("chat-0")
        assert again.restarts == 1
        assert again.pid != first.pid
        assert again.endpoint is not None
        assert again.endpoint.port != first.spec.endpoint.port
        assert again.endpoint.headers != first.spec.endpoint.headers
        assert house.view("chat-1").restarts == 0
    assert house.changes.states("chat-0")[:6] == [
        "starting",
        "warming",
        "ready",
        "failed",
        "pending",
        "starting",
    ]


async def test_a_crash_loop_stays_down() -> None:
    """After as many crashes as the file allows, a replica stays failed, and the message holds its last words."""
    house = house_of(chat=managed(crashes_max=3))

    def on_start(handle: FakeHandle) -> None:
        handle.lines[:] = [f"line {number}" for number in range(20)]

    house.runtime.on_start = on_start
    async with running(house):
        await house.fleet.wait_settled()
        for crash in range(3):
            await until(lambda: house.state("chat-0") == "ready")
            house.runtime.latest("chat-0").end(139)
            await until(lambda: house.state("chat-0") != "ready")
            assert house.view("chat-0").restarts == crash
        await until(lambda: house.fleet.failures() != [])
        view = house.view("chat-0")
        assert view.state is ReplicaState.FAILED
        assert view.endpoint is None
        assert "crash loop: it ended 3 times" in view.message
        assert "/logs/chat-0.log" in view.message
        assert "line 19" in view.message
        assert "line 10" in view.message
        assert "line 9\n" not in view.message
        assert view.restarts == 2
    assert house.state("chat-0") == "failed"


async def test_an_engine_that_never_gets_ready_is_given_up() -> None:
    """Three attempts, then it settles as failed; the replica beside it is not disturbed."""
    house = house_of(bad=managed(), good=managed())

    def on_start(handle: FakeHandle) -> None:
        if handle.replica_id == "bad-0":
            handle.lines.append("out of memory")
            handle.end(1)

    house.runtime.on_start = on_start
    async with running(house):
        await house.fleet.wait_settled()
        assert (house.state("bad-0"), house.state("good-0")) == ("failed", "ready")
        (failure,) = house.fleet.failures()
        assert failure.startswith("bad-0: the engine exited with code 1; it ended 3 times")
        assert "out of memory" in failure
        assert house.view("bad-0").restarts == 2


async def test_an_end_that_would_repeat_is_not_repeated() -> None:
    """An exit that the adapter calls final is given up after one attempt."""
    house = house_of(chat=managed())
    house.runtime.on_start = lambda handle: handle.end(2)
    async with running(house):
        await house.fleet.wait_settled()
        assert house.state("chat-0") == "failed"
        assert len(house.runtime.handles) == 1


async def test_a_program_that_cant_run_fails_with_its_reason() -> None:
    """A refused start is final, and its message is the runtime's."""
    house = house_of(chat=managed())
    house.runtime.refuse = "can't run /x: Permission denied"
    async with running(house):
        await house.fleet.wait_settled()
        assert house.fleet.failures() == ["chat-0: can't run /x: Permission denied"]


async def test_a_start_that_takes_too_long_is_ended() -> None:
    """A process that never answers is stopped after start_timeout_s, and that counts as a crash."""
    prober = FakeProber()
    prober.default = GONE
    house = house_of(prober=prober, chat=managed(start_timeout_s=0.05))
    async with running(house):
        await house.fleet.wait_settled()
        assert [name for name, _ in house.runtime.stops] == ["chat-0"] * 3
        (failure,) = house.fleet.failures()
        assert "not ready within 0.05 s: does not listen yet" in failure


async def test_failed_probes_make_it_suspect_and_good_ones_bring_it_back() -> None:
    """A replica whose probes fail becomes suspect with the reason, keeps its process, and returns."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed())
    async with running(house):
        await house.fleet.wait_settled()
        prober.default = GONE
        await until(lambda: house.state("chat-0") == "suspect")
        assert house.view("chat-0").message == "2 failed probes in a row: refuses connections"
        prober.default = READY
        await until(lambda: house.state("chat-0") == "ready")
        assert len(house.runtime.handles) == 1
        assert house.view("chat-0").message == "2 good probes in a row"


async def test_a_report_leads_to_a_probe_at_once() -> None:
    """A failed request makes a dead replica suspect without waiting for the interval; a live one stays ready."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed(replicas=2, health=SLOW))
    async with running(house):
        await house.fleet.wait_settled()
        probes = prober.probes
        house.fleet.report_failure("chat-0", "connection reset")
        await until(lambda: prober.probes > probes)
        prober.readings[9002] = GONE
        house.fleet.report_failure("chat-1", "connection reset")
        await until(lambda: house.state("chat-1") == "suspect")
        assert "connection reset" in house.view("chat-1").message
        assert house.state("chat-0") == "ready"
        house.fleet.report_failure("no-such-replica", "ignored")


async def test_a_thousand_reports_are_a_few_probes() -> None:
    """A replica that answers its probe but fails requests isn't probed once per request."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed(health=SLOW))
    async with running(house):
        await house.fleet.wait_settled()
        before = prober.probes
        for _ in range(100):
            house.fleet.report_failure("chat-0", "cut")
            await asyncio.sleep(0.002)
        assert 1 <= prober.probes - before <= 5


async def test_tokens_are_counted_without_publishing() -> None:
    """The engine's counter is in the view, but a new count alone is no change."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed())
    async with running(house):
        await house.fleet.wait_settled()
        published = len(house.changes.views)
        prober.tokens_generated = 42
        await until(lambda: house.view("chat-0").tokens_generated == 42)
        assert len(house.changes.views) == published


async def test_each_life_counts_from_its_own_start() -> None:
    """A crash publishes what the engine had last counted; the next process begins at 0, with its own start."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed())
    async with running(house):
        await house.fleet.wait_settled()
        prober.tokens_generated = 42
        await until(lambda: house.view("chat-0").tokens_generated == 42)
        prober.tokens_generated = 0
        house.runtime.latest("chat-0").end(-9)
        await until(lambda: house.view("chat-0").restarts == 1)
    first, *_ = (view for view in house.changes.views if view.state is ReplicaState.FAILED)
    begun = [view for view in house.changes.views if view.state is ReplicaState.STARTING]
    assert first.tokens_generated == 42
    assert [view.tokens_generated for view in begun] == [0, 0]
    assert begun[0].started_wall_s == first.started_wall_s
    assert (begun[1].started_wall_s or 0.0) > (first.started_wall_s or 0.0)


async def test_counters_are_read_once_more_before_an_engine_is_stopped() -> None:
    """What it did since the last probe is in its last view."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed(health=Health(interval_s=60)))
    async with running(house):
        await house.fleet.wait_settled()
        prober.tokens_generated = 42
    assert house.view("chat-0").tokens_generated == 42


async def test_draining_is_published_for_all_before_anything_is_stopped() -> None:
    """The gateway hears that all replicas are leaving before the first process gets its signal."""
    house = house_of(a=managed(replicas=2), b=managed())
    seen: list[Sequence[str]] = []
    house.runtime.on_stop = lambda handle: seen.append([view.state.value for view in house.fleet.views()])
    async with running(house):
        await house.fleet.wait_settled()
    assert seen[0] == ["draining"] * 3
    assert [view.state.value for view in house.fleet.views()] == ["stopped"] * 3


async def test_stop_in_the_middle_of_everything() -> None:
    """Replicas that start, hang in a probe, wait for a restart, or were never started all end as stopped."""
    prober = FakeProber()
    prober.hangs = True
    house = house_of(prober=prober, hangs=managed(replicas=2), later=managed())
    async with running(house):
        await until(lambda: len(house.runtime.handles) == 2)
        house.runtime.latest("hangs-1").end(1)
        await until(lambda: house.view("hangs-1").state is ReplicaState.PENDING)
        assert house.state("later-0") == "pending"
        await house.fleet.stop()
        assert [view.state.value for view in house.fleet.views()] == ["stopped"] * 3
        await house.fleet.wait_settled()


async def test_deployments_start_in_the_files_order() -> None:
    """The second deployment is started when the first is ready; replicas of one start together."""
    prober = FakeProber()
    prober.default = LOADING
    house = house_of(prober=prober, first=managed(replicas=2), second=managed())
    async with running(house):
        await until(lambda: len(house.runtime.handles) == 2)
        await asyncio.sleep(0.1)
        assert [handle.replica_id for handle in house.runtime.handles] == ["first-0", "first-1"]
        prober.default = READY
        await house.fleet.wait_settled()
        assert house.state("second-0") == "ready"


async def test_remote_replicas_are_never_given_up() -> None:
    """An endpoint of others stays starting while nobody answers, is ready when someone does, and suspect when
    not; it has no process, and nobody waits for it."""
    prober = FakeProber()
    prober.default = GONE
    outside = OpenAIDeployment(
        engine="openai", model="m", endpoints=["http://h:1/v1", "http://h:2/v1"], health=FAST
    )
    house = house_of(prober=prober, outside=outside)
    async with running(house):
        await house.fleet.wait_settled()
        await until(lambda: house.view("outside-0").message == "refuses connections")
        assert house.state("outside-0") == "starting"
        prober.readings[2] = READY
        await until(lambda: house.state("outside-1") == "ready")
        assert house.state("outside-0") == "starting"
        del prober.readings[2]
        await until(lambda: house.state("outside-1") == "suspect")
        assert house.view("outside-1").pid is None
        assert house.fleet.failures() == []
    assert house.runtime.handles == []


async def test_a_bug_in_one_keeper_stays_there() -> None:
    """An exception that nobody foresaw costs one replica its engine and a restart, and no other anything."""
    prober = FakeProber()
    prober.breaks_at = 9001
    house = house_of(prober=prober, chat=managed(replicas=2))
    async with running(house):
        await house.fleet.wait_settled()
        await until(lambda: house.state("chat-0") == house.state("chat-1") == "ready")
        said = [
            seen.message for seen in house.changes.views if seen.id == "chat-0" and seen.state == "failed"
        ]
        assert len(said) == 1
        assert "internal error" in said[0]
        assert [house.view(name).restarts for name in ("chat-0", "chat-1")] == [1, 0]
        assert sorted(handle.replica_id for handle in house.runtime.running()) == ["chat-0", "chat-1"]


async def test_a_cancelled_run_can_still_be_stopped() -> None:
    """If whoever runs the fleet is cancelled first, `stop` ends the engines all the same."""
    house = house_of(chat=managed())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(house.fleet.run())
        await house.fleet.wait_settled()
        task.cancel()
        await asyncio.wait([task])
        assert len(house.runtime.running()) == 1
        await house.fleet.stop()
    assert house.runtime.running() == []
    assert house.state("chat-0") == "stopped"
