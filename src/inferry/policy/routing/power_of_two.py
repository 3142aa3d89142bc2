"""Two replicas at random, and of these the one with fewer running requests per weight.

Mitzenmacher 2001: the fullest of n replicas is then about log log n above the mean, where one random choice gives
log n / log log n; and gateways that can't see each other's requests don't all run to the same replica.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferry.policy.routing.facts import RouteFacts
from inferry.policy.routing.sampled import Sampled
from inferry.policy.routing.slot import Slot


class PowerOfTwo(Sampled):
    looks_max = 2

    def cost(self, slot: Slot, facts: RouteFacts, now_s: float) -> float:
        return slot.load

    def why(self, slot: Slot) -> str:
        return f"fewer requests for its weight of {self._looked} drawn"

    def _draw(self, slots: Sequence[Slot]) -> Sequence[Slot]:
        """Two different ones: the same one twice would be a choice of one."""
        count = len(slots)
        first = int(self._rng.random() * count)
        second = int(self._rng.random() * (count - 1))
        return slots[first], slots[second + (second >= first)]
