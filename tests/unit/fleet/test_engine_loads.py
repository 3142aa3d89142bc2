"""What gateways are told of engines' and GPUs' load: what is new, soon, and no more often than needed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from inferry.core.replica import GpuPower, ReplicaLoad, ReplicaState, ReplicaView
from inferry.engines.adapter import EngineMetrics
from inferry.fleet.engine_loads import EVERY_S, REPEAT_S, EngineLoads
from inferry.fleet.gpu_readings import GpuReadings, GpuUse
from inferry.fleet.replica_record import ReplicaRecord
from inferry.testing.manual_clock import ManualClock


def view(replica_id: str, pid: int | None = None) -> ReplicaView:
    return ReplicaView(replica_id, "chat", "simulated", True, ReplicaState.READY, None, 0.0, 0, pid=pid)


class Stand:
    """Replicas with readings, and all that was published of them."""

    def __init__(self) -> None:
        self.replicas: dict[str, tuple[ReplicaView, ReplicaLoad | None]] = {}
        self.told: list[Sequence[ReplicaLoad]] = []
        self.clock = ManualClock()
        self.loads = EngineLoads(
            lambda: list(self.replicas.values()), self.told.append, self.clock, gpus=None
        )

    def reads(self, read_s: float, running: int, replica_id: str = "chat-0", pid: int | None = None) -> None:
        self.replicas[replica_id] = (view(replica_id, pid), ReplicaLoad(replica_id, read_s, running, 0))

    def news(
        self, use: dict[int, GpuUse] | None = None, asked_s: float = 0.0
    ) -> list[tuple[str, int | None]]:
        self.told.clear()
        self.loads.tell_news(use or {}, asked_s)
        return [(load.replica_id, load.running) for told in self.told for load in told]


def test_only_what_is_new_is_told() -> None:
    """The same reading goes out once; a changed one again; nothing at all is no message."""
    stand = Stand()
    assert stand.news() == []
    stand.reads(10.0, running=1)
    stand.reads(10.0, running=5, replica_id="chat-1")
    assert stand.news() == [("chat-0", 1), ("chat-1", 5)]
    assert stand.news() == []
    stand.reads(11.0, running=2)
    assert stand.news() == [("chat-0", 2)]
    assert stand.told == [[ReplicaLoad("chat-0", 11.0, 2, 0)]]


def test_a_replica_is_told_of_at_most_once_a_second() -> None:
    """Whatever changes in between waits."""
    stand = Stand()
    stand.reads(10.0, running=1)
    stand.news()
    stand.reads(10.0 + EVERY_S / 2, running=9)
    assert stand.news() == []
    stand.reads(10.0 + EVERY_S, running=9)
    assert stand.news() == [("chat-0", 9)]


def test_the_same_figures_are_told_again_before_they_are_old() -> None:
    """A steady load stays known, though readings lose weight with age."""
    stand = Stand()
    stand.reads(10.0, running=4)
    stand.news()
    stand.reads(10.0 + REPEAT_S - 0.1, running=4)
    assert stand.news() == []
    stand.reads(10.0 + REPEAT_S, running=4)
    assert stand.news() == [("chat-0", 4)]


def test_a_replica_that_left_is_forgotten() -> None:
    """One of its name that comes later is new."""
    stand = Stand()
    stand.reads(10.0, running=4)
    stand.news()
    stand.replicas.clear()
    assert stand.news() == []
    stand.reads(10.1, running=4)
    assert stand.news() == [("chat-0", 4)]


def test_a_replica_gets_the_gpus_of_its_process_group() -> None:
    """With its engine's figures, or alone where the engine tells none; others' GPUs are not its own."""
    stand = Stand()
    stand.reads(10.0, running=1, pid=71)
    stand.replicas["chat-1"] = (view("chat-1", pid=72), None)
    stand.replicas["chat-2"] = (view("chat-2"), None)
    stand.news({71: GpuUse(0.5, 0.9), 72: GpuUse(1.0, 0.2), 99: GpuUse(1.0, 1.0)}, asked_s=12.0)
    assert stand.told == [
        [
            ReplicaLoad("chat-0", 10.0, 1, 0, gpu_use=0.5, gpu_memory_use=0.9),
            ReplicaLoad("chat-1", 12.0, gpu_use=1.0, gpu_memory_use=0.2),
        ]
    ]


def test_watts_are_for_those_who_ask() -> None:
    """What GPUs draw is told with all else to who asks, until it is old, and so are metrics that scaling rules name;
    gateways hear none of it: it is no news."""
    stand = Stand()
    stand.reads(10.0, running=1, pid=71)
    use = {71: GpuUse(0.5, 0.9, (GpuPower(0, 400.0, users=1),))}
    stand.loads.note_gpus(use, stand.clock.now_s())
    assert [load.gpus for _, load in stand.loads.readings() if load is not None] == [use[71].gpus]
    stand.news(use)
    [[told]] = stand.told
    assert (told.gpu_use, told.gpus) == (0.5, ())
    stand.replicas["chat-0"] = (view("chat-0"), ReplicaLoad("chat-0", 20.0, own={"vllm:x_total": 1.0}))
    assert [load.own for _, load in stand.loads.readings() if load is not None] == [{"vllm:x_total": 1.0}]
    stand.news()
    assert [load.own for told in stand.told for load in told] == [{}]
    stand.replicas["chat-0"] = (view("chat-0"), ReplicaLoad("chat-0", 21.0, own={"vllm:x_total": 2.0}))
    assert stand.news() == []
    stand.clock.advance(REPEAT_S + 0.1)
    assert [load.gpu_use for _, load in stand.loads.readings() if load is not None] == [None]


async def test_it_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task asks GPUs off the loop's thread, and publishes what comes."""
    monkeypatch.setattr("inferry.fleet.engine_loads.LOOK_S", 0.0)
    monkeypatch.setattr("inferry.fleet.engine_loads.EVERY_S", 0.0)
    found: asyncio.Future[Sequence[ReplicaLoad]] = asyncio.get_running_loop().create_future()
    loads = EngineLoads(
        lambda: [(view("chat-0", pid=5), None)],
        lambda told: None if found.done() else found.set_result(told),
        ManualClock(),
        FixedReadings(),
    )
    running = asyncio.create_task(loads.run())
    told = await asyncio.wait_for(found, 5.0)
    running.cancel()
    await asyncio.wait([running])
    assert [(load.gpu_use, load.gpu_memory_use) for load in told] == [(0.25, 0.75)]


class FixedReadings(GpuReadings):
    def __init__(self) -> None:
        pass

    def by_process_group(self) -> dict[int, GpuUse]:
        return {5: GpuUse(0.25, 0.75)}


def test_a_record_keeps_the_last_reading_of_its_engine_and_none_of_the_one_before() -> None:
    """What is told of a replica is what the process said that runs now."""
    clock = ManualClock()
    record = ReplicaRecord(view("chat-0"), clock, lambda view: None)
    record.count_tokens(EngineMetrics(running=3, waiting=1, kv_cache_use=0.4, prefix_hit_tokens=7), 0.0)
    expected = ReplicaLoad("chat-0", clock.now_s(), 3, 1, kv_cache_use=0.4, prefix_hit_tokens=7)
    assert record.reading == replace(expected, prefix_query_tokens=None)
    record.begin_life(0.0, has_counters=True)
    assert record.reading is None
