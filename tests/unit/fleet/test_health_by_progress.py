"""The fleet judges engines by their signs of life: frozen ones leave at once, busy ones never, stuck ones end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from inferry.core.health_settings import Health
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import Endpoint, HealthVerdict, ReplicaProgress
from inferry.engines.adapter import EngineAdapter, ProbeReading
from inferry.fleet.probe import Unreachable
from inferry.runtime.base import Vitals

from .fakes import READY, FakeHandle, FakeProber, until
from .test_fleet import House, house_of, managed, running

HEALTH = Health(
    interval_s=0.1, timeout_s=0.1, failures_max=2, hand_over_after_s=0.5, stuck_after_s=1.0, hung_after_s=5.0
)
MUTE = Unreachable("gives no answer within 0.1 s", silent=True)
TOKENS = ReplicaProgress(waiting=4, streams=4, heard_s=0.0)


class Engine:
    """What can be seen of the one process: set by the test, looked at by the fleet."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.computes = False
        self.stopped = False
        self.handle: FakeHandle | None = None

    def start(self, handle: FakeHandle) -> None:
        """A new process, which does nothing wrong."""
        self.handle, self.stopped = handle, False
        handle.vitals = self.look  # type: ignore[method-assign]

    def look(self) -> Vitals:
        if self.computes:
            self.cpu_s += 0.1
        return Vitals(self.cpu_s, self.stopped)


class Stand:
    """One deployment, its engine, and all that was handed over."""

    def __init__(self, house: House, engine: Engine) -> None:
        self.house = house
        self.engine = engine
        self.handed_over: list[tuple[str, str]] = []
        house.fleet.set_hand_over(lambda name, because: self.handed_over.append((name, because)))

    @property
    def restarts(self) -> int:
        return self.house.view("chat-0").restarts

    async def keep_telling(self, seen: ReplicaProgress, enough: Callable[[], bool]) -> None:
        """A gateway process with requests there, which says so as often as it does."""
        async with asyncio.timeout(10):
            while not enough():
                self.house.fleet.note_progress("gateway-0", {"chat-0": seen})
                await asyncio.sleep(0.05)


@asynccontextmanager
async def stand(health: Health = HEALTH) -> AsyncIterator[Stand]:
    engine = Engine()
    house = house_of(chat=managed(health=health))
    house.runtime.on_start = engine.start
    made = Stand(house, engine)
    async with running(house):
        await house.fleet.wait_settled()
        yield made


async def test_a_stopped_process_is_suspect_without_a_probe() -> None:
    """Its state in the process table is enough; it was idle, and its probes are far between."""
    async with stand(HEALTH.model_copy(update={"interval_s": 300.0, "stuck_after_s": 60.0})) as it:
        probes = it.house.prober.probes
        it.engine.stopped = True
        await until(lambda: it.house.state("chat-0") == "suspect")
        assert it.house.prober.probes == probes
        assert "stopped by a signal" in it.house.view("chat-0").message
        assert it.house.view("chat-0").verdict is HealthVerdict.STUCK


async def test_one_unanswered_probe_of_a_still_process_is_enough() -> None:
    """Whatever failures_max says of refusals."""
    async with stand(HEALTH.model_copy(update={"failures_max": 50, "stuck_after_s": 60.0})) as it:
        it.house.prober.default = MUTE
        await until(lambda: it.house.state("chat-0") == "suspect")
        assert "no sign of life" in it.house.view("chat-0").message
        it.house.prober.default = READY
        await until(lambda: it.house.state("chat-0") == "ready")
        assert it.restarts == 0


async def test_a_stuck_engine_hands_over_and_is_started_again() -> None:
    """First its requests go on elsewhere, then its process is killed, and the next one is well."""
    async with stand() as it:
        it.engine.stopped = True
        await until(lambda: it.handed_over != [])
        assert it.handed_over[0][0] == "chat-0"
        assert it.restarts == 0
        await until(lambda: it.restarts == 1 and it.house.state("chat-0") == "ready")
        assert it.house.runtime.stops[0] == ("chat-0", 0.0)
        failed = next(view for view in it.house.changes.views if view.state == "failed")
        assert "it was stuck, and is killed: a process of it is stopped" in failed.message
        assert failed.verdict is HealthVerdict.DEAD


