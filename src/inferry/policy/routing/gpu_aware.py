"""The replica whose engine and GPU have the most room, by what they said last, and by what was sent since.

    cost = (requests + waiting) * (1 + busy / 2) / (weight * (1 - full))

requests   those held from here, this one included, and those from elsewhere as the engine tells
waiting    requests that the engine has not begun: each counts twice, since it also waits for room
busy       how much of the time the GPU computed (NVML); at most half as dear again: a GPU is fully busy with one
           request as well as with fifty
full       KV cache in use; where the engine doesn't tell, GPU memory in use. At 0.9 it is ten times as dear:
           an engine whose cache runs over puts requests back and computes them again. 0.95 at most

All but the requests held from here is multiplied by trust, which halves with every `half_life_s` of the reading's
age: without fresh readings this is least_connections. Nothing here waits for a reading, and none makes a replica
unusable.
"""

from __future__ import annotations

from inferry.core.replica import ReplicaLoad
from inferry.policy.routing.facts import RouteFacts
from inferry.policy.routing.policy import Rng
from inferry.policy.routing.sampled import Sampled
from inferry.policy.routing.slot import Slot

FULL_MAX = 0.95
BUSY_SHARE = 0.5
RECKON_S = 0.25
"""How long a replica's factors hold before its reading has aged noticeably."""


class _Reckoned:
    """A reading, as far as it can still be trusted."""

    __slots__ = ("extra", "factor", "until_s")

    def __init__(self) -> None:
        self.extra = 0.0
        self.factor = 1.0
        self.until_s = 0.0


class GpuAware(Sampled):
    def __init__(self, rng: Rng, half_life_s: float) -> None:
        super().__init__(rng)
        self._half_life_s = half_life_s
        self._reckoned: dict[Slot, _Reckoned] = {}

    def cost(self, slot: Slot, facts: RouteFacts, now_s: float) -> float:
        reckoned = self._reckoned.get(slot)
        if reckoned is None or now_s >= reckoned.until_s:
            reckoned = self._reckon(slot, now_s)
        return (slot.in_flight + 1 + reckoned.extra) * reckoned.factor

    def on_load(self, slot: Slot) -> None:
        self._reckoned.pop(slot, None)

    def forget(self, slot: Slot) -> None:
        self._reckoned.pop(slot, None)

    def why(self, slot: Slot) -> str:
        reading = slot.reading
        if reading is None:
            return f"{super().why(slot)}; its engine told nothing"
        told = {
            "running": reading.running,
            "waiting": reading.waiting,
            "kv": reading.kv_cache_use,
            "gpu": reading.gpu_use,
            "memory": reading.gpu_memory_use,
        }
        return f"{super().why(slot)}; it told " + " ".join(
            f"{name}={value:g}" for name, value in told.items() if value is not None
        )

    def _reckon(self, slot: Slot, now_s: float) -> _Reckoned:
        reckoned = self._reckoned.get(slot)
        if reckoned is None:
            reckoned = self._reckoned[slot] = _Reckoned()
        reckoned.until_s = now_s + RECKON_S
        reading, trust = slot.reading, 0.0
        if reading is not None:
            trust = float(0.5 ** (max(now_s - reading.read_s, 0.0) / self._half_life_s))
            elsewhere = max((reading.running or 0) + (reading.waiting or 0) - slot.held_at_reading, 0)
            reckoned.extra = trust * (elsewhere + (reading.waiting or 0))
        full, busy = (
            (0.0, 0.0) if reading is None else (min(_full(reading), FULL_MAX), reading.gpu_use or 0.0)
        )
        reckoned.factor = (1 + trust * busy * BUSY_SHARE) / (slot.weight * (1 - trust * full))
        return reckoned


def _full(reading: ReplicaLoad) -> float:
    """0 to 1; 0 where nobody tells. (Engines with a KV cache take GPU memory for all of it at the start.)"""
    if reading.kv_cache_use is not None:
        return reading.kv_cache_use
    return reading.gpu_memory_use or 0.0
