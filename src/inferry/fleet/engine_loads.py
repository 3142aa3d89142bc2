"""Tells gateways what engines and GPUs say of their load: soon after they were asked, and only what is new.

Those who watch a run get all of it when they ask, with what the GPUs draw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from inferry.core.clock import Clock
from inferry.core.replica import ReplicaLoad, ReplicaView
from inferry.fleet.gpu_readings import GpuReadings, GpuUse

LOOK_S = 0.2
"""Gateways compare a reading with what they hold when they hear of it: late, it would say little of others."""
EVERY_S = 0.9
"""Of one replica, no more often: engines are asked once a second, sometimes a little early."""
REPEAT_S = 3.0
"""The same figures, read again, are told again after so long: told once only, they would lose their weight."""

_NO_GPUS: Mapping[int, GpuUse] = {}
_NOTHING_OWN: Mapping[str, float] = {}


class EngineLoads:
    """One task, `run`. Engines are asked by those that look after replicas; GPUs are asked here."""

    def __init__(
        self,
        replicas: Callable[[], Iterable[tuple[ReplicaView, ReplicaLoad | None]]],
        publish: Callable[[Sequence[ReplicaLoad]], None],
        clock: Clock,
        gpus: GpuReadings | None,
    ) -> None:
        """`replicas`: all of them, each with what its engine told last. `gpus`: None where nobody can be asked."""
        self._replicas = replicas
        self._publish = publish
        self._clock = clock
        self._gpus = gpus
        self._told: dict[str, ReplicaLoad] = {}
        self._use = _NO_GPUS
        self._asked_s = clock.now_s()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = self._clock.now_s()
            if self._gpus is not None and now_s - self._asked_s >= EVERY_S:
                self.note_gpus(await asyncio.to_thread(self._gpus.by_process_group), now_s)
            self.tell_news(self._use, self._asked_s)

    def note_gpus(self, use: Mapping[int, GpuUse], asked_s: float) -> None:
        """What GPUs said, by process group, when they were asked."""
        self._use, self._asked_s = use, asked_s

    def readings(self) -> list[tuple[ReplicaView, ReplicaLoad | None]]:
        """All replicas, each with what its engine and its GPUs told last. GPUs that don't answer any more tell nothing."""
        is_old = self._clock.now_s() - self._asked_s > REPEAT_S
        use = _NO_GPUS if is_old else self._use
        return [(view, with_gpu(view, reading, use, self._asked_s)) for view, reading in self._replicas()]

    def tell_news(self, use: Mapping[int, GpuUse], asked_s: float) -> None:
        """Publish what was not told yet, if there is anything. `use`: by process group, as of `asked_s`."""
        news, told = [], {}
        for view, reading in self._replicas():
            load = with_gpu(view, reading, use, asked_s)
            if load is not None and (load.gpus or load.own):
                # Watts and counters change with every look: told, they would make each one news.
                load = replace(load, gpus=(), own=_NOTHING_OWN)
            before = self._told.get(view.id)
            if load is not None and _is_news(before, load):
                news.append(load)
                before = load
            if before is not None:
                told[view.id] = before
        self._told = told
        if news:
            self._publish(news)


def with_gpu(
    view: ReplicaView, reading: ReplicaLoad | None, use: Mapping[int, GpuUse], asked_s: float
) -> ReplicaLoad | None:
    """`reading` with what its GPUs told; None if neither told anything."""
    gpu = None if view.pid is None else use.get(view.pid)
    if gpu is None:
        return reading
    reading = reading or ReplicaLoad(view.id, asked_s)
    return replace(reading, gpu_use=gpu.busy, gpu_memory_use=gpu.memory, gpus=gpu.gpus)


def _is_news(told: ReplicaLoad | None, load: ReplicaLoad) -> bool:
    if told is None:
        return True
    age_s = load.read_s - told.read_s
    if age_s < EVERY_S:
        return age_s < 0  # a new life
    return age_s >= REPEAT_S or replace(load, read_s=told.read_s) != told