async def test_tokens_keep_an_engine_in_that_answers_no_probe() -> None:
    """Saturated: every probe fails for three times stuck_after_s, its process looks idle, and tokens flow."""
    async with stand() as it:
        await it.keep_telling(TOKENS, lambda: it.engine.handle is not None)
        it.house.prober.default = MUTE
        ends_s = asyncio.get_running_loop().time() + 3
        await it.keep_telling(TOKENS, lambda: asyncio.get_running_loop().time() > ends_s)
        assert it.house.changes.states("chat-0") == ["starting", "warming", "ready"]
        assert it.handed_over == []


async def test_work_keeps_an_engine_in_that_answers_no_probe_and_sends_nothing() -> None:
    """A long prompt: no token and no answer for three times stuck_after_s, and the CPU in use."""
    async with stand() as it:
        it.engine.computes = True
        it.house.prober.default = MUTE
        silent = ReplicaProgress(waiting=1, streams=0, heard_s=None)
        ends_s = asyncio.get_running_loop().time() + 3
        await it.keep_telling(silent, lambda: asyncio.get_running_loop().time() > ends_s)
        assert it.house.changes.states("chat-0") == ["starting", "warming", "ready"]
        assert it.house.view("chat-0").verdict is HealthVerdict.BUSY
        assert it.handed_over == []


async def test_an_engine_that_answers_probes_and_does_no_work_is_stuck() -> None:
    """A hung core behind a healthy front: requests wait, no token comes, and the CPU is idle."""
    async with stand() as it:
        silent = ReplicaProgress(waiting=3, streams=2, heard_s=None)
        await it.keep_telling(silent, lambda: it.restarts == 1)
        assert "it has requests and does nothing" in it.handed_over[0][1]


async def test_progress_makes_a_suspect_one_ready_again_at_once() -> None:
    """A token is better than two good probes."""
    async with stand(HEALTH.model_copy(update={"stuck_after_s": 60.0})) as it:
        it.house.prober.default = MUTE
        await until(lambda: it.house.state("chat-0") == "suspect")
        await it.keep_telling(TOKENS, lambda: it.house.state("chat-0") == "ready")
        assert it.house.view("chat-0").message == "it makes progress"


async def test_an_endpoint_of_others_is_handed_over_but_never_ended() -> None:
    """Nobody can see its processes: two unanswered probes make it suspect, and it stays that."""
    prober = FakeProber()
    outside = OpenAIDeployment(engine="openai", model="m", endpoints=["http://h:1/v1"], health=HEALTH)
    house = house_of(prober=prober, outside=outside)
    handed_over: list[str] = []
    house.fleet.set_hand_over(lambda name, because: handed_over.append(name))
    async with running(house):
        await until(lambda: house.state("outside-0") == "ready")
        prober.default = MUTE
        await until(lambda: house.state("outside-0") == "suspect")
        await until(lambda: handed_over == ["outside-0"])
        await asyncio.sleep(1)
        assert house.state("outside-0") == "suspect"
        prober.default = READY
        await until(lambda: house.state("outside-0") == "ready")


async def test_an_endpoint_that_always_answers_slowly_is_well() -> None:
    """Three times what the file allows, each time: it is ready, and stays it; when it falls silent, that is seen."""
    prober = SlowProber(0.3)
    outside = OpenAIDeployment(engine="openai", model="m", endpoints=["http://h:1/v1"], health=HEALTH)
    house = house_of(prober=prober, outside=outside)
    async with running(house):
        await until(lambda: house.state("outside-0") == "ready")
        probes = prober.probes
        await until(lambda: prober.probes > probes + 4)
        assert house.changes.states("outside-0") == ["starting", "warming", "ready"]
        prober.answers_after_s = 60
        await until(lambda: house.state("outside-0") == "suspect")


class SlowProber(FakeProber):
    """Answers late, and gives up in time."""

    def __init__(self, answers_after_s: float) -> None:
        super().__init__()
        self.answers_after_s = answers_after_s

    async def probe(
        self, adapter: EngineAdapter, endpoint: Endpoint, timeout_s: float
    ) -> ProbeReading | Unreachable:
        self.probes += 1
        await asyncio.sleep(min(self.answers_after_s, timeout_s))
        return READY if self.answers_after_s <= timeout_s else MUTE
