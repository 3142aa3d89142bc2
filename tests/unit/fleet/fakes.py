"""A runtime and a network in memory, for the fleet: what they do is set, and what was asked of them is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inferry.core.errors import StartFailed
from inferry.core.launch import LaunchOrder, LaunchSpec, Seat
from inferry.core.replica import Endpoint, ReplicaView
from inferry.engines.adapter import EngineAdapter, EngineMetrics, ProbeReading, Verdict, WarmupRequest
from inferry.fleet.probe import Unreachable, WarmUpTrouble
from inferry.runtime.base import Exit, Handle, Vitals

READY = ProbeReading(Verdict.READY, "answers")
LOADING = ProbeReading(Verdict.LOADING, "is loading the model")
GONE = Unreachable("refuses connections")


@dataclass
class FakeHandle:
    spec: LaunchSpec
    pid: int
    lines: list[str] = field(default_factory=list)
    seen: Vitals | None = None
    exit: asyncio.Future[Exit] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def replica_id(self) -> str:
        return self.spec.replica_id

    @property
    def log_path(self) -> Path:
        return Path("/logs") / f"{self.replica_id}.log"

    @property
    def endpoint(self) -> Endpoint:
        return self.spec.endpoint

    async def ended(self) -> Exit:
        return await asyncio.shield(self.exit)

    async def wait(self) -> Exit:
        return await asyncio.shield(self.exit)

    def log_tail(self) -> Sequence[str]:
        return self.lines

    def vitals(self) -> Vitals | None:
        return self.seen

    def end(self, code: int) -> None:
        if not self.exit.done():
            self.exit.set_result(Exit(code))


class FakeRuntime:
    """Processes that end when they are told to, or as `on_start` says."""

    def __init__(self) -> None:
        self.handles: list[FakeHandle] = []
        self.stops: list[tuple[str, float]] = []
        self.on_start: Callable[[FakeHandle], None] = lambda handle: None
        self.refuse: str | None = None
        self.on_stop: Callable[[FakeHandle], None] = lambda handle: None
        self._port = 9000

    async def start(self, order: LaunchOrder) -> Handle:
        self._port += 1
        spec = order.spec_at(Seat("127.0.0.1", self._port, Path("/nowhere") / order.replica_id))
        await asyncio.sleep(0)
        if self.refuse is not None:
            raise StartFailed(self.refuse)
        handle = FakeHandle(spec, 100 + len(self.handles))
        self.handles.append(handle)
        self.on_start(handle)
        return handle

    async def stop(self, handle: Handle, grace_s: float) -> Exit:
        assert isinstance(handle, FakeHandle)
        self.stops.append((handle.replica_id, grace_s))
        self.on_stop(handle)
        handle.end(-15)
        return await handle.wait()

    def kill_now(self) -> None:
        for handle in self.handles:
            handle.end(-9)

    def let_go(self) -> None:
        return None

    def running(self) -> Sequence[Handle]:
        return [handle for handle in self.handles if not handle.exit.done()]

    async def close(self) -> None:
        for handle in self.handles:
            handle.end(-9)

    def latest(self, replica_id: str) -> FakeHandle:
        return [handle for handle in self.handles if handle.replica_id == replica_id][-1]


class FakeProber:
    """Answers by port: `readings` for single ports, `default` for all others."""

    def __init__(self) -> None:
        self.default: ProbeReading | Unreachable = READY
        self.readings: dict[int, ProbeReading | Unreachable] = {}
        self.hangs = False
        self.breaks_at: int | None = None
        self.warm_up_trouble: list[str] = []
        self.tokens_generated = 0
        self.probes = 0
        self.closed = False

    async def probe(
        self, adapter: EngineAdapter, endpoint: Endpoint, timeout_s: float
    ) -> ProbeReading | Unreachable:
        self.probes += 1
        await asyncio.sleep(60 if self.hangs else 0)
        if endpoint.port == self.breaks_at:
            raise RuntimeError("a bug")
        return self.readings.get(endpoint.port, self.default)

    async def warm_up(
        self, endpoint: Endpoint, request: WarmupRequest, timeout_s: float
    ) -> WarmUpTrouble | None:
        await asyncio.sleep(0)
        return WarmUpTrouble(self.warm_up_trouble.pop(0)) if self.warm_up_trouble else None

    async def metrics(
        self, adapter: EngineAdapter, endpoint: Endpoint, timeout_s: float, own: Collection[str] = ()
    ) -> EngineMetrics | None:
        return EngineMetrics(tokens_generated=self.tokens_generated)

    async def close(self) -> None:
        self.closed = True


class Changes:
    """Every view that was published, and a way to wait for one."""

    def __init__(self) -> None:
        self.views: list[ReplicaView] = []

    def __call__(self, view: ReplicaView) -> None:
        self.views.append(view)

    def states(self, replica_id: str) -> list[str]:
        """The states in order, each once per stay."""
        states: list[str] = []
        for view in self.views:
            if view.id == replica_id and (not states or states[-1] != view.state):
                states.append(view.state.value)
        return states


async def until(fact: Callable[[], bool]) -> None:
    """Let the loop run until `fact` holds; fails after 5 s."""
    async with asyncio.timeout(5):
        while not fact():
            await asyncio.sleep(0.002)
