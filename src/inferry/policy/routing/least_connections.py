"""The replica with the fewest running requests per weight; equals take turns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from inferry.policy.routing.facts import RouteFacts, Seen
from inferry.policy.routing.policy import Policy
from inferry.policy.routing.slot import Slot

STALE_MAX = 64
"""Entries beyond twice the candidates, before they are swept out."""

_Entry = tuple[float, int, int, Slot]
"""Load and turn when it was made, its number, and whose it is."""


class LeastConnections(Policy):
    """Exact, in O(log n): a heap whose entries are never above their slots' true place.

    A load that grows costs nothing until its slot comes to the top, and is put right there; one that falls gets
    a new entry, and the old one becomes stale.
    """

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._newest: dict[Slot, int] = {}
        """The number of each candidate's entry that counts."""
        self._count = 0

    def set_candidates(self, slots: Sequence[Slot]) -> None:
        self._newest = {slot: number for number, slot in enumerate(slots)}
        self._count = len(slots)
        self._sweep()

    def pick(self, exclude: Collection[str], facts: RouteFacts, now_s: float) -> Slot | None:
        heap = self._heap
        passed_over: list[_Entry] = []
        found = None
        while heap:
            load, turn, number, slot = heap[0]
            if self._newest.get(slot) != number:
                heappop(heap)
            elif slot.turn != turn or slot.load != load:
                heapreplace(heap, (slot.load, slot.turn, number, slot))
            elif slot.id in exclude:
                passed_over.append(heappop(heap))
            else:
                found = slot
                break
        for entry in passed_over:
            heappush(heap, entry)
        return found

    def on_released(self, slot: Slot, facts: RouteFacts, seen: Seen, now_s: float) -> None:
        self.on_load(slot)

    def on_load(self, slot: Slot) -> None:
        if slot not in self._newest:
            return
        self._count += 1
        self._newest[slot] = self._count
        heappush(self._heap, (slot.load, slot.turn, self._count, slot))
        if len(self._heap) > 2 * len(self._newest) + STALE_MAX:
            self._sweep()

    def why(self, slot: Slot) -> str:
        return "fewest requests for its weight"

    def _sweep(self) -> None:
        self._heap = [(slot.load, slot.turn, number, slot) for slot, number in self._newest.items()]
        heapify(self._heap)
