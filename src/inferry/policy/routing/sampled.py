"""Policies that compare replicas by a cost which is always moving: all of them, or a random few of very many."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from inferry.policy.routing.facts import RouteFacts
from inferry.policy.routing.policy import Policy, Rng
from inferry.policy.routing.slot import Slot

LOOKS_MAX = 16
"""Replicas that are looked at for one request.

Of so few or fewer, the cheapest is found exactly. Of more, so many are drawn: the best of d random ones is behind
the very best by little already at d = 2 (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing",
2001), and the cost of a decision does not grow with the fleet.
"""


class Sampled(Policy):
    """The candidate with the lowest `cost`; equals take turns."""

    looks_max = LOOKS_MAX

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._slots: Sequence[Slot] = ()
        self._found_cost = 0.0
        self._looked = 0

    def cost(self, slot: Slot, facts: RouteFacts, now_s: float) -> float:
        """How dear it is to send the request there; only comparisons mean something."""
        raise NotImplementedError

    def set_candidates(self, slots: Sequence[Slot]) -> None:
        self._slots = slots

    def pick(self, exclude: Collection[str], facts: RouteFacts, now_s: float) -> Slot | None:
        slots = self._slots
        if exclude:
            slots = [slot for slot in slots if slot.id not in exclude]
        if len(slots) > self.looks_max:
            slots = self._draw(slots)
        best: Slot | None = None
        best_cost = 0.0
        for slot in slots:
            cost = self.cost(slot, facts, now_s)
            if best is None or cost < best_cost or (cost == best_cost and slot.turn < best.turn):
                best, best_cost = slot, cost
        self._found_cost, self._looked = best_cost, len(slots)
        return best

    def why(self, slot: Slot) -> str:
        return f"lowest cost, {self._found_cost:.3g}, of {self._looked} looked at"

    def _draw(self, slots: Sequence[Slot]) -> Sequence[Slot]:
        """Some of them at random; one may be drawn twice, which does no harm."""
        random, count = self._rng.random, len(slots)
        return [slots[int(random() * count)] for _ in range(self.looks_max)]
